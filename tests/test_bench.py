"""The benches: they import, their results name the state, their gates hold or fail, and docs are made of them."""

import importlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import small
from sklearn.metrics import roc_auc_score

BENCH = small.REPOSITORY / "bench"
BENCHES = sorted(path.stem for path in BENCH.glob("*.py"))


@pytest.fixture(autouse=True)
def _on_the_path() -> Iterator[None]:
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    module = importlib.import_module("measure")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench/training.py"])
    return module


@pytest.mark.parametrize("name", BENCHES)
def test_every_name_that_a_bench_imports_is_there(name: str) -> None:
    assert importlib.import_module(name).__doc__


def test_make_bench_runs_every_bench_that_writes_a_result_but_for_real_images_and_a_gpu() -> None:
    (line,) = (line for line in (small.REPOSITORY / "Makefile").read_text().splitlines() if "for each in" in line)
    listed = set(line.partition("for each in ")[2].partition(";")[0].split())
    writing = {path.stem for path in BENCH.glob("*.py") if "measure.write(" in path.read_text()}
    apart = {"accelerator", "accuracy", "duplicates", "engines", "faults", "findings_level", "fuzz", "nodes", "scale"}
    apart |= {"mutants", "transfer"}
    assert listed == writing - apart


def test_a_result_names_the_state_and_whether_gates_hold(measure: ModuleType, tmp_path: Path) -> None:
    gates = {"fast": measure.Gate(0.97, least=0.95), "slow": measure.Gate(1.5, most=1.43, note="new")}
    assert measure.write("training", {"Rates": [{"what": "ours", "images/s": 17.4}]}, gates, ["float32"]) is False
    result = json.loads((tmp_path / "training.json").read_text())
    assert list(result) == ["bench", "command", "state", "minutes", "tables", "gates"]
    assert result["command"] == "python bench/training.py"
    assert set(result["state"]) == {
        "processor", "instructions", "cores", "device", "precision", "torch", "python", "date", "commit",
    }  # fmt: skip
    assert result["gates"]["fast"] == {"measured": 0.97, "holds": True, "at least": 0.95}
    assert result["gates"]["slow"] == {"measured": 1.5, "holds": False, "at most": 1.43, "note": "new"}


def test_all_gates_must_hold_and_nothing_fail(measure: ModuleType) -> None:
    gates = {"one": measure.Gate(1.0, least=1.0), "none": measure.Gate(0, most=0)}
    assert measure.write("training", {}, gates) is True
    assert measure.write("training", {}, gates, failed={"fastai": "OSError: no"}) is False


def test_variants_take_turns_and_say_so(
    measure: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = itertools.count()
    monkeypatch.setattr(measure.time, "perf_counter", lambda: float(next(clock)))
    order: list[str] = []
    variants = {"a": lambda: order.append("a") or 10, "b": lambda: order.append("b") or 20}
    assert measure.interleaved(variants, 2) == {"a": [10.0, 10.0], "b": [20.0, 20.0]}
    assert order == ["a", "b"] * 3  # the first turns warm up
    printed = [line.strip().partition("  ")[2] for line in capsys.readouterr().out.splitlines()]
    assert printed[0] == "warm-up, a: 10.0 images/s"
    assert printed[-1] == "round 2 of 2, b: 20.0 images/s"


def test_how_many_times_as_fast_is_compared_within_rounds(measure: ModuleType) -> None:
    """The machine slows down threefold after the first round; the ratio does not."""
    assert measure.times([30.0, 10.0, 10.0], [20.0, 20 / 3, 20 / 3]) == pytest.approx(1.5)


def test_docs_are_made_of_results(measure: ModuleType, tmp_path: Path) -> None:
    rows = [{"what": "ours", "images/s": 17.4, "images": 1280}, {"what": "bare", "images/s": 1234.5}]
    measure.write("training", {"Rates": rows}, {"share": measure.Gate(0.97, least=0.95)}, ["float32"])
    text = (
        "Before\n<!-- bench: training -->\nformer figures\n<!-- end -->\n<!-- bench: absent -->\nkept\n<!-- end -->\n"
    )
    made = importlib.import_module("tables").written(text, tmp_path)
    assert "| what | images/s | images |\n| --- | --- | --- |\n| ours | 17.4 | 1,280 |\n| bare | 1,234.5 |  |\n" in made
    assert "| share | 0.97 | at least 0.95 | yes |" in made
    assert "`python bench/training.py`: " in made
    assert "former figures" not in made
    assert made.startswith("Before\n<!-- bench: training -->\n")
    assert made.endswith("<!-- end -->\n<!-- bench: absent -->\nkept\n<!-- end -->\n")
    assert importlib.import_module("tables").written(made, tmp_path) == made


def test_every_block_of_the_docs_names_a_bench() -> None:
    tables = importlib.import_module("tables")
    named = [
        match["name"]
        for path in (small.REPOSITORY / "docs").glob("*.md")
        for match in tables.BLOCK.finditer(path.read_text())
    ]
    writing = {path.stem for path in BENCH.glob("*.py") if "measure.write(" in path.read_text()}
    # a part of a bench, or the same in another precision, has a name that goes on after the bench's
    owners = [
        max((each for each in writing if f"{name}_".startswith(f"{each}_")), key=len, default=name) for name in named
    ]
    assert set(owners) == writing


def test_a_part_that_fails_is_named_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = importlib.import_module("accelerator")

    def broken(*_: object) -> None:
        raise OSError("no such film")

    parts = {"first": broken, "second": lambda size, folder: ({"T": [{"a": 1}]}, {})}
    monkeypatch.setattr(accelerator, "PARTS", parts)
    assert accelerator.parts(["first", "second"], accelerator.SMALL) == (
        {"T": [{"a": 1}]}, {}, {"first": "OSError: no such film"},
    )  # fmt: skip


@pytest.mark.slow
def test_the_bench_of_a_gpu_runs_on_a_cpu_at_a_small_size(tmp_path: Path) -> None:
    command = [sys.executable, "bench/accelerator.py", "--small", "--to", str(tmp_path)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=small.REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "accelerator.json").read_text())
    assert len(result["tables"]) == 6
    assert all(gate["holds"] for gate in result["gates"].values())
    assert {"largest difference of a gray level, 64 px", "files of weights that differ"} <= set(result["gates"])


def test_networks_that_meet_another_hospital_never_saw_its_patients(tmp_path: Path) -> None:
    """Classes of one size in whole patients, of whom those held out have every image on one side."""
    transfer = importlib.import_module("transfer")
    for folder, prefix in (
        ("tb/Normal", "n{0}"), ("tb/TB", "t{0}"),
        ("kermany/chest_xray/train/NORMAL", "IM-{0:04}-0001"),
        ("kermany/chest_xray/train/PNEUMONIA", "person{1}_virus_{0}"),
        ("covid3/No_findings", "{1:08}_{0:03}"), ("covid3/Pneumonia", "{1:08}_{0:03}"), ("covid3/Covid-19", "c{0}"),
    ):  # fmt: skip
        (tmp_path / folder).mkdir(parents=True)
        for number in range(40):
            (tmp_path / folder / f"{prefix.format(number, number // 4)}.png").touch()
    data = transfer.table(tmp_path)
    counts = data.groupby(["source", "target"]).size()
    assert (counts.min(), counts.max() <= 45) == (40, True)
    held_out = data.groupby(["source", "patient"])["held_out"].agg(["min", "max", "size"])
    assert (held_out["min"] == held_out["max"]).all()
    assert held_out["size"].max() >= 4
    assert 0.1 < data["held_out"].mean() < 0.4


def test_the_auroc_of_several_seeds_is_their_mean_and_lies_in_its_interval() -> None:
    transfer = importlib.import_module("transfer")
    rng, count = np.random.default_rng(0), 200
    data = pd.DataFrame(
        {
            "source": ["tb"] * count, "target": np.arange(count) % 2, "held_out": np.arange(count) < 60,
            "patient": [str(number // 2) for number in range(count)],
        }
    )  # fmt: skip
    inside, outside = (
        [transfer.Trained("x", on, seed, rng.random(count) + 0.3 * data["target"].to_numpy()) for seed in (0, 1)]
        for on in (("tb",), ("kermany",))
    )
    for runs, rows in ((inside, data["held_out"]), (outside, data["held_out"] | True)):
        value, draws = transfer.drawn(data, runs, "tb")
        each = [roc_auc_score(data["target"][rows], run.p[rows]) for run in runs]
        assert value == pytest.approx(np.mean(each))
        assert np.percentile(draws, 2.5) < value < np.percentile(draws, 97.5)
    assert transfer.row(data, "x", False, [*inside, *outside]) is None  # a source is missing
