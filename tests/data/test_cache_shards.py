"""A cache in shards has the bytes of one in one file, and goes on where it stopped."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import grimp
import numpy as np
import pytest
from conftest import Loaded

from xraylab import code, files, shards, tables
from xraylab.data import cache as data_cache
from xraylab.data import index as data_index
from xraylab.data import prepare, shard_store
from xraylab.errors import DataError, DiskError
from xraylab.stages import cache
from xraylab.train import learner
from xraylab.train.run import TrainingRun

SIZE = 25


@pytest.fixture
def study(prepared: Callable[..., Loaded], monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """Sixty images, whose cache is in one file, and will be in shards of 25."""
    loaded = prepared()
    monkeypatch.setattr(shards, "SHARD", SIZE)
    return loaded


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def count_decoded(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[str]:
    """The names of what is decoded; after so many of them, the process is as if it were killed."""
    decoded: list[str] = []
    read = prepare.read_with_lungs

    def counted(path: Path, *arguments: object) -> object:
        if stop_after is not None and len(decoded) == stop_after:
            raise KeyboardInterrupt
        decoded.append(path.name)
        return read(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare, "read_with_lungs", counted)
    return decoded


def test_shards_hold_what_one_file_held(study: Loaded) -> None:
    given, paths = study
    whole, rows = np.load(paths.cache / "images.npy"), (paths.cache / "rows.csv").read_bytes()
    cache.run(given, paths)
    assert sorted(path.name for path in paths.cache.iterdir()) == [
        "images-00000.npy", "images-00001.npy", "images-00002.npy", "rows.csv", "shards.csv",
    ]  # fmt: skip
    images, _ = shards.load(paths.cache)
    np.testing.assert_array_equal(images[:], whole)
    assert (paths.cache / "rows.csv").read_bytes() == rows
    listed = tables.read(paths.cache / "shards.csv")
    assert list(listed["images"]) == [25, 25, 10]
    assert list(listed["sha256"]) == [files.sha256(paths.cache / name) for name in listed["file"]]
    assert {path.stat().st_ino for path in (paths.shards / "cache").glob("*.npy")} == {
        path.stat().st_ino for path in paths.cache.glob("images-*.npy")
    }, "the finished shards take no room of their own"


def test_a_study_of_one_shard_has_one_file_and_keeps_nothing(prepared: Callable[..., Loaded]) -> None:
    given, paths = prepared()
    before = contents(paths.cache)
    cache.run(given, paths)
    assert contents(paths.cache) == before
    assert sorted(before) == ["images.npy", "rows.csv"]
    assert not paths.shards.exists()


def test_a_killed_cache_goes_on_with_the_same_bytes(study: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    given, paths = study
    cache.run(given, paths)
    uninterrupted = contents(paths.cache)
    shutil.rmtree(paths.shards)
    with monkeypatch.context() as killed:
        count_decoded(killed, stop_after=40)
        with pytest.raises(KeyboardInterrupt):
            cache.run(given, paths)
    assert contents(paths.cache) == uninterrupted, "nothing half-written stands where the cache was"
    assert len(list((paths.shards / "cache").glob("*.npy"))) == 1
    decoded = count_decoded(monkeypatch)
    cache.run(given, paths)
    assert contents(paths.cache) == uninterrupted
    assert len(decoded) == 60 - SIZE
    cache.run(given, paths)
    assert len(decoded) == 60 - SIZE, "what is finished is not decoded again"


@pytest.mark.parametrize("damaged", ["*.npy", "*.json"])
def test_a_damaged_shard_is_made_anew(
    study: Loaded, damaged: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given, paths = study
    cache.run(given, paths)
    undamaged = contents(paths.cache)
    first = min((paths.shards / "cache").glob(damaged))
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.unlink()  # the cache has a link to the same bytes
    first.write_bytes(data)
    shutil.rmtree(paths.cache)
    decoded = count_decoded(monkeypatch)
    cache.run(given, paths)
    assert contents(paths.cache) == undamaged
    assert len(decoded) in (25, 10)
    assert f"{first.with_suffix('.npy')} is damaged, and is made anew" in capsys.readouterr().err


def test_parts_side_by_side_are_put_together(study: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    given, paths = study
    cache.run(given, paths)
    alone = contents(paths.cache)
    shutil.rmtree(paths.shards)
    shutil.rmtree(paths.cache)
    decoded = count_decoded(monkeypatch)
    cache.run_part(given, paths, (2, 2))
    assert len(decoded) == SIZE
    assert not paths.cache.exists(), "a part makes no output of the stage"
    cache.run_part(given, paths, (1, 2))
    assert len(decoded) == 60
    cache.run(given, paths)
    assert contents(paths.cache) == alone
    assert len(decoded) == 60


def test_a_part_of_one_shard_is_refused(prepared: Callable[..., Loaded]) -> None:
    with pytest.raises(DataError) as caught:
        cache.run_part(*prepared(), (1, 2))
    assert str(caught.value) == "60 images are one shard (4096 at most) without parts: leave out --part"


def test_no_room_is_said_before_anything_is_decoded(study: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    given, paths = study
    cache.run_part(given, paths, (1, 3))
    decoded = count_decoded(monkeypatch)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: SimpleNamespace(free=20_000))
    with pytest.raises(DiskError) as caught:
        cache.run(given, paths)
    size = given.images.size
    assert str(caught.value) == (
        f"the cache of 35 images needs {35 * size**2 / 1e9:.2f} GB, and {paths.shards / 'cache'} has 0.00 GB free: "
        "make room there"
    )
    assert decoded == []


def test_shards_that_no_image_belongs_to_are_deleted(study: Loaded) -> None:
    given, paths = study
    cache.run(given, paths)
    before = {path.name for path in (paths.shards / "cache").iterdir()}
    index = tables.read(paths.index)
    tables.write(index.assign(file_hash=index["file_hash"].where(index.index != 30, "another")), paths.index)
    fresh, old = (paths.shards / f"cache/.{name}.npy.x" for name in ("fresh", "old"))
    for path, hours in ((fresh, 0), (old, 2)):
        path.touch()
        os.utime(path, (path.stat().st_mtime - 3600 * hours,) * 2)
    cache.run(given, paths)
    after = {path.name for path in (paths.shards / "cache").iterdir()}
    assert len(before & after) == 4, "two of three shards, each with its record"
    assert len(after - {fresh.name}) == 6
    assert fresh.exists(), "another process may be writing it"
    assert not old.exists(), "a killed process left it"


def test_an_unreadable_image_is_named_and_finished_shards_remain(study: Loaded) -> None:
    given, paths = study
    bad = paths.raw / tables.read(paths.index)["path"][55]
    bad.write_text("no picture")
    with pytest.raises(DataError) as caught:
        cache.run(given, paths)
    assert str(caught.value) == f"{bad}: cannot identify image file"
    assert len(list((paths.shards / "cache").glob("*.npy"))) == 2


@pytest.mark.parametrize(
    ("listed", "module", "own"),
    [
        (data_cache.CODE, "xraylab.data.prepare", "data/cache.py"),
        (data_index.CODE, "xraylab.data.image_facts", "data/index.py"),
    ],
)
def test_the_code_that_makes_a_shard_is_in_its_name(listed: tuple[str, ...], module: str, own: str) -> None:
    graph = grimp.build_graph("xraylab")
    closure, waiting = set[str](), {module}
    while waiting:
        name = waiting.pop()
        closure.add(name)
        imported = graph.find_modules_directly_imported_by(name) - closure
        waiting |= {module for module in imported if not code.is_carrier(module, "cache")}
    assert {*listed} == {f"{name.removeprefix('xraylab.').replace('.', '/')}.py" for name in closure} | {own}
    assert {*shard_store.LIBRARIES} <= {*code.LIBRARIES}


def test_a_training_gets_the_same_batches_from_shards(study: Loaded) -> None:
    given, paths = study

    def batches() -> list[bytes]:
        run = TrainingRun.load(given, paths, "baseline", 0)
        dls = learner.dataloaders(run)
        assert isinstance(dls.train_ds.inputs.images, shards.Shards) == (paths.cache / "shards.csv").exists()
        return [tensor.numpy().tobytes() for dl in dls.loaders for batch in dl for tensor in batch]

    of_one_file = batches()
    cache.run(given, paths)
    assert batches() == of_one_file
