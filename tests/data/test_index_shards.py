"""An index that is made shard by shard is the one made at once, and goes on where it stopped."""

import multiprocessing
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import small
from conftest import Loaded, load
from PIL import Image

from xraylab import shards
from xraylab.data import image_facts, index, layouts
from xraylab.data.audit import audit, duplicates
from xraylab.data.shard_store import ShardStore
from xraylab.errors import DataError
from xraylab.paths import Paths
from xraylab.stages import fetch, source
from xraylab.stages import index as stage

OUTPUTS = ("index", "near_duplicates", "audit")


def outputs(paths: Paths) -> list[bytes]:
    """What the stage wrote, without the folder that the study lies in."""
    return [re.sub(rb'/[^" ]*/data/raw/', b"", getattr(paths, name).read_bytes()) for name in OUTPUTS]


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images, one a copy of another, one a brighter copy, one without contrast, and two that are no pictures."""
    root = tmp_path_factory.mktemp("sharded")
    images = small.two_classes(root / "images")
    films = sorted((images / "Healthy").iterdir())
    shutil.copy(films[3], films[9])
    rng = np.random.default_rng(0)
    film = np.kron(rng.integers(60, 160, (12, 12)), np.ones((8, 8))).astype(np.uint8)
    for path, picture in ((films[1], film), (films[2], film + 30), (films[4], np.full_like(film, 99))):
        Image.fromarray(picture).save(path)
    for path in (films[0], films[7]):
        path.write_text("no picture")
    study = small.study(root / "study", small.use(images, ["Healthy", "TB"], "TB"))
    small.edit(study, lambda tree: tree["data"].update(on_bad_image="skip"))
    loaded = load(study)
    for part in (source, fetch, stage):
        part.run(*loaded)
    return study


@pytest.fixture
def study(fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """The same, indexed at once, and from now on in shards of 8."""
    shutil.copytree(fetched, tmp_path / "study", copy_function=shutil.copy2)
    monkeypatch.setattr(shards, "SHARD", 8)
    return load(tmp_path / "study")


def count_read(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[str]:
    """The names of what is read; after so many of them, the process is as if it were killed."""
    names: list[str] = []
    read = image_facts.read

    def counted(path: Path, salt: bytes, keep_names: bool) -> object:
        if stop_after is not None and len(names) == stop_after:
            raise KeyboardInterrupt
        names.append(path.name)
        return read(path, salt, keep_names)

    monkeypatch.setattr(image_facts, "read", counted)
    return names


def test_the_index_is_the_same_in_shards(study: Loaded) -> None:
    given, paths = study
    at_once = outputs(paths)
    assert not paths.shards.exists()
    stage.run(given, paths)
    assert outputs(paths) == at_once
    assert len(list((paths.shards / "index").glob("*.npy"))) == 8


def test_thumbnails_stay_on_disk_and_are_those_of_one_array(study: Loaded) -> None:
    given, paths = study
    dataset = layouts.read(paths.raw, "auto", given.data.classes, None, None)
    one = index.measure(paths.raw, dataset.table, b"s")
    several = index.measure(paths.raw, dataset.table, b"s", store=ShardStore(paths.shards / "index"))
    assert isinstance(several.thumbnails, shards.Shards)
    assert all(isinstance(part.base, np.memmap) for part in several.thumbnails.parts)
    np.testing.assert_array_equal(several.thumbnails[:], one.thumbnails)
    near = [duplicates.near(each.table, each.thumbnails) for each in (one, several)]
    assert not near[0].empty
    assert near[0].equals(near[1])


def test_a_killed_index_goes_on_with_the_same_bytes(study: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    given, paths = study
    at_once = outputs(paths)
    with monkeypatch.context() as killed:
        count_read(killed, stop_after=30)
        with pytest.raises(KeyboardInterrupt):
            stage.run(given, paths)
    assert len(list((paths.shards / "index").glob("*.npy"))) == 3
    names = count_read(monkeypatch)
    stage.run(given, paths)
    assert len(names) == 60 - 24
    assert outputs(paths) == at_once


def test_a_file_that_changed_is_read_again_with_its_shard_alone(study: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    given, paths = study
    stage.run(given, paths)
    names = count_read(monkeypatch)
    changed = paths.raw / "Healthy/h0010.png"
    shutil.copyfile(paths.raw / "Healthy/h0012.png", changed)
    os.utime(changed, (1, 1))
    stage.run(given, paths)
    assert len(names) == 8
    assert "h0010.png" in names
    in_shards = outputs(paths)
    monkeypatch.setattr(shards, "SHARD", 4096)
    stage.run(given, paths)
    assert outputs(paths) == in_shards


def test_a_damaged_shard_is_read_anew(
    study: Loaded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given, paths = study
    at_once = outputs(paths)
    stage.run(given, paths)
    record = min((paths.shards / "index").glob("*.json"))
    record.write_text(record.read_text().replace('"contrast": 0.', '"contrast": 1.', 1))
    names = count_read(monkeypatch)
    stage.run(given, paths)
    assert len(names) in (8, 4)
    assert outputs(paths) == at_once
    assert f"{record.with_suffix('.npy')} is damaged, and is made anew" in capsys.readouterr().err


def test_parts_are_put_together(study: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    given, paths = study
    at_once = outputs(paths)
    names = count_read(monkeypatch)
    for part in ((3, 3), (1, 3), (2, 3)):
        stage.run_part(given, paths, part)
    assert len(names) == 60
    stage.run(given, paths)
    assert len(names) == 60
    assert outputs(paths) == at_once


def test_a_file_that_cannot_be_read_stops_a_study_in_shards_too(study: Loaded) -> None:
    _, paths = study
    small.edit(paths.root, lambda tree: tree["data"].update(on_bad_image="fail"))
    with pytest.raises(DataError) as caught:
        stage.run(*load(paths.root))
    assert caught.value.problems == tuple(
        f"{paths.raw}/Healthy/{name}: cannot identify image file" for name in ("h0001.png", "h0008.png")
    )


def test_an_audit_outside_a_study_keeps_nothing(study: Loaded) -> None:
    _, paths = study
    before = sorted(paths.root.rglob("*"))
    assert audit.audit_folders([paths.raw], "auto", None).record.images == 58
    assert sorted(paths.root.rglob("*")) == before


def _salt(root: Path) -> bytes:
    return Paths(root).salt()


def test_processes_that_begin_together_hash_patients_alike(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        salts = pool.map(_salt, [tmp_path] * 64, chunksize=1)
    assert len(set(salts)) == 1
    assert [path.name for path in (tmp_path / ".xraylab").iterdir()] == ["salt"]
