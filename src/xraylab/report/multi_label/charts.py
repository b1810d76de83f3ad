"""Small multiples of a multi-label study: the same small chart of every finding, side by side."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from xraylab.report import charts
from xraylab.report.artefacts import Artefacts
from xraylab.report.charts import INK, line_style, panel, plot_repeats, style, svg
from xraylab.report.curves import KeyLine, of_runs
from xraylab.report.multi_label import tables
from xraylab.report.records import MACRO, Summary, Tree
from xraylab.report.text import decimal

Curves = dict[int, list[pd.DataFrame]]  # number of the experiment -> a table per run
SIZE = 1.55  # inches, of each chart
TICKS = (0, 0.5, 1)
EDGE = 0.03


@dataclass(frozen=True)
class Kind:
    """A kind of chart: the folder of its tables, what the axes are, and how one chart is drawn."""

    heading: str
    folder: str
    x: str
    y: str
    reference: str
    draw: Callable[[Axes, Curves, float], None]


def _roc(axes: Axes, curves: Curves, share: float) -> None:
    axes.plot([0, 1], [0, 1], color=INK, alpha=0.3, linewidth=0.6, linestyle="dotted")
    plot_repeats(axes, curves, "fpr", "tpr")


def _precision_recall(axes: Axes, curves: Curves, share: float) -> None:
    axes.axhline(share, color=INK, alpha=0.3, linewidth=0.6, linestyle="dotted")
    plot_repeats(axes, curves, "recall", "precision", drawstyle="steps-post")


def _calibration(axes: Axes, curves: Curves, share: float) -> None:
    axes.plot([0, 1], [0, 1], color=INK, alpha=0.3, linewidth=0.6, linestyle="dotted")
    plot_repeats(axes, curves, "probability", "observed", marker="o", markersize=2)


KINDS = (
    Kind("ROC", "roc", "false-positive rate", "sensitivity", "chance", _roc),
    Kind("Precision and recall", "pr", "recall", "precision", "chance: share with the finding", _precision_recall),
    Kind("Calibration", "reliability", "predicted probability", "observed share", "perfect calibration", _calibration),
)


def curves(data: Artefacts) -> Tree:
    """Per kind, a chart of every finding that has curves, with the experiments that the tables show."""
    summary, names = data.summary, tables.shown(data.summary)
    numbers = {name: number for number, name in enumerate(summary.experiments) if name in names}
    best = tables.test_estimates(data, names[0])
    estimates = {name: tables.test_estimates(data, name)[MACRO, "auroc"].value for name in names}
    return {
        "kinds": [(kind, _panels(data, kind, set(numbers.values()))) for kind in KINDS],
        "aurocs": {name: decimal(best[name, "auroc"].value, 2) for name in summary.macro_over},
        "first": names[0],
        "key": [KeyLine(name, line_style(numbers[name]), estimates[name], summary.mark(name)) for name in numbers],
        "left_out": len(summary.experiments) - len(numbers),
    }


def _panels(data: Artefacts, kind: Kind, numbers: set[int]) -> dict[str, Markup]:
    """Finding -> its chart."""
    shares, panels = data.test_shares, {}
    for name, of_finding in of_findings(data.paths.evaluation / kind.folder, data.summary).items():
        shown = {number: tables_ for number, tables_ in of_finding.items() if number in numbers}
        panels[name] = _panel(kind, shown, shares[name], f"{kind.heading} of {name} on the test images")
    return panels


def of_findings(folder: Path, summary: Summary) -> dict[str, Curves]:
    """Finding -> its curves, of the findings that have any."""
    every = {name: of_runs(folder, summary, f"{name}.csv") for name in summary.classes}
    return {name: each for name, each in every.items() if any(each.values())}


def _panel(kind: Kind, each: Curves, share: float, alt: str) -> Markup:
    with matplotlib.rc_context(style(alt) | {"font.size": 6.5}):
        figure, axes = panel(SIZE, SIZE)
        kind.draw(axes, each, share)
        square(axes)
        return svg(figure, alt)


def square(axes: Axes) -> None:
    """Both axes from 0 to 1, with few ticks."""
    axes.set(xlim=(-EDGE, 1 + EDGE), ylim=(-EDGE, 1 + EDGE), xticks=TICKS, yticks=TICKS, aspect="equal")
    axes.set_xticklabels(["0", ".5", "1"])
    axes.set_yticklabels(["0", ".5", "1"])


def aurocs(data: Artefacts) -> Markup:
    """The AUROC of each finding with its interval, a mark per experiment shown."""
    names = tables.shown(data.summary)
    alt = f"AUROC of each finding on the test images, with intervals: {', '.join(names)}"
    numbers = {name: number for number, name in enumerate(data.summary.experiments)}
    with matplotlib.rc_context(style(alt)):
        findings = data.summary.macro_over
        figure, axes = panel(3.7, 0.5 + (0.1 + 0.05 * len(names)) * len(findings))
        for offset, name in enumerate(names):
            estimates = tables.test_estimates(data, name)
            for row, finding in enumerate(findings):
                estimate, height = estimates[finding, "auroc"], row + (offset - (len(names) - 1) / 2) * 0.24
                colour = line_style(numbers[name])[0]
                if estimate.ci_low is not None and estimate.ci_high is not None:
                    axes.plot([estimate.ci_low, estimate.ci_high], [height] * 2, color=colour, linewidth=1.1)
                if estimate.value is not None:
                    axes.plot([estimate.value], [height], "o", color=colour, markersize=3, markeredgewidth=0)
        axes.axvline(0.5, color=INK, alpha=0.4, linewidth=0.7, linestyle="dotted")
        charts.name_rows(axes, findings)
        axes.set(xlabel="AUROC")
        dots = charts.experiments_key((numbers[name] for name in names), linestyle="", marker="o", markersize=3)
        return svg(figure, alt, [*dots, ("chance", charts.DOTTED)])
