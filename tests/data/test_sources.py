"""A source is described by what it holds, and copied without trusting its names."""

import json
import os
import socket
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import small
from conftest import load

from xraylab import files
from xraylab.data import sources
from xraylab.data.sources import archives
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


UNCOPIED = (
    "data.source holds links, pipes or devices that cannot be copied: put files in their place, or remove them "
    "(a table of paths as data.source can name files anywhere)"
)


def make_odd(path: Path) -> str:
    """Put what is no file at the path, by its name, and say what it is."""
    target = {
        "link_to_pipe": path.parent / ".hidden",
        "link_to_device": Path("/dev/zero"),
        "gone": Path("nowhere.png"),
        "circle": Path(path.name),
        "secret": path.parents[2] / "secret",
    }.get(path.stem)
    if target:
        path.symlink_to(target)
    match path.stem:
        case "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(os.path.relpath(path))
        case "pipe" | "link_to_pipe":
            os.mkfifo(target or path)
        case "secret":
            (path.parents[2] / "secret").write_text("key")
    return {
        "link_to_device": "a link out of the folder, to /dev/zero",
        "gone": "a link to nowhere.png, which cannot be read (No such file or directory)",
        "circle": f"a link to {path.name}, which cannot be read (Too many levels of symbolic links)",
        "secret": f"a link out of the folder, to {target}",
    }.get(path.stem, "a pipe, a socket or a device")


@pytest.mark.parametrize("name", ["pipe", "link_to_pipe", "socket", "link_to_device", "gone", "circle", "secret"])
def test_what_is_no_file_is_named_and_never_opened(
    name: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket may have 108 bytes
    reason = make_odd(images / "A" / f"{name}.csv")
    study = small.study(tmp_path / "study", small.use(images, ["A", "B"], "B"))
    for call in (
        lambda: source.run(*load(study)),
        lambda: sources.describe(images, tmp_path / "hashes.json"),
        lambda: sources.copy(images, tmp_path / "raw", tmp_path),
    ):
        with pytest.raises(DataError) as caught:
            call()
        assert str(caught.value) == f"{UNCOPIED}\n  - {images}/A/{name}.csv: {reason}"
    assert not Paths(study).source.exists()


def test_links_inside_the_folder_and_those_of_dvc_and_git_annex_are_files(images: Path, tmp_path: Path) -> None:
    (images / "A/same.png").symlink_to("1.png")
    content = b"checked out"
    for number, place in enumerate(["cache/files/md5/0a/" + "b" * 30, "films/.git/annex/objects/x/MD5E-s1--a.png"]):
        target = tmp_path / place
        target.parent.mkdir(parents=True)
        target.write_bytes(content)
        (images / f"B/film{number}.png").symlink_to(target)
    (tmp_path / "raw").mkdir()
    copied = sources.copy(images, tmp_path / "raw", tmp_path)
    assert copied == sources.describe(images, tmp_path / "hashes.json")
    assert held(tmp_path / "raw") == held(images)
    assert not any(path.is_symlink() for path in (tmp_path / "raw").rglob("*"))


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.csv", "x.png"])
def test_a_pipe_as_source_is_refused(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(
        DataError, match=r"is neither a file nor a folder, but a pipe, a socket or a device: remove it$"
    ):
        sources.describe(tmp_path / name, tmp_path / "hashes.json")


@pytest.mark.parametrize("kind", ["folder", "table", "x.zip", "x.tar.gz"])
def test_what_is_copied_is_described_as_it_was_recorded(kind: str, images: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    table = tmp_path / "mine.csv"
    table.write_text("Datei\nimages/A/2.png\nimages/B/1.png\n")
    origin = {"folder": images, "table": table}.get(kind) or (zipped if "zip" in kind else tarred)(
        images, tmp_path / kind
    )
    assert sources.copy(origin, tmp_path / "raw", tmp_path) == sources.describe(origin, tmp_path / "hashes.json")


def flip(path: Path) -> None:
    """Change one bit, and leave size and times as they are."""
    content, times = bytearray(path.read_bytes()), path.stat()
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "content": (lambda folder: small.write_images(folder, ["A/1.png"], seed=9), ["A/1.png: changed"]),
    "one bit, and not the time": (lambda folder: flip(folder / "A/1.png"), []),
    "added": (lambda folder: small.write_images(folder, ["A/0.png"]), ["A/0.png: not recorded"]),
    "removed": (lambda folder: (folder / "A/2.png").unlink(), ["{folder}/A/2.png: gone"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_source_that_changed_since_it_was_recorded_is_not_fetched(change: str, images: Path, tmp_path: Path) -> None:
    study = small.study(tmp_path / "study", small.use(images, ["A", "B"], "B"))
    source.run(*load(study))
    fetch.run(*load(study))
    before = held(Paths(study).raw)
    edit, named = CHANGES[change]
    edit(images)
    with pytest.raises(DataError) as caught:
        fetch.run(*load(study))
    assert str(caught.value).splitlines() == [
        f"data.source: {images} is not what data/source.json describes: it changed since the stage source, or while it "
        "was copied; when nothing writes to it any more, run `dvc repro --force source`, then `dvc repro`",
        *(f"  - {line.format(folder=images)}" for line in named),
    ]
    assert held(Paths(study).raw) == before
    assert {path.name for path in Paths(study).raw.parent.iterdir()} == {"given_splits.csv", "raw", "source.json"}
    source.run(*load(study))
    fetch.run(*load(study))
    assert held(Paths(study).raw) == held(images)


def test_an_archive_that_changed_since_it_was_recorded_is_not_fetched(images: Path, tmp_path: Path) -> None:
    archive = tarred(images, tmp_path / "images.tar.gz")
    study = small.study(tmp_path / "study", small.use(archive, ["A", "B"], "B"))
    source.run(*load(study))
    small.write_images(images, ["A/3.png"])
    tarred(images, archive)
    with pytest.raises(DataError, match=r"images\.tar\.gz is not what data/source\.json describes.*\n.*gz: changed$"):
        fetch.run(*load(study))
    assert not Paths(study).raw.exists()


def test_an_archive_that_changes_while_it_is_unpacked_is_refused(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tarred(images, tmp_path / "images.tar.gz")
    (tmp_path / "raw").mkdir()
    monkeypatch.setattr(archives, "unpack", lambda *arguments: os.utime(archive, (1, 1)))
    with pytest.raises(DataError, match=r"changed while it was unpacked: run this again when nothing writes to it$"):
        sources.copy(archive, tmp_path / "raw", tmp_path)


def test_of_several_sources_the_changed_one_is_named(images: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    small.write_images(other, ["A/7.png", "B/8.png"])
    listed = [{"name": "one", "path": str(images)}, {"name": "two", "path": str(other)}]
    study = small.study(tmp_path / "study", small.use(images, ["A", "B"], "B"))
    small.edit(study, lambda tree: tree["data"].update(source=listed))
    source.run(*load(study))
    fetch.run(*load(study))
    small.write_images(other, ["A/7.png"], seed=9)
    with pytest.raises(DataError) as caught:
        fetch.run(*load(study))
    assert str(caught.value).startswith(f"data.source.1 (two): {other} is not what data/source.json describes")
    assert caught.value.problems == ("A/7.png: changed",)


def test_another_demo_than_was_recorded_is_not_fetched(tmp_path: Path) -> None:
    study = small.study(tmp_path / "study")
    small.edit(study, lambda tree: tree["data"]["demo"].update(n_healthy=4, n_tb=4))
    source.run(*load(study))
    fetch.run(*load(study))
    small.edit(study, lambda tree: tree["data"]["demo"].update(n_healthy=5))
    with pytest.raises(DataError, match=r"^data\.source: demo is not what data/source\.json describes"):
        fetch.run(*load(study))


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
    source.run(*load(study))
    fetch.run(*load(study))
    before = held(study / "data")
    path = zipped(images, tmp_path / "cut.zip")
    path.write_bytes(path.read_bytes().replace(b"IDAT", b"IDAX"))
    small.edit(study, small.use(path, ["A", "B"], "B"))
    with pytest.raises(DataError, match="is not a whole zip archive"):
        fetch.run(*load(study))
    assert held(study / "data") == before
    assert {path.name for path in (study / "data").iterdir()} == {"given_splits.csv", "raw", "source.json"}


@pytest.mark.parametrize("text", ["", "{", "null", '{"a": 3}', "\x00"])
def test_a_damaged_table_of_hashes_is_made_anew(text: str, tmp_path: Path) -> None:
    images, table = small.two_classes(tmp_path / "images", healthy=2, tb=2), tmp_path / "hashes.json"
    described = sources.describe(images, table)
    whole = table.read_text()
    table.write_text(text)
    assert sources.describe(images, table) == described
    assert files.read_json(table).items() >= json.loads(whole).items()
