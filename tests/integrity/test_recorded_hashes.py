"""Hashes as DVC computes them, and dvc.lock as it is read while DVC writes it."""

import threading
import time
from pathlib import Path

import pytest
import recorded_study
from dvc.repo import Repo
from dvc_data.hashfile.build import build

from xraylab import dvc_lock
from xraylab.errors import DataError
from xraylab.integrity import hashes, lock
from xraylab.integrity.hashes import Ignored
from xraylab.paths import Paths

pytest_plugins = ["recorded_study"]


def listing(recorded: Paths, folder: str) -> hashes.Listing:
    place = recorded.root / folder
    hashed = hashes.of_files(list(Ignored(recorded.root).walk(place)))
    return {path.relative_to(place).as_posix(): md5 for path, md5 in hashed.items()}


def test_every_output_has_the_hash_that_dvc_recorded(recorded: Paths) -> None:
    outputs = lock.read(recorded, lock.stages_of(recorded)).outputs
    assert len(outputs) == 12
    for out in outputs:
        place = recorded.root / out.path
        is_folder = out.md5.endswith(".dir")
        assert place.is_dir() == is_folder
        assert (
            hashes.of_listing(listing(recorded, out.path)) if is_folder else hashes.of_files([place])[place]
        ) == out.md5


def test_files_that_dvcignore_names_are_no_part_of_a_folder(recorded: Paths) -> None:
    assert set(listing(recorded, "data/raw")) == set(recorded_study.NAMES[:-3])


def by_dvc(recorded: Paths, folder: str) -> str:
    with recorded_study.working_in(recorded.root), Repo() as repo:
        _, _, tree = build(
            repo.cache.local, str(recorded.root / folder), repo.fs, "md5", dry_run=True, ignore=repo.dvcignore
        )
    return str(tree.hash_info.value)


def test_rules_of_a_folder_between_hold_below_it_as_dvc_has_it(recorded: Paths) -> None:
    (recorded.root / "data/.dvcignore").write_text("raw/deep/*\n!raw/deep/d.png\n")
    assert hashes.of_listing(listing(recorded, "data/raw")) == by_dvc(recorded, "data/raw")
    assert {"deep/d.png"} < set(listing(recorded, "data/raw"))


def test_links_and_empty_folders_are_hashed_as_dvc_does(recorded: Paths) -> None:
    (recorded.raw / "link.png").symlink_to("a.png")
    (recorded.raw / "folder").symlink_to("deep")
    (recorded.raw / "empty").mkdir()
    (recorded.raw / '"\\ \t.png').write_bytes(b"x")
    assert hashes.of_listing(listing(recorded, "data/raw")) == by_dvc(recorded, "data/raw")


def test_a_lock_that_is_half_written_is_read_when_it_is_whole(recorded: Paths) -> None:
    text = recorded.lock.read_text()
    recorded.lock.write_text(text[: text.index("nfiles") + 3])  # no YAML
    timer = threading.Timer(0.3, recorded.lock.write_text, [text])
    timer.start()
    assert len(lock.read(recorded, lock.stages_of(recorded)).outputs) == 12
    timer.join()


def test_a_lock_that_stays_torn_is_named(recorded: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded.lock.write_text("schema: '2.0'\nstages: {a")
    monkeypatch.setattr(dvc_lock, "PAUSE", 0.001)
    with pytest.raises(DataError, match=r"^dvc.lock cannot be read \(it is no whole YAML\): bring it back by `git c"):
        lock.read(recorded, lock.stages_of(recorded))


def test_a_wait_of_more_than_two_seconds_is_announced(
    recorded: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hash_file = hashes.Work.file

    def slowly(work: hashes.Work, path: Path) -> str | None:
        time.sleep(0.1)
        return hash_file(work, path)

    monkeypatch.setattr(hashes.Work, "file", slowly)
    monkeypatch.setattr(hashes, "PATIENCE", 0)
    monkeypatch.setattr(hashes, "MEGABYTE", 1000)
    hashes.of_files([recorded.cache / "images.npy"], "checking images")
    assert capsys.readouterr().err == "checking images: 300 MB\n"
