"""What the page and the terminal claim: no more than the paired tests allow."""

import io
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import finished_study
import pytest
from rich.console import Console

from xraylab import files
from xraylab.report import summary, text
from xraylab.report.records import Comparison, Ranked, Summary
from xraylab.stages import evaluate


def _row(first: str, difference: float | None, p: float | None, **changes: Any) -> Comparison:
    known = {"kind": "baseline", "role": "primary", "about": "settings", "first": first, "second": "baseline"}
    told = {"metric": "auroc", "sentence": f"{first} {difference}.", "first_sd": 0.004, "second_sd": 0.006}
    return Comparison(**({**known, **told, "difference": difference, "p_holm": p} | changes))


def _summary(ranked: list[str], comparisons: list[Comparison], **changes: Any) -> Summary:
    """Of three repeats."""
    values = dict.fromkeys((field.name for field in fields(Summary)), None) | {
        "ranking": [Ranked(name, 0.5) for name in ranked],
        "top_two": ranked[:2],
        "baseline": "baseline",
        "primary": "auroc",
        "chosen_on_test": [],
        "comparisons": comparisons,
        "confidence": 0.95,
        "runs": [SimpleNamespace(repeat=repeat) for repeat in range(3)],
    }
    return Summary(**(values | changes))


ONCE = {"about": "trained networks"}
NONE = "No experiment is shown to be better than the baseline"


@pytest.mark.parametrize(
    ("comparisons", "changes", "said"),
    [
        ([], {}, "There is only one experiment, l2, so nothing to compare it with."),
        ([_row("l2", 0.1, 0.2)], {}, f"{NONE} in AUROC: the largest difference, +0.100 (l2), may be due to chance."),
        ([_row("l2", 0.1, 0.01), _row("dropout", -0.2, 0.01)], {},
         "l2 (+0.100) is shown to be better than the baseline in AUROC; dropout (-0.200) is shown to be worse."),
        ([_row("l2", 0.1, 0.01), _row("dropout", 0.2, 0.01)], {},
         "l2 (+0.100) and dropout (+0.200) are shown to be better than the baseline in AUROC."),
        ([_row("l2", -0.1, 0.01)], {}, f"{NONE} in AUROC: l2 (-0.100) is shown to be worse."),
        ([_row("l2", -0.1, 0.01, **ONCE)], {},
         f"{NONE} in AUROC: the network of l2 (-0.100) is shown to be worse."),
        ([_row("l2", -0.1, 0.3), _row("dropout", 0.0, 1.0)], {},
         f"{NONE} in AUROC: none scores higher."),
        ([_row("l2", 0.1, 0.001, **ONCE)], {},
         f"{NONE}: each was trained only once, and another seed could reverse the difference in AUROC."),
        ([_row("l2", 0.1, None, why="only 4 patients of TB; at least 5 are needed")], {},
         f"{NONE} in AUROC: only 4 patients of TB; at least 5 are needed."),
        ([_row("l2", 0.1, 0.001)], {"chosen_on_test": ["l2"]},
         f"{NONE}: the test images were used for selection, so they say nothing about new images."),
        ([_row("l2", 0.1, 0.3, second="first")], {"baseline": "first"},
         "No experiment is shown to be better than the baseline (first) in AUROC: "
         "the largest difference, +0.100 (l2), may be due to chance."),
    ],
)  # fmt: skip
def test_the_headline(comparisons: list[Comparison], changes: dict[str, Any], said: str) -> None:
    assert summary.headline(_summary(["l2", "baseline"], comparisons, **changes)) == said


def test_an_exploratory_metric_never_reaches_the_headline() -> None:
    rows = [_row("l2", 0.1, 0.3), _row("l2", 0.2, 0.001, metric="accuracy", role="exploratory")]
    said = summary.headline(_summary(["l2", "baseline"], rows))
    assert said == f"{NONE} in AUROC: the largest difference, +0.100 (l2), may be due to chance."
    assert "0.2" not in " ".join(summary.conclusions(_summary(["l2", "baseline"], rows)))


def test_the_paragraph_names_what_differs_and_how_seeds_spread() -> None:
    rows = [_row("l2", 0.1, 0.2), _row("dropout", 0.1, 0.01), _row("contrast", 0.1, 0.6)]
    assert summary.conclusions(_summary(["l2", "dropout", "baseline"], rows)) == [
        "l2 0.1.",
        "dropout 0.1.",
        "The other is not shown to differ from the baseline.",
        "The standard deviation of AUROC over 3 repeats is baseline 0.006, l2 0.004, dropout 0.004 and contrast 0.004.",
    ]


def test_the_paragraph_of_single_trainings_says_what_that_leaves_open() -> None:
    rows = [_row(name, 0.1, 0.2, **ONCE) for name in ("l2", "dropout", "contrast")]
    assert summary.conclusions(_summary(["baseline", "l2"], rows)) == [
        "l2 0.1.",
        "None of the other 2 is shown to differ from the baseline.",
        "Every experiment was trained once: this is about these trained networks, and another seed could reverse it.",
    ]


def test_p_and_minus_as_people_write_them() -> None:
    assert [text.p_value(p) for p in (None, 0.0001, 0.0123, 0.123)] == ["not tested", "< 0.001", "0.012", "0.12"]
    assert text.p_value(1e-4, at_most=True) == "≤ 0.0001"
    assert text.minus("a-1 has F1 -0.01, CI -0.2 to +0.1") == "a-1 has F1 −0.01, CI −0.2 to +0.1"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study")
    evaluate.run(*finished_study.make(root))
    return root


def test_the_terminal_shows_the_ranking_with_test_metrics(study: Path) -> None:
    evaluated = Summary.of(files.read_json(study / "reports/evaluation/summary.json"))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(summary.for_terminal(evaluated))
    shown = [line.split("│")[1:-1] for line in console.export_text().splitlines() if line.startswith("│")]
    assert [cells[0].strip() for cells in shown] == [row.experiment for row in evaluated.ranking]
    for cells in shown:
        mean = evaluated.test_mean(cells[0].strip())
        assert [cell.strip() for cell in cells[2:5]] == [
            f"{100 * mean.accuracy:.2f}",
            f"{mean.f1:.4f}",
            f"{mean.auroc:.4f}",
        ]


def test_show_imports_nothing_heavy(study: Path) -> None:
    program = (
        "import sys; from xraylab.cli import app; app(['show'], standalone_mode=False); "
        "print(sorted({'pandas', 'numpy', 'torch', 'matplotlib', 'dvc'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=study, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
