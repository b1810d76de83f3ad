"""Mutation testing: mutants are repeatable, and those that tests notice are told from those that they do not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import small

BENCH = small.REPOSITORY / "bench"
sys.path.insert(0, str(BENCH))
import mutants as bench  # noqa: E402
import mutants_operators as operators  # noqa: E402

TINY = '''"""Tiny."""


def larger(one, other):
    """The larger of the two."""
    return one if one > other else other


def waits():
    number = 3
    while number > 0:
        number -= 1
    return "done"


def unused():
    return 7 + 1
'''
NOTICES = """import pytest
from xraylab.tiny import larger, waits


@pytest.fixture(scope="module")
def shared():
    return waits()


def test_larger():
    assert larger(1, 2) == 2
    assert larger(5, 3) == 5


def test_waits(shared):
    assert shared == "done"


def test_fails_anyway():
    assert larger(1, 2) == 1
"""
RUN = """import sys
from pathlib import Path
import measure
import mutants
measure.REPOSITORY, mutants.SOURCE = Path.cwd(), Path.cwd() / "src/xraylab"
mutants.PARTS, mutants.EQUIVALENT = {"tiny": mutants.Part(["tiny"], ["test_tiny"])}, Path("equivalent.toml")
mutants.IMPORTS, mutants.POLL = 1, 0.01
sys.exit(mutants.main())
"""
SAME = "tiny: larger: return one if one > other else other -> return one if one >= other else other"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    for name, text in {
        "src/xraylab/__init__.py": "", "src/xraylab/tiny.py": TINY, "tests/test_tiny.py": NOTICES,
        "equivalent.toml": f'[[equivalent]]\nmutant = "{SAME}"\nwhy = "of two that are equal either is the larger"\n',
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run(folder: Path, *options: str) -> tuple[dict[str, dict[str, Any]], str]:
    """What is recorded of each mutant, and what was printed; the result is in `results`."""
    command = [sys.executable, "-c", RUN, "--folder", "work", "--to", "results", "--processes", "2", *options]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(BENCH)]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }  # fmt: skip
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    lines = (folder / "work/results.jsonl").read_text().splitlines()
    return {record["key"].removeprefix("tiny: "): record for record in map(json.loads, lines)}, done.stdout


def test_what_tests_notice_is_killed_and_the_rest_survives_with_those_that_are_equivalent_apart(tiny: Path) -> None:
    records, _ = run(tiny)
    larger = "larger: return one if one > other else other -> return "
    assert records[f"{larger}other if one > other else one"]["what"] == "killed"
    assert records[f"{larger}None"]["by"] == "tests/test_tiny.py::test_larger"
    assert records["waits: number -= 1 -> pass"]["what"] == "timeouts"
    assert records["unused: return 7 + 1 -> return None"]["what"] == "survived"
    assert records["unused: return 7 + 1 -> return None"]["tests"] == 0
    result = json.loads((tiny / "results/mutants.json").read_text())
    (row, every) = result["tables"]["Mutants"]
    assert row | {"code": "all"} == every
    assert every["equivalent"] == 1
    assert every["mutants"] == every["killed"] + every["timeouts"] + every["survived"] + 1 == len(records)
    assert SAME not in [each["survived"] for each in result["tables"]["Survivors"]]
    noticed = every["killed"] + every["timeouts"]
    assert result["gates"]["killed, of those not equivalent"]["measured"] == round(noticed / (len(records) - 1), 3)


def test_a_run_goes_on_and_tries_survivors_again_once_tests_have_changed(tiny: Path) -> None:
    records, _ = run(tiny, "--only", "unused: ")
    assert {record["what"] for record in records.values()} == {"survived"}
    assert f"{len(records)} mutants are known, 0 to try" in run(tiny, "--only", "unused: ")[1]
    noticed = f"{NOTICES}\n\ndef test_unused():\n    from xraylab.tiny import unused\n\n    assert unused() == 8\n"
    (tiny / "tests/test_tiny.py").write_text(noticed)
    assert {record["what"] for record in run(tiny, "--only", "unused: ")[0].values()} == {"killed"}


def test_every_module_and_test_is_there_and_mutants_are_repeatable() -> None:
    assert [test for test in bench.tests_of(bench.PARTS) if not (small.REPOSITORY / test).is_file()] == []
    for module in bench.modules_of(bench.PARTS)[::7]:
        source = (bench.SOURCE / f"{module}.py").read_text()
        assert operators.mutants(module, source) == operators.mutants(module, source)


def test_every_reason_is_of_a_mutant_that_there_is() -> None:
    reasons = bench.equivalent()
    modules = {key.partition(":")[0] for key in reasons}
    made = [one.key for name in modules for one in operators.mutants(name, (bench.SOURCE / f"{name}.py").read_text())]
    assert set(reasons) <= set(made)


@pytest.mark.parametrize(
    ("module", "after"),
    [
        ("data/dataloaders", "self.augmenter.draw(0, self.n)"),
        ("train/callbacks", "half = (1 - share) / 2"),
        ("train/callbacks", "self.mixed(images, partners, share)"),
    ],
)
def test_faults_that_were_there_once_are_among_the_mutants(module: str, after: str) -> None:
    made = operators.mutants(module, (bench.SOURCE / f"{module}.py").read_text())
    assert any(after in mutant.after for mutant in made)
