"""An archive is unpacked without trusting its names, its links, or the sizes that it states."""

import io
import shutil
import stat
import tarfile
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from xraylab.data import sources
from xraylab.data.sources import archives, members, streams
from xraylab.errors import DataError

Entries = list[tuple[str, bytes]]


def make(path: Path, entries: Entries) -> Path:
    """A zip or a tar, by the suffix, that holds exactly these names, twice if need be."""
    if path.suffix == ".zip":
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            warnings.simplefilter("ignore", UserWarning)  # zipfile's own, of duplicate names
            for name, content in entries:
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def refusal(path: Path, folder: Path) -> str:
    """What is said about the archive, of which nothing may have been written."""
    target = folder / "raw"
    target.mkdir()
    with pytest.raises(DataError) as caught:
        sources.copy(path, target, folder)
    assert list(target.iterdir()) == []
    return str(caught.value)


@pytest.mark.parametrize("name", ["../out.png", "/out.png", "a/../../out.png", "C:/out.png", "..\\out.png"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_that_would_write_outside_is_refused_whole(kind: str, name: str, tmp_path: Path) -> None:
    path = make(tmp_path / f"bad.{kind}", [("A/1.png", b"good"), (name, b"bad")])
    shown = name.replace("\\", "/")
    assert refusal(path, tmp_path) == (
        f"data.source: {path} is refused, since members of it would be written outside the study:\n  - {shown}"
    )


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_backslashes_are_folders_wherever_it_is_unpacked(kind: str, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    sources.copy(make(tmp_path / f"windows.{kind}", [("A\\1.png", b"x")]), tmp_path / "raw", tmp_path)
    assert (tmp_path / "raw/A/1.png").read_bytes() == b"x"


@pytest.mark.parametrize("type_", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(type_: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.tar"
    entry = tarfile.TarInfo("A/odd.png")
    entry.type, entry.linkname = type_, "/etc/passwd"
    with tarfile.open(path, "w") as archive:
        archive.addfile(entry)
    assert refusal(path, tmp_path) == (
        f"data.source: {path} is refused, since members of it are neither files nor folders:\n  - A/odd.png"
    )


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip_are_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    entry = zipfile.ZipInfo("A/odd.png")
    entry.external_attr = (mode | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    assert refusal(path, tmp_path) == (
        f"data.source: {path} is refused, since members of it are neither files nor folders:\n  - A/odd.png"
    )


@pytest.mark.parametrize("other", ["A/1.png", "a/1.PNG", "./A//1.png"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_two_members_for_one_file_are_refused(kind: str, other: str, tmp_path: Path) -> None:
    path = make(tmp_path / f"bad.{kind}", [("A/1.png", b"1"), ("A/2.png", b"2"), (other, b"3")])
    shown = other.replace("./A//", "A/")
    assert refusal(path, tmp_path) == (
        f"data.source: {path} is refused, since members of it would overwrite one another "
        f"(on a disk that ignores case, at least):\n  - A/1.png\n  - {shown}"
    )


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_file_where_others_need_a_folder_is_refused(kind: str, tmp_path: Path) -> None:
    path = make(tmp_path / f"bad.{kind}", [("A/b", b"1"), ("a/b/c/1.png", b"2")])
    assert refusal(path, tmp_path) == (
        f"data.source: {path} is refused, since members of it are files where other members need a folder:\n  - A/b"
    )


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "bad.tar", [("A/\udcff.png", b"1")])
    assert refusal(path, tmp_path) == (
        f"data.source: {path} is refused, since members of it have names that are not UTF-8:\n  - A/\\udcff.png"
    )


def test_of_many_bad_members_the_first_are_named(tmp_path: Path) -> None:
    path = make(tmp_path / "bad.zip", [(f"../{number}", b"") for number in range(30)])
    lines = refusal(path, tmp_path).splitlines()
    assert (len(lines), lines[1], lines[-1]) == (22, "  - ../0", "  - and 10 more")


@pytest.mark.parametrize("name", ["bomb.zip", "bomb.tgz"])
def test_a_bomb_is_refused_before_anything_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "FLOOR", 1000)
    path = make(tmp_path / name, [("A/1.png", bytes(500_000)), ("A/2.png", bytes(500_000))])
    allowed = 200 * path.stat().st_size
    assert allowed < 1_000_000
    assert refusal(path, tmp_path) == (
        f"data.source: {path} is refused, since it would unpack to more than {allowed} bytes, 200 times its own size: "
        "if you trust it, unpack it yourself, and name the folder"
    )


@pytest.mark.parametrize("name", ["small.zip", "small.tgz"])
def test_what_packs_well_but_is_small_is_no_bomb(name: str, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    path = make(tmp_path / name, [("A/1.png", bytes(1_000_000))])
    assert path.stat().st_size * archives.RATIO < 1_000_000 < archives.FLOOR
    sources.copy(path, tmp_path / "raw", tmp_path)
    assert (tmp_path / "raw/A/1.png").stat().st_size == 1_000_000


def test_what_comes_is_counted_whatever_the_archive_states() -> None:
    lying = members.Member("A/1.png", 1, plain=True, open=lambda: io.BytesIO(bytes(2)))
    with pytest.raises(streams.DamagedError, match=r"^'A/1\.png' is longer than it says$"):
        list(archives.contents(lying))


@pytest.mark.parametrize("name", ["many.zip", "many.tgz"])
def test_too_many_members_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MEMBERS", 3)
    path = make(tmp_path / name, [(f"A/{number}.png", b"") for number in range(5)])
    assert refusal(path, tmp_path) == (
        f"data.source: {path} is refused, since it has more than 3 members: unpack it yourself"
    )


def test_what_does_not_fit_on_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    path = make(tmp_path / "large.zip", [("A/1.png", b"12345678901")])
    assert refusal(path, tmp_path) == (
        f"data.source: {path} needs 11 bytes, but the disk of {tmp_path} has 10 free: make room"
    )


def test_an_encrypted_zip_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    path = make(tmp_path / "images.zip", [("A/1.png", b"1")])
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(signature) + offset] |= 1  # the flag "encrypted"
    path.write_bytes(content)
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError, match=r"cannot be unpacked \(.*encrypted.*\): unpack it, and name the folder"):
        sources.copy(path, tmp_path / "raw", tmp_path)
