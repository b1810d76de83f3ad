"""A source is described by what it holds, and copied without trusting its names."""

import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import small
from conftest import load

from xraylab import files
from xraylab.data import sources
from xraylab.errors import DataError
from xraylab.paths import Paths
from xraylab.stages import fetch, source


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    small.write_images(folder, ["A/1.png", "A/2.png", "B/1.png"])
    return folder


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(path for suffix in ("png", "csv") for path in folder.rglob(f"*.{suffix}")):
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
        sources.copy(source_, tmp_path / name, tmp_path)
        copies.append(held(tmp_path / name))
    assert copies[0] == copies[1] == copies[2]
    assert sorted(copies[0]) == ["A/1.png", "A/2.png", "B/1.png"]


@pytest.mark.parametrize("name", ["cut.zip", "cut.tar.gz"])
def test_half_an_archive_is_an_error_with_a_remedy(name: str, images: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    (zipped if name.endswith("zip") else tarred)(images, path)
    path.write_bytes(path.read_bytes()[:-600])
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError, match=r"is not a whole (zip|tar) archive .*: download it again"):
        sources.copy(path, tmp_path / "raw", tmp_path)


def test_a_source_that_is_nowhere_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        sources.describe(tmp_path / "nowhere", tmp_path / "hashes.json")
    assert str(caught.value) == (
        f"data.source: {tmp_path}/nowhere is not on this machine: "
        "name a folder, a .zip or .tar archive, a table of images, an address, or demo"
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
    with pytest.raises(DataError, match="another is not on this machine"):
        source.run(*load(study))


@pytest.mark.parametrize("absolute", [True, False])
def test_a_table_brings_the_images_that_it_names(absolute: bool, images: Path, tmp_path: Path) -> None:
    table = tmp_path / "lists/mine.csv"
    table.parent.mkdir()
    top = images if absolute else Path("../images")
    table.write_text(f"who;Datei\na;{top}/A/2.png\nb;{top}/B/1.png\n")
    (tmp_path / "raw").mkdir()
    sources.copy(table, tmp_path / "raw", tmp_path)
    assert held(tmp_path / "raw") == {
        "A/2.png": (images / "A/2.png").read_bytes(),
        "B/1.png": (images / "B/1.png").read_bytes(),
        "mine.csv": table.read_bytes(),
    }
    before = sources.describe(table, tmp_path / "hashes.json")
    assert (before["kind"], before["files"]) == ("table", 3)
    small.write_images(images, ["A/1.png"])
    assert sources.describe(table, tmp_path / "hashes.json") == before  # a file that it does not name
    (images / "B/1.png").write_bytes(b"another")
    assert sources.describe(table, tmp_path / "hashes.json") != before


def test_a_table_of_files_that_are_not_there_is_refused(images: Path, tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("path,label\nimages/A/1.png,a\nimages/A/9.png,b\n")
    with pytest.raises(DataError) as caught:
        sources.describe(table, tmp_path / "hashes.json")
    assert str(caught.value) == (
        "data.source: 1 of 2 files in the column path of mine.csv are not there; mend the paths, or take the rows "
        "out:\n"
        "  - images/A/9.png"
    )
    table.write_text("name,label\nx.png,a\n")
    with pytest.raises(
        DataError, match=r"none of the columns of .*/mine.csv names images that are there: name, label "
    ):
        sources.describe(table, tmp_path / "hashes.json")


def test_classes_that_do_not_fit_are_refused_before_anything_is_copied(images: Path, tmp_path: Path) -> None:
    study = small.study(tmp_path / "study", small.use(images, ["A", "Bee"], "A"))
    with pytest.raises(DataError, match=r"^data.classes names A, Bee; the source has A \(2\), B \(1\)\."):
        source.run(*load(study))
    assert not Paths(study).source.exists()


@pytest.mark.parametrize(("pack", "name"), [(zipped, "films.zip"), (tarred, "films.tar.gz")])
@pytest.mark.parametrize("table", ["", "who.csv"])
def test_classes_that_do_not_fit_an_archive_are_refused_before_it_is_unpacked(
    pack: Callable[[Path, Path], Path], name: str, table: str, images: Path, tmp_path: Path
) -> None:
    if table:
        (images / table).write_text("image;Diagnosis\nA/1.png;ill\nA/2.png;ill\nB/1.png;well\n")
    classes = ["well", "i11"] if table else ["A", "Bee"]
    study = small.study(tmp_path / "study", small.use(pack(images, tmp_path / name), classes, classes[0]))
    there = r"ill \(2\), well \(1\)" if table else r"A \(2\), B \(1\)"
    with pytest.raises(DataError, match=rf"^data.classes names {', '.join(classes)}; the source has {there}\."):
        source.run(*load(study))
    assert not Paths(study).source.exists()
    small.edit(study, lambda tree: tree["data"].update(classes=["well", "ill"] if table else ["A", "B"]))
    source.run(*load(study))
    assert Paths(study).source.exists()
    assert not Paths(study).raw.exists()


def test_an_archive_that_did_not_change_is_not_looked_into_again(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small.study(tmp_path / "study", small.use(zipped(images, tmp_path / "films.zip"), ["A", "B"], "A"))
    source.run(*load(study))
    monkeypatch.delattr(sources, "previewed")
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


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.rar"
    path.touch()
    with pytest.raises(DataError) as caught:
        sources.describe(path, tmp_path / "hashes.json")
    assert str(caught.value) == (
        f"data.source: {path} is no folder, archive (.zip .tar .tar.gz .tgz .tar.bz2 .tar.xz) or table "
        "(.csv .tsv .xlsx .parquet .csv.gz)"
    )


def test_a_path_is_read_from_home_and_an_address_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/users/me")
    paths = {
        "images": tmp_path / "images",
        "/data/a.zip": Path("/data/a.zip"),
        "~/images": Path("/users/me/images"),
        "file:///data/images": Path("/data/images"),
    }
    assert {name: sources.locate(name, tmp_path, None) for name in paths} == paths
    address = sources.locate("https://example.org/a%20set/x.zip?download=1", tmp_path, "0" * 64)
    assert isinstance(address, sources.Address)
    assert (address.scheme, address.name) == ("https", "x.zip")


@pytest.mark.parametrize(
    ("source_", "digest", "message"),
    [
        (
            "http://example.org/x.zip",
            "0" * 64,
            "data.source: http://example.org/x.zip is refused, since http can be changed on its way: write https://",
        ),
        (
            "s4://bucket/x",
            None,
            "data.source: s4://bucket/x: neither DVC nor fsspec knows s4://; name a folder, an archive, https://..., "
            "kaggle:..., or a remote such as s3://, gs://, azure://, ssh://, webdavs:// and remote://",
        ),
        (
            "https://me:secret@example.org/x.zip",
            "0" * 64,
            "data.source: the address on example.org holds a password, and params.yaml belongs to git: "
            "keep it in `dvc remote modify --local`, for https in ~/.netrc",
        ),
        ("https://[example/x.zip", "0" * 64, "data.source: https://[example/x.zip is no address (Invalid IPv6 URL)"),
        (
            "https",
            "0" * 64,
            "data.sha256 belongs to an https address: set it to null while data.source is https",
        ),
        (
            "s3://bucket/x.zip",
            "0" * 64,
            "data.sha256 belongs to an https address: set it to null while data.source is s3://bucket/x.zip",
        ),
    ],
)
def test_an_address_that_cannot_be_right_is_refused_at_once(
    source_: str, digest: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        sources.locate(source_, tmp_path, digest)
    assert str(caught.value) == message


def test_a_failed_fetch_leaves_the_old_files_and_nothing_half_written(images: Path, tmp_path: Path) -> None:
    study = small.study(tmp_path / "study", small.use(images, ["A", "B"], "B"))
    fetch.run(*load(study))
    before = held(study / "data")
    path = zipped(images, tmp_path / "cut.zip")
    path.write_bytes(path.read_bytes().replace(b"IDAT", b"IDAX"))
    small.edit(study, small.use(path, ["A", "B"], "B"))
    with pytest.raises(DataError, match="is not a whole zip archive"):
        fetch.run(*load(study))
    assert held(study / "data") == before
    assert [path.name for path in (study / "data").iterdir()] == ["raw"]
