"""The fuzzer: its inputs are repeatable, and each way in which an input can fail is noticed."""

import functools
import importlib
import os
import sys
import time
import zlib
from collections.abc import Iterator
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
