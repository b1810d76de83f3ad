"""Files are written whole or not at all."""

import copy
import errno
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from xraylab import files, tables
from xraylab.errors import DataError, DiskError, MissingError


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json({"a": 1}, path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json({"a": float("nan")}, path)
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert files.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_folder_leaves_the_old_one_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with files.replacing_folder(path) as temporary:
        (temporary / "old").touch()
    with pytest.raises(RuntimeError, match="stop"), files.replacing_folder(path) as temporary:
        (temporary / "new").touch()
        raise RuntimeError("stop")
    assert [entry.name for entry in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_identifiers_stay_text_and_floats_come_back_exactly(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["007", "NA"], "patient": ["", "1e5"], "value": [0.1 + 0.2, 1e-17]})
    tables.write(table, tmp_path / "t.csv")
    back = tables.read(tmp_path / "t.csv")
    assert back.to_dict("list") == table.to_dict("list")


@pytest.mark.parametrize("cell", ["=1+1", "+x", "-x", "@x"])
def test_a_cell_that_a_spreadsheet_would_run_is_refused(cell: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        tables.write(pd.DataFrame({"patient": [cell]}), tmp_path / "t.csv")
    assert str(caught.value) == (
        f"t.csv: '{cell}' in column patient would run as a formula in a spreadsheet: "
        "rename it so that it does not begin with one of = + - @, or with a tab"
    )
    assert not list(tmp_path.iterdir())


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    with pytest.raises(MissingError) as caught:
        tables.read(path)
    assert str(caught.value) == f"{path} does not exist: `dvc repro` makes it"


@pytest.mark.parametrize("content", [b"", b"image,patient\na,b\nc,d,e,f\n", "image\nä\n".encode("latin-1")])
def test_a_broken_table_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        tables.read(path)
    assert str(caught.value).startswith(f"{path} cannot be read: ")


def test_broken_yaml_and_json_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("a: [1")
    for read in (files.read_yaml, files.read_json):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path} cannot be read: ")


def test_classes_named_by_digits_stay_text(tmp_path: Path) -> None:
    tables.write(pd.DataFrame({"actual": ["0", "001"], "predicted": ["1", "0"]}), tmp_path / "t.csv")
    assert tables.read(tmp_path / "t.csv")["actual"].tolist() == ["0", "001"]


def test_what_is_large_is_announced_and_needs_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.require_room(tmp_path, 2_500_000, "the cache of 9 images")
    assert capsys.readouterr().out == "the cache of 9 images takes 2 MB\n"
    with pytest.raises(
        DiskError, match=r"the cache of 9 images needs 1000000000.00 GB, and .* GB free: make room there"
    ):
        files.require_room(tmp_path, 10**18, "the cache of 9 images")


def test_a_full_disk_is_named_with_the_file_that_did_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the writer says something else, as torch's does."""
    target = tmp_path / "state.pt"
    target.write_text("as it was")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(DiskError, match=rf"^no room is left on the disk to write {target}: "), files.replacing(target):
        raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 576 vs 534")
    assert target.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [target]


def test_a_write_that_fails_names_its_file_and_other_errors_stay(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=rf"^{tmp_path / 'a'} cannot be written: Input/output error$"):  # noqa: SIM117
        with files.replacing_folder(tmp_path / "a"):
            raise OSError(errno.EIO, "Input/output error")
    with pytest.raises(FileNotFoundError, match=r"b\.png"), files.replacing(tmp_path / "a"):
        (tmp_path / "b.png").read_bytes()
    with pytest.raises(RuntimeError, match="of ours"), files.replacing(tmp_path / "a"):
        raise RuntimeError("of ours")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    files.require_writable(tmp_path / "models/baseline")
    assert list((tmp_path / "models/baseline").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match=rf"^{tmp_path / 'file' / 'models'} cannot be written \(Not a directory\)"):
        files.require_writable(tmp_path / "file/models")


@pytest.mark.parametrize("text", ["", "{", '{"a": 1', "[1,", "\x00", "nul", '{"a": ' + "9" * 5000 + "}", "[" * 100_000])
def test_a_damaged_record_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"model\.json cannot be read: "):
        files.read_json(path)


@pytest.mark.parametrize(("text", "what"), [("null", "nothing"), ("3", "a single value"), ('"x"', "a single value")])
def test_a_record_of_no_object_is_named(text: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"model\.json holds {what}: it was edited by hand"):
        files.read_json(path)


def test_a_checksum_is_of_the_file_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    assert files.checked_sha256(path) is None
    path.write_bytes(b"abc")
    assert files.checked_sha256(path) is None
    files.write_checksum(path)
    assert files.checked_sha256(path) == files.sha256(path)
    for content in (b"abd", b"ab", b""):
        path.write_bytes(content)
        assert files.checked_sha256(path) is None


def test_a_record_of_another_version_says_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text('{"classes": ["a"], "network": {"arch": "x"}}')
    record = files.read_json(path)
    assert record == {"classes": ["a"], "network": {"arch": "x"}}
    for tree in (record, record["network"], copy.deepcopy(record), pickle.loads(pickle.dumps(record))):
        assert tree.get("size") is None
        with pytest.raises(DataError, match=r"model\.json has no 'size': it was edited by hand, or another version"):
            tree["size"]
