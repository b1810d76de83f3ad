"""Paths, folders, patterns and archives give their images in order; what is hostile or damaged gives a reason."""

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import small

from xraylab.data.sources import archives
from xraylab.errors import DataError
from xraylab.predict import image_files

NAMES = ["a/img2.png", "a/img10.png", "b.JPG", "notes.txt", ".hidden.png", "a/1.2.840", "a/README", "DICOMDIR"]
FOUND = ["b.JPG", "a/1.2.840", "a/img2.png", "a/img10.png"]
DICOM = b"\0" * 128 + b"DICM" + b"content"


def content(name: str) -> bytes:
    return DICOM if name in ("a/1.2.840", "DICOMDIR") else name.encode()


def tree(folder: Path) -> Path:
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content(name))
    return folder


def zipped(path: Path, names: list[str] = NAMES) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, content(name))
    return path


def tarred(path: Path, names: list[str] = NAMES) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(content(name))
            archive.addfile(entry, io.BytesIO(content(name)))
    return path


def read(*paths: Path | str) -> dict[str, bytes | str]:
    """Id -> content, or why there is none, in order."""
    result: dict[str, bytes | str] = {}
    for file in image_files.read_all(image_files.find([str(path) for path in paths])):
        try:
            with file.open() as opened:
                result[file.id] = opened.read()
        except Exception as error:
            result[file.id] = str(error)
    return result


def test_a_folder_gives_its_images_in_natural_order_and_dicom_without_suffix(tmp_path: Path) -> None:
    folder = tree(tmp_path / "films")
    assert read(folder) == {name: content(name) for name in FOUND}
    assert list(read(folder)) == FOUND
    (one,) = image_files.find([str(folder)])
    assert one.n_files == len(FOUND)


def test_archives_give_the_same_in_the_order_of_their_members(tmp_path: Path) -> None:
    in_order = [name for name in NAMES if name in FOUND]
    for path in (zipped(tmp_path / "x.zip"), tarred(tmp_path / "x.tar"), tarred(tmp_path / "x.tar.gz")):
        assert read(path) == {name: content(name) for name in in_order}
        assert list(read(path)) == in_order
    assert [each.n_files for each in image_files.find([str(tmp_path / "x.zip"), str(tmp_path / "x.tar")])] == [4, None]


def test_several_paths_keep_their_order_and_begin_the_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "films")
    zipped(tmp_path / "x.zip", ["1.png"])
    monkeypatch.chdir(tmp_path)
    assert list(read("x.zip", "films/a", "films/notes.txt")) == [
        "x.zip/1.png", "films/a/1.2.840", "films/a/img2.png", "films/a/img10.png", "films/notes.txt",
    ]  # fmt: skip
    assert list(read("films/b.JPG")) == ["b.JPG"]


def test_a_pattern_names_what_it_matches_in_natural_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "films")
    monkeypatch.chdir(tmp_path)
    assert list(read("films/a/*")) == ["films/a/1.2.840", "films/a/img2.png", "films/a/img10.png"]
    assert list(read("films/**/*.png")) == ["films/a/img2.png", "films/a/img10.png"]
    assert list(read("film?")) == [f"films/{name}" for name in FOUND]
    with pytest.raises(DataError, match=r"^films/\*\.bmp matches no image, folder or archive$"):
        image_files.find(["films/*.bmp"])


def test_what_is_not_there_or_empty_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_bytes(b"PK no archive")
    (tmp_path / "no.tar").write_bytes(b"no archive")
    (tmp_path / "empty").mkdir()
    problems = {
        "nothing": "does not exist: name X-rays, folders of them or archives",
        "empty": "holds no images",
        "no.zip": r"is not a whole zip archive \(.*\)",
        "no.tar": r"is not a whole tar archive \(.*\)",
        zipped(tmp_path / "text.zip", ["notes.txt"]).name: "holds no images",
    }
    for name, problem in problems.items():
        with pytest.raises(DataError, match=rf"^{tmp_path / name} {problem}$"):
            image_files.find([str(tmp_path / name)])


def test_members_that_would_leave_the_archive_or_are_no_files_have_a_reason(tmp_path: Path) -> None:
    names = ["../evil.png", "/abs.png", "C:\\win.png", "good.png"]
    outside = "has a name that leads out of its archive"
    expected = {"../evil.png": outside, "/abs.png": outside, "good.png": b"good.png"}
    for path in (zipped(tmp_path / "x.zip", names), tarred(tmp_path / "x.tar.gz", names)):
        result = read(path)
        assert {name: result[name] for name in expected} == expected
        assert outside in result.values()
        assert len(result) == len(names)
    with tarfile.open(tmp_path / "links.tar", "w") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert read(tmp_path / "links.tar") == {"link.png": "is not a file with content"}
    with zipfile.ZipFile(tmp_path / "links.zip", "w") as archive:
        entry = zipfile.ZipInfo("link.png")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    assert read(tmp_path / "links.zip") == {"link.png": "is not a file with content"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["links.tar", "links.zip", "x.tar.gz", "x.zip"]


def test_a_bomb_and_a_huge_member_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FLOOR", 10_000)
    monkeypatch.setattr(image_files, "LARGEST", 2 << 20)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", b"\0" * 3_000_000)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as packed:
        entry = tarfile.TarInfo("1.png")
        entry.size = 3_000_000
        packed.addfile(entry, io.BytesIO(b"\0" * entry.size))
    for name in ("x.zip", "x.tar.gz"):
        allowed = 200 * (tmp_path / name).stat().st_size
        assert list(read(tmp_path / name).values()) == [
            f"would unpack to more than {allowed} bytes, 200 times its own size: unpack it yourself if you trust it"
        ]
    monkeypatch.setattr(archives, "FLOOR", 10_000_000)
    for name in ("x.zip", "x.tar.gz"):
        assert read(tmp_path / name) == {"1.png": "is larger than 2 MiB"}


def test_a_tar_that_breaks_off_gives_what_is_whole_and_a_reason(tmp_path: Path) -> None:
    whole = tarred(tmp_path / "x.tar", ["1.png", "2.png", "3.png"]).read_bytes()
    (tmp_path / "x.tar").write_bytes(whole[: 512 * 3 + 100])  # in the content of the second
    result = read(tmp_path / "x.tar")
    assert list(result) == ["1.png", "2.png", "x.tar"]
    assert result["1.png"] == b"1.png"
    assert str(result["x.tar"]).startswith("is not a whole tar archive")


def test_files_that_cannot_be_read_have_a_reason(tmp_path: Path) -> None:
    small.write_images(tmp_path, ["1.png"])
    os.mkfifo(tmp_path / "pipe.png")  # would wait for ever
    result = read(tmp_path)
    assert result["pipe.png"] == "is not a file with content"
    assert isinstance(result["1.png"], bytes)


@pytest.mark.parametrize("name", ["pipe.zip", "pipe.tar.gz"])
def test_a_pipe_is_no_archive(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(
        DataError, match=r"is neither a file nor a folder, but a pipe, a socket or a device: remove it$"
    ):
        read(tmp_path / name)


def test_a_wrong_checksum_is_told_behind_the_images_of_a_tar_gz(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w:gz") as archive:
        for name in ("1.png", "2.png"):
            entry = tarfile.TarInfo(name)
            entry.size = 2 << 20
            archive.addfile(entry, io.BytesIO(rng.bytes(entry.size)))
    damaged = bytearray(path.read_bytes())
    damaged[-6] ^= 1  # in the CRC
    path.write_bytes(damaged)
    result = read(path)
    assert list(result)[0 :: len(result) - 1] == ["1.png", "x.tar.gz"]
    assert str(result["x.tar.gz"]).startswith("is not a whole tar archive (Error -3 while decompressing data")


def test_ids_have_escapes_for_what_would_command_a_terminal(tmp_path: Path) -> None:
    for name in ("a\nb.png", "a\rb.png", "\x1b[2Jb.png", "\udcff.png"):
        (tmp_path / name).write_bytes(b"film")
    assert sorted(read(tmp_path)) == ["\\u001b[2Jb.png", "\\udcff.png", "a\\nb.png", "a\\u000db.png"]
