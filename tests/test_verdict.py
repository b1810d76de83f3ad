"""What the page and the terminal claim: no more than the paired tests allow."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import finished_study
import pytest
from rich.console import Console

from xraylab import files
from xraylab.report import terminal, text, verdict
from xraylab.stages import evaluate


def _row(first: str, figure: str, difference: float, p: float, kind: str = "baseline") -> dict[str, Any]:
    sentence = f"{first} {figure} {difference} {kind}."
    known = {"kind": kind, "first": first, "second": "baseline", "figure": figure, "sentence": sentence}
    return {**known, "difference": difference, "p_holm": p}


def _summary(ranked: list[str], comparisons: list[dict[str, Any]], on_test: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "ranking": [{"experiment": name} for name in ranked],
        "top_two": ranked[:2],
        "baseline": "baseline",
        "chosen_on_test": list(on_test),
        "comparisons": comparisons,
    }


@pytest.mark.parametrize(
    ("ranked", "comparisons", "on_test", "said"),
    [
        (["l2"], [], (), "One experiment, l2: there is nothing to compare it with."),
        (["l2", "baseline"], [_row("l2", "f1", 0.1, 0.2)], (),
         "l2 comes first, but is not shown to differ from baseline."),
        (["l2", "baseline"], [_row("l2", "f1", 0.1, 0.01), _row("l2", "auroc", 0.1, 0.04)], (),
         "l2 comes first, and is shown to beat baseline in F1 and AUROC."),
        (["l2", "baseline"], [_row("l2", "f1", -0.1, 0.01)], (),
         "l2 comes first on validation, but is shown to be behind baseline in F1."),
        (["baseline", "l2"], [_row("l2", "f1", -0.1, 0.01)], (),
         "The baseline comes first on validation; no experiment is shown to beat it."),
        (["baseline", "l2"], [_row("l2", "f1", 0.1, 0.01)], (),
         "The baseline comes first on validation; l2 beats it on the test images."),
        (["l2", "baseline"], [_row("l2", "f1", 0.1, 0.001)], ("l2",),
         "l2 comes first, on the very test images that chose: nothing is shown about new ones."),
    ],
)  # fmt: skip
def test_the_headline(
    ranked: list[str], comparisons: list[dict[str, Any]], on_test: tuple[str, ...], said: str
) -> None:
    assert verdict.headline(_summary(ranked, comparisons, on_test), 0.95) == said


def test_the_paragraph_names_all_that_differ() -> None:
    rows = [_row("l2", "f1", 0.1, 0.2), _row("l2", "auroc", 0.1, 0.01), _row("dropout", "f1", 0.1, 0.3)]
    top = _row("l2", "f1", 0.1, 0.2, "top two")
    assert verdict.paragraph(_summary(["l2", "dropout", "baseline"], [*rows, top]), 0.95) == [
        "l2 f1 0.1 baseline.",
        "l2 f1 0.1 top two.",
        "Shown to differ from the baseline: l2 in AUROC; in nothing else.",
    ]


def test_the_paragraph_where_nothing_differs() -> None:
    rows = [_row(name, "f1", 0.1, 0.2) for name in ("l2", "dropout")]
    said = verdict.paragraph(_summary(["l2", "baseline", "dropout"], rows), 0.95)
    assert said[1:] == ["None of the 2 experiments is shown to differ from the baseline in accuracy, F1 or AUROC."]


def test_p_and_minus_as_people_write_them() -> None:
    assert [text.p_value(p) for p in (None, 0.0001, 0.0123, 0.123)] == ["not tested", "< 0.001", "0.012", "0.12"]
    assert text.minus("a-1 has F1 -0.01, CI -0.2 to +0.1") == "a-1 has F1 −0.01, CI −0.2 to +0.1"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study")
    evaluate.run(*finished_study.make(root, {"evaluate": {"draws": 100}}))
    return root


def test_the_terminal_shows_the_ranking_with_test_figures(study: Path) -> None:
    summary = files.read_json(study / "reports/evaluation/summary.json")
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(terminal.comparison(summary))
    shown = [line.split("│")[1:-1] for line in console.export_text().splitlines() if line.startswith("│")]
    assert [cells[0].strip() for cells in shown] == [row["experiment"] for row in summary["ranking"]]
    means = {row["experiment"]: row for row in summary["means"] if (row["checkpoint"], row["side"]) == ("best", "test")}
    for cells in shown:
        row = means[cells[0].strip()]
        assert [cell.strip() for cell in cells[2:5]] == [
            f"{100 * row['accuracy']:.2f}",
            f"{row['f1']:.4f}",
            f"{row['auroc']:.4f}",
        ]


def test_show_imports_nothing_heavy(study: Path) -> None:
    program = (
        "import sys; from xraylab.cli import app; app(['show'], standalone_mode=False); "
        "print(sorted({'pandas', 'numpy', 'torch', 'matplotlib', 'dvc'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=study, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
