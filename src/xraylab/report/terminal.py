"""The comparison table for a terminal. Imports nothing that takes time: no pandas, no matplotlib."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from xraylab.report import answer, shortcuts, verdict
from xraylab.report.text import decimal, minus, p_value, percent


def comparison(summary: dict[str, Any], shortcut: str | None = None) -> RenderableType:
    """The experiments in their order on validation: test figures of the best epochs, and the test against the baseline.

    `summary`: reports/evaluation/summary.json; `shortcut`: why its figures may not hold elsewhere, said before them.
    """
    confidence = summary["intervals"]["confidence"]
    said = [verdict.headline(summary, confidence), *verdict.paragraph(summary, confidence)]
    notes = [f"{answer.DAGGER} chosen on the test images, and so too favourable"] if summary["chosen_on_test"] else []
    lines = [Text(minus(sentence)) for sentence in [*said, *notes]]
    before = [Text(f"warning: {shortcuts.OPENING} {shortcut}", style="bold")] if shortcut else []
    return Group(*before, _table(summary), *lines)


def _table(summary: dict[str, Any]) -> Table:
    means = {(row["experiment"], row["side"]): row for row in summary["means"] if row["checkpoint"] == "best"}
    p = {row["first"]: row["p_holm"] for row in summary["comparisons"] if row["role"] == "primary"}
    ranked_on, chief = summary["ranked_on"], f"p of {verdict.FIGURES[summary['primary']]}"
    table = Table("experiment", *(_head(name) for name in (f"{ranked_on} F1", "accuracy %", "F1", "AUROC", chief)))
    for row in summary["ranking"]:
        name = row["experiment"]
        test, dagger = means[name, "test"], answer.mark(summary, name)
        figures = [decimal(means[name, ranked_on]["f1"]), percent(test["accuracy"]), decimal(test["f1"])]
        shown = [figure + dagger for figure in [*figures, decimal(test["auroc"])]]
        table.add_row(Text(name), *shown, "baseline" if name == summary["baseline"] else p_value(p[name]))
    return table


def _head(name: str) -> Column:
    return Column(name, justify="right")
