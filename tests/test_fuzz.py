"""The fuzzer: its inputs are repeatable, and each way in which an input can fail is noticed."""

import functools
import importlib
import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st

from xraylab.errors import DataError

BENCH = small.REPOSITORY / "bench"
sys.path.insert(0, str(BENCH))
import fuzz  # noqa: E402
import fuzz_mutations as mutations  # noqa: E402

TARGETS = fuzz.targets()
SEEDS = {name: functools.cache(target.seeds) for name, target in TARGETS.items()}
settings.register_profile("ci", derandomize=True, max_examples=50, deadline=None, database=None)


def fail(data: bytes) -> object:
    """Fail in the way that the first byte says."""
    match data[:1]:
        case b"t":
            raise KeyError("not caught")
        case b"m":
            return bytes(2 << 30)
        case b"h":
            time.sleep(60)
        case b"d":
            os._exit(3)
        case b"r":
            raise DataError("refused")
    return data


def hide(data: bytes) -> object:
    try:
        return bytes(2 << 30)
    except MemoryError:
        raise DataError("is damaged") from None


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(fuzz, "SECONDS", 0.3)
    return fuzz


def jobs(target: mutations.Target, kinds: str, folder: Path) -> Iterator[fuzz.Job]:
    class Fixed(fuzz.Job):
        def input(self, number: int) -> bytes:
            return kinds[number].encode()

    yield Fixed("failing", target, [b"a"], 0, range(len(kinds)), folder)


def test_each_way_to_fail_is_counted_and_kept_and_the_run_goes_on(quick: ModuleType, tmp_path: Path) -> None:
    target = mutations.Target(fail, lambda: [b"a"])
    counts, slowest = quick.run(jobs(target, "atmrhada", tmp_path), 1, time.monotonic() + 60)
    assert counts["failing"] == {
        "accepted": 3, "refused": 1, "tracebacks": 1, "over memory": 1, "hangs": 1, "died": 1,
    }  # fmt: skip
    kept = sorted(path.name.rpartition("-")[2] for path in (tmp_path / "failing").glob("*.bin"))
    assert kept == ["1.bin", "2.bin", "4.bin", "6.bin"]
    assert (
        (tmp_path / "failing")
        .joinpath(next((tmp_path / "failing").glob("tracebacks-*.txt")).name)
        .read_text()
        .endswith("KeyError: 'not caught'\n")
    )
    assert slowest["failing"] >= 0.3


def test_an_error_that_hides_a_lack_of_memory_counts_as_one(quick: ModuleType, tmp_path: Path) -> None:
    counts, _ = quick.run(jobs(mutations.Target(hide, lambda: [b"a"]), "a", tmp_path), 1, time.monotonic() + 60)
    assert counts["failing"]["over memory"] == 1


@pytest.mark.parametrize("name", TARGETS)
def test_seed_files_are_accepted_and_inputs_are_repeatable(name: str) -> None:
    target, seeds = TARGETS[name], SEEDS[name]()
    assert [fuzz.outcome(target, data)[0] for data in seeds] == ["accepted"] * len(seeds)
    inputs = [fuzz.input_of(name, seeds, target, 1, number) for number in range(30)]
    assert inputs == [fuzz.input_of(name, seeds, target, 1, number) for number in range(30)]
    assert len(set(inputs)) > 25


@pytest.mark.parametrize("name", TARGETS)
@settings(settings.get_profile("ci"), max_examples=30)
@given(number=st.integers(0, 10**9))
def test_whatever_a_file_holds_it_ends_in_a_value_or_an_error_of_ours(name: str, number: int) -> None:
    """A few of the inputs of `bench/fuzz.py`, each time the same."""
    data = fuzz.input_of(name, SEEDS[name](), TARGETS[name], 0, number)
    what, trace = fuzz.outcome(TARGETS[name], data)
    assert what in {fuzz.ACCEPTED, fuzz.REFUSED}, trace


def record(kind: str, **changes: object) -> bytes:
    """A valid record of a study or a bundle with other values."""
    seeds = SEEDS["bundled" if kind in {"card", "reference", "expected"} else "records"]()
    (seed,) = [seed for seed in seeds if seed.startswith(f"{kind}\n".encode())]
    tree = json.loads(seed.partition(b"\n")[2])
    return f"{kind}\n{json.dumps(tree | changes if isinstance(tree, dict) else changes['of'])}".encode()


LOCK = b"stages:\n  one:\n    cmd: x\n"
CRASHERS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "dvc.lock: an output without its path": ("dvc.lock", lambda: LOCK + b"    outs:\n    - md5: x\n"),
    "dvc.lock: outputs that are a text": ("dvc.lock", lambda: LOCK + b"    outs: text\n"),
    "dvc.lock: an input that is a text": ("dvc.lock", lambda: LOCK + b"    deps: [text]\n"),
    "dvc.lock: params without a file": ("dvc.lock", lambda: LOCK + b"    params: {params.yaml: [a]}\n"),
    "dvc.lock: a param without a name": ("dvc.lock", lambda: LOCK + b"    params: {params.yaml: {null: 1}}\n"),
    "dvc.lock: an alias of nothing": ("dvc.lock", lambda: LOCK + b"    deps: *a\n"),
    "dvc.lock: a value that is no bool": ("dvc.lock", lambda: LOCK + b"    deps: !!bool 1\n"),
    "index: without labels": ("index", lambda: b"id,path,patient,split,source,pixel_hash\na,a,,,,0\n"),
    "index: without patients": ("index", lambda: b"id,path,label,split,source,pixel_hash\na,a,A,,,0\n"),
    "index: an image twice": (
        "index", lambda: b"id,path,label,patient,split,source,pixel_hash\n" + b"Healthy/a,a,Healthy,,,,0\n" * 2,
    ),
    "model.json: an epoch that is a list": ("records", lambda: record("model", best_epoch=[])),
    "model.json: a list": ("records", lambda: b"model\n[]"),
    "session: jobs that are a list": ("records", lambda: record("session", jobs=[1])),
    "session: an unknown key": ("records", lambda: record("session", other=1)),
    "session: resources that are none": ("records", lambda: record("session", resources=[])),
    "summary: a result without metrics": ("records", lambda: record("summary", results=[{"experiment": "baseline"}])),
    "summary: a number for a list": ("records", lambda: record("summary", chosen_on_test=0.5)),
    "summary: units that are a mapping": ("records", lambda: record("summary", intervals={"units": {}})),
    "calibration: a number": ("records", lambda: record("calibration", of=[1])),
    "calibration: a temperature that is none": (
        "records", lambda: record("calibration", of=[{"experiment": "baseline", "repeat": 0, "temperature": "x"}]),
    ),
    "source: a list": ("records", lambda: b"source\n[]"),
    "source: sources that are a list": ("records", lambda: record("source", sources=[1])),
    "reference: limits that are none": ("bundled", lambda: record("reference", appearance=LOOKS | {"limits": None})),
    "reference: no limit of the layout": (
        "bundled", lambda: record("reference", appearance=LOOKS | {"limits": {"features": 1.0}}),
    ),
    "reference: so many images that are none": ("bundled", lambda: record("reference", n_train="x")),
    "reference: views that are numbers": (
        "bundled",
        lambda: record("reference", expected={"modalities": [1], "views": [], "body_parts": [], "chest": True}),
    ),
}  # fmt: skip
"""Inputs that ended in a traceback."""
LOOKS = {"limits": {"features": 1.0, "layout": 1.0}, "n_valid": 60, "rest": {"features": 1, "layout": 1}, "lungs": None}
FORGOTTEN: dict[str, Callable[[], bytes]] = {
    "hashes: a list": lambda: b"hashes\n[]",
    "hashes: no rows": lambda: b'hashes\n{"/a": 1, "/b": [NaN, 0, "x"], "\\ud800": [0, 0, "x"]}',
    "running: a process of no number": lambda: record("running", pid=0.5),
    "running: a stage that is a list": lambda: record("running", stage=[]),
    "running: metrics that are a list": lambda: record("running", metrics=[]),
}
"""What is remembered only to save time is forgotten where it is not as it was written."""


@pytest.mark.parametrize(("target", "data"), CRASHERS.values(), ids=CRASHERS)
def test_what_ended_in_a_traceback_is_refused_in_a_sentence(target: str, data: Callable[[], bytes]) -> None:
    assert fuzz.outcome(TARGETS[target], data()) == (fuzz.REFUSED, "")


@pytest.mark.parametrize("data", FORGOTTEN.values(), ids=FORGOTTEN)
def test_what_saves_time_alone_is_forgotten_where_it_is_damaged(data: Callable[[], bytes]) -> None:
    assert fuzz.outcome(TARGETS["records"], data()) == (fuzz.ACCEPTED, "")


def test_mutated_chunks_have_right_checksums() -> None:
    (seed,) = TARGETS["png"].seeds()[:1]
    for number in range(50):
        data = mutations.change_chunk(seed, Random(number))
        at = 8
        while at < len(data):
            length = int.from_bytes(data[at : at + 4], "big")
            assert int.from_bytes(data[at + 8 + length : at + 12 + length], "big") == zlib.crc32(
                data[at + 4 : at + 8 + length]
            )
            at += 12 + length


def test_a_dicom_file_is_made_of_its_elements() -> None:
    seed = next(iter(TARGETS["dicom"].seeds()))
    assert mutations.dicom_file(mutations.dicom_elements(seed)) == seed


def test_an_unknown_target_is_refused_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz.py", "pgn"])
    with pytest.raises(SystemExit, match=r"^pgn: the targets are png, jpeg, "):
        importlib.import_module("fuzz").main()
