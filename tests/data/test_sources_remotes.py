"""Remotes are listed without a download, and their files come with checked names."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import small
from conftest import load
from dvc.repo import Repo
from fsspec.implementations.memory import MemoryFileSystem

from xraylab.data import sources
from xraylab.data.sources import remotes
from xraylab.data.sources.address import UnreachableError
from xraylab.errors import DataError
from xraylab.paths import Paths
from xraylab.stages import source

STORE = MemoryFileSystem()


@pytest.fixture(autouse=True)
def _empty_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a DVC project and no git."""
    folder = tmp_path / "home"
    folder.mkdir()
    Repo.init(str(folder), no_scm=True).close()
    return folder


def configure(home: Path, text: str) -> None:
    (home / ".dvc/config.local").write_text(text)


def keep(files: dict[str, bytes]) -> None:
    for name, content in files.items():
        STORE.pipe_file(name, content)


def describe(source: str, home: Path) -> dict[str, Any]:
    return sources.describe(sources.locate(source, home, None), home / "hashes.json")


def fetch(source: str, home: Path) -> dict[str, bytes]:
    raw = home / "raw"
    raw.mkdir()
    sources.copy(sources.locate(source, home, None), raw, home / "downloads")
    return {path.relative_to(raw).as_posix(): path.read_bytes() for path in raw.rglob("*") if path.is_file()}


def test_a_description_counts_and_notices_every_change(tmp_path: Path) -> None:
    keep({"/set/A/1.png": b"1", "/set/B/2.png": b"22", "/set/.hidden": b"", "/other/3.png": b"3"})
    first = describe("memory://set", tmp_path)
    assert {key: first[key] for key in ("kind", "name", "files", "bytes")} == {
        "kind": "remote",
        "name": "memory://set",
        "files": 2,
        "bytes": 3,
    }
    assert describe("memory://set", tmp_path) == first
    seen = {first["sha256"]}
    for change in ({"/set/A/1.png": b"12"}, {"/set/A/1.png": b"13"}, {"/set/A/4.png": b""}):
        keep(change)
        seen.add(describe("memory://set", tmp_path)["sha256"])
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("info", "stamp"),
    [
        ({"ETag": '"ab"', "LastModified": 5}, '"ab"'),
        ({"md5": "cd", "mtime": 5.5}, "cd"),
        ({"etag": None, "mtime": 5.5}, "5.5"),
        ({}, ""),
    ],
)
def test_a_checksum_counts_more_than_a_time(info: dict[str, Any], stamp: str) -> None:
    assert remotes._stamp(info) == stamp


def test_a_folder_comes_with_its_folders_and_without_hidden_files(tmp_path: Path) -> None:
    keep({"/set/A/1.png": b"1", "/set/B/c/2.png": b"22", "/set/A/.hidden": b""})
    assert fetch("memory://set", tmp_path) == {"A/1.png": b"1", "B/c/2.png": b"22"}


@pytest.mark.parametrize("name", ["images.zip", "images.tar.gz", "content"])
def test_an_archive_is_unpacked_and_not_kept(name: str, tmp_path: Path) -> None:
    packed = io.BytesIO()
    if name == "images.tar.gz":
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            entry = tarfile.TarInfo("A/1.png")
            entry.size = 1
            archive.addfile(entry, io.BytesIO(b"1"))
    else:
        with zipfile.ZipFile(packed, "w") as zipped:
            zipped.writestr("A/1.png", b"1")
    keep({f"/set/{name}": packed.getvalue()})
    assert fetch(f"memory://set/{name}", tmp_path) == {"A/1.png": b"1"}
    assert list((tmp_path / "downloads").iterdir()) == []


def test_an_archive_in_a_folder_of_its_name_is_not_unpacked(tmp_path: Path) -> None:
    keep({"/x.zip/x.zip": b"no archive"})
    assert fetch("memory://x.zip", tmp_path) == {"x.zip": b"no archive"}


def test_a_single_file_comes_as_it_is(tmp_path: Path) -> None:
    keep({"/set/patients.csv": b"image,patient\n"})
    assert fetch("memory://set/patients.csv", tmp_path) == {"patients.csv": b"image,patient\n"}


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep({"/set/A/1.png": b"1"})
    found = {"/set/../../x.png": {"name": "/set/../../x.png", "size": 1, "type": "file"}}
    monkeypatch.setattr(MemoryFileSystem, "find", lambda *_, **__: found)
    with pytest.raises(DataError) as caught:
        fetch("memory://set", tmp_path)
    assert str(caught.value) == (
        "data.source: memory://set is refused, since members of it would be written outside the study:\n  - ../../x.png"
    )


def test_a_file_that_came_in_part_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep({"/set/A/1.png": b"123"})
    monkeypatch.setattr(MemoryFileSystem, "get_file", lambda self, name, place: Path(place).write_bytes(b"1"))
    with pytest.raises(DataError) as caught:
        fetch("memory://set", tmp_path)
    assert str(caught.value) == "data.source: memory://set: 1.png came in part: run it again"


def problem(source: str, home: Path) -> str:
    with pytest.raises(UnreachableError) as caught:
        describe(source, home)
    assert caught.value.name == source
    return str(caught.value)


def test_what_is_not_there_is_unreachable(tmp_path: Path) -> None:
    assert problem("memory://gone", tmp_path) == ("data.source: memory://gone does not exist: look at the address")


@pytest.mark.parametrize("source", ["s3://bucket/x", "ssh://host/x", "gs://bucket/x", "az://box/x", "webdavs://host/x"])
def test_a_missing_package_of_dvc_is_named(source: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scheme = source.partition(":")[0]
    package = {"az": "dvc-azure", "webdavs": "dvc-webdav"}.get(scheme, f"dvc-{scheme}")
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    assert problem(source, home) == (
        f"data.source: {source} needs a package that is not installed: `pip install {package}`"
    )


def test_a_missing_package_of_fsspec_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.implementations.smb", None)
    assert problem("smb://host/x", tmp_path) == (
        'data.source: smb://host/x needs a package that is not installed: SMB requires "smbprotocol" or '
        '"smbprotocol[kerberos]" installed'
    )


def test_any_other_failure_of_a_file_system_is_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OddError(Exception):
        pass

    def fail(*_: object) -> None:
        raise OddError("no credentials")

    monkeypatch.setattr(MemoryFileSystem, "info", fail)
    assert problem("memory://set", tmp_path) == (
        "data.source: memory://set cannot be reached (OddError: no credentials): look at the address, the "
        "network, and the remote's settings and credentials (`dvc config --list`, `dvc remote modify --local`)"
    )


def test_a_remote_of_dvc_on_this_disk_is_a_folder(home: Path, tmp_path: Path) -> None:
    small.write_images(tmp_path / "storage/set", ["A/1.png", "B/1.png"])
    configure(
        home, f"['remote \"Disk\"']\n    url = {tmp_path}/storage\n['remote \"over\"']\n    url = remote://disk/set\n"
    )
    for name in ("remote://disk/set", "remote://over"):
        assert sources.locate(name, home, None) == tmp_path / "storage/set"
    assert describe("remote://disk/set", home) == describe(f"file://{tmp_path}/storage/set", home)
    assert sorted(fetch("remote://disk/set", home)) == ["A/1.png", "B/1.png"]


def test_a_relative_remote_of_dvc_is_read_from_its_configuration(home: Path) -> None:
    small.write_images(home / "storage", ["A/1.png"])
    configure(home, "['remote \"near\"']\n    url = ../storage\n")
    assert describe("remote://near", home)["files"] == 1


def test_a_remote_of_dvc_elsewhere_goes_by_its_settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(home, "['remote \"far\"']\n    url = https://example.org/data\n    auth = basic\n    user = me\n")
    opened: list[dict[str, Any]] = []
    monkeypatch.setattr("dvc_http.HTTPSFileSystem.__init__", lambda self, **config: opened.append(config))
    problem("remote://far/x.zip", home)
    assert [(each["user"], each["auth"]) for each in opened] == [("me", "basic")]


def test_a_remote_that_dvc_does_not_know_is_named(home: Path) -> None:
    assert problem("remote://nowhere/x", home) == (
        "data.source: remote://nowhere/x cannot be reached (RemoteNotFoundError: config file error: remote 'nowhere' "
        "doesn't exist): look at the address, the network, and the remote's settings and credentials "
        "(`dvc config --list`, `dvc remote modify --local`)"
    )


def test_outside_of_a_dvc_project_there_are_no_remotes(tmp_path: Path) -> None:
    assert "RemoteNotFoundError" in problem("remote://disk/x", tmp_path)


def test_a_broken_configuration_of_dvc_is_said(home: Path) -> None:
    configure(home, "no section\n")
    with pytest.raises(DataError, match=r"^data.source: DVC's configuration cannot be read \(.*\): mend it$"):
        sources.locate("remote://disk/x", home, None)


def test_while_a_remote_is_unreachable_its_recorded_version_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = small.study(tmp_path / "study", lambda tree: tree["data"].update(source="memory://set"))
    keep({"/set/A/1.png": b"1"})
    source.run(*load(study))
    recorded = Paths(study).source.read_text()
    STORE.rm("/set", recursive=True)
    source.run(*load(study))
    assert Paths(study).source.read_text() == recorded
    assert capsys.readouterr().out == (
        "warning: memory://set does not exist; going on with the version in source.json\n"
    )
    small.edit(study, lambda tree: tree["data"].update(source="memory://another"))
    with pytest.raises(UnreachableError, match="memory://another does not exist"):
        source.run(*load(study))
