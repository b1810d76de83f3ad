"""A source is described by what it holds, and copied without trusting its names."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
import small
from conftest import load

from xraylab import files
from xraylab.data import sources
from xraylab.errors import DataError
from xraylab.paths import Paths
from xraylab.stages import source


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    small.write_images(folder, ["A/1.png", "A/2.png", "B/1.png"])
    return folder


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder))
    return path


def tarred(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname=".")
    return path


def held(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_description_depends_on_names_and_contents_not_on_the_place(images: Path, tmp_path: Path) -> None:
    described = sources.describe(images, tmp_path / "hashes.json")
    elsewhere = tmp_path / "other/images"
    elsewhere.parent.mkdir()
    images.rename(elsewhere)
    assert sources.describe(elsewhere, tmp_path / "hashes.json") == described
    assert (described["kind"], described["files"]) == ("folder", 3)


@pytest.mark.parametrize("change", ["content", "name", "added", "removed"])
def test_every_change_in_a_folder_changes_its_description(change: str, images: Path, tmp_path: Path) -> None:
    before = sources.describe(images, tmp_path / "hashes.json")
    match change:
        case "content":
            small.write_images(images, ["A/1.png"], seed=9)
        case "name":
            (images / "A/1.png").rename(images / "A/3.png")
        case "added":
            small.write_images(images, ["B/9.png"])
        case _:
            (images / "B/1.png").unlink()
    assert sources.describe(images, tmp_path / "hashes.json")["sha256"] != before["sha256"]


def test_a_file_of_the_same_size_and_time_is_not_read_again(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sources.describe(images, tmp_path / "hashes.json")
    read: list[Path] = []
    digest = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: read.append(path) or digest(path))
    assert sources.describe(images, tmp_path / "hashes.json") == before
    os.utime(images / "A/2.png", ns=(1, 1))
    assert sources.describe(images, tmp_path / "hashes.json") == before
    assert read == [images / "A/2.png"]


def test_folder_zip_and_tar_bring_the_same_files(images: Path, tmp_path: Path) -> None:
    (images / ".DS_Store").touch()
    copies = []
    for name, source_ in {
        "folder": images,
        "zip": zipped(images, tmp_path / "images.zip"),
        "tar": tarred(images, tmp_path / "images.tar.gz"),
    }.items():
        (tmp_path / name).mkdir()
        sources.copy(source_, tmp_path / name)
        copies.append(held(tmp_path / name))
    assert copies[0] == copies[1] == copies[2]
    assert sorted(copies[0]) == ["A/1.png", "A/2.png", "B/1.png"]


@pytest.mark.parametrize("name", ["../out.png", "/out.png", "a/../../out.png"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_that_would_write_outside_is_refused_whole(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / f"bad.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("A/1.png", b"good")
            archive.writestr(name, b"bad")
    else:
        with tarfile.open(path, "w") as archive:
            archive.addfile(tarfile.TarInfo("A/1.png"), io.BytesIO())
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    target = tmp_path / "raw"
    target.mkdir()
    with pytest.raises(DataError) as caught:
        sources.copy(path, target)
    assert str(caught.value) == (
        f"data.source: {path} is refused, since members of it would be written outside the study:\n  - {name}"
    )
    assert not held(target)


def test_links_in_a_tar_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.tar"
    link = tarfile.TarInfo("A/link.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(path, "w") as archive:
        archive.addfile(link)
    with pytest.raises(DataError, match=r"are neither files nor folders:\n  - A/link.png"):
        sources.copy(path, tmp_path)


@pytest.mark.parametrize("name", ["cut.zip", "cut.tar.gz"])
def test_half_an_archive_is_an_error_with_a_remedy(name: str, images: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    (zipped if name.endswith("zip") else tarred)(images, path)
    path.write_bytes(path.read_bytes()[:-600])
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError, match=r"is not a whole (zip|tar) archive .*: download it again"):
        sources.copy(path, tmp_path / "raw")


def test_a_source_that_is_nowhere_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        sources.describe(tmp_path / "nowhere", tmp_path / "hashes.json")
    assert str(caught.value) == (
        f"data.source: {tmp_path}/nowhere does not exist: name a folder, a .zip or .tar archive, or demo"
    )


def test_where_the_source_is_absent_its_recorded_version_stays(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = small.study(tmp_path / "study", small.use(images, ["A", "B"], "B"))
    source.run(*load(study))
    recorded = Paths(study).source.read_text()
    images.rename(tmp_path / "gone")
    source.run(*load(study))
    assert Paths(study).source.read_text() == recorded
    assert "is not on this machine; going on with the version in source.json" in capsys.readouterr().out
    small.edit(study, small.use(tmp_path / "another", ["A", "B"], "B"))
    with pytest.raises(DataError, match="another does not exist"):
        source.run(*load(study))


@pytest.mark.parametrize("place", ["data/raw", "data/raw/inner", ".", "data", "reports"])
def test_a_source_that_the_study_itself_writes_is_refused(place: str, tmp_path: Path) -> None:
    study = small.study(tmp_path / "study", lambda tree: tree["data"].update(source=place))
    (study / place).mkdir(parents=True, exist_ok=True)
    with pytest.raises(DataError, match="which the study itself writes, lie one in the other: keep the images"):
        source.run(*load(study))
    assert not Paths(study).source.exists()


def test_a_dangling_link_is_named(images: Path, tmp_path: Path) -> None:
    (images / "A/gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError) as caught:
        sources.describe(images, tmp_path / "hashes.json")
    assert str(caught.value) == (
        f"data.source: {images}/A/gone.png cannot be read (No such file or directory): mend or remove it"
    )


def test_an_encrypted_zip_is_an_error_with_a_remedy(images: Path, tmp_path: Path) -> None:
    path = zipped(images, tmp_path / "images.zip")
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # set the flag "encrypted" of every member
        at = content.find(signature)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(signature, at + 1)
    path.write_bytes(content)
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError, match=r"cannot be unpacked \(.*encrypted.*\): unpack it, and name the folder"):
        sources.copy(path, tmp_path / "raw")
