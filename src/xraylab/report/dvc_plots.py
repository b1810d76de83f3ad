"""Pictures of each kind of curve and of the confusion matrices, with all experiments in each.

`dvc plots` shows those that `plot_tables` has no table for; a paper has all.
"""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xraylab import files
from xraylab.report.charts import limits, line_style, plot_repeats, style
from xraylab.report.curves import of_runs
from xraylab.report.multi_label.charts import KINDS, Kind, of_findings, square
from xraylab.report.records import Summary, Tree

WIDTH, HEIGHT = 3.0, 2.9  # inches, of each axes
BELOW = 0.22  # inches, of each line of the key
KEYED, ACROSS = 2, 3  # experiments in a line of the key, matrices in a row
FINDINGS_ACROSS, SMALL = 5, 1.7  # small charts in a row, and inches of each
LONGEST, LONGEST_CLASS = 34, 16  # characters of an experiment's name in the key, of a class's beside a matrix
REFERENCE: Tree = {"color": "#808080", "linestyle": (0, (1, 2)), "linewidth": 1}
SQUARE: Tree = {"xlim": (-0.015, 1.015), "ylim": (-0.015, 1.015), "aspect": "equal"}
SHOWN = ("precision_recall", "confusion")
Curves = dict[int, list[pd.DataFrame]]  # number of the experiment -> a table per run


def write(folder: Path, evaluation: Path, summary: Summary, shares: dict[str, float]) -> None:
    """Write precision_recall.svg, and of single-label studies confusion.svg.

    `shares`: each class's, of the test images. Curves that these do not have (a class without images) are left out.
    """
    with matplotlib.rc_context(style("xraylab")):
        every = figures(evaluation, summary, shares)
        for kind, figure in every.items():
            if figure is not None and kind in SHOWN:
                with files.replacing(folder / f"{kind}.svg") as temporary:
                    figure.savefig(temporary, format="svg", metadata={"Date": None})


def figures(evaluation: Path, summary: Summary, shares: dict[str, float]) -> dict[str, Figure | None]:
    """Kind -> its picture, with a key; None where the study has no such curves."""
    if summary.multi:
        return {"loss": _loss(evaluation, summary)} | {
            name: _multiples(kind, evaluation, summary, shares)
            for name, kind in zip(("roc", "precision_recall", "calibration"), KINDS, strict=True)
        }
    return {
        "loss": _loss(evaluation, summary),
        "roc": _roc(evaluation, summary),
        "precision_recall": _precision_recall(evaluation, summary, shares),
        "calibration": _calibration(evaluation, summary),
        "confusion": _confusion(files.read_json(evaluation / "confusion_matrices.json")),
    }


def _multiples(kind: Kind, evaluation: Path, summary: Summary, shares: dict[str, float]) -> Figure | None:
    """A small chart of every finding that has curves, all experiments in each."""
    every = of_findings(evaluation / kind.folder, summary)
    if not every:
        return None
    across = min(FINDINGS_ACROSS, len(every))
    down = -(-len(every) // across)
    key = BELOW * -(-(len(summary.experiments) + 1) // KEYED)
    size = (max(SMALL * across, 5.6), SMALL * down + 0.5 + key)
    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    figure.suptitle(f"{kind.heading} on the test images, best epoch (across: {kind.x}; up: {kind.y})")
    for number, (name, curves) in enumerate(every.items()):
        axes = figure.add_subplot(down, across, number + 1)
        axes.set_title(_short(name, LONGEST_CLASS + 4))
        kind.draw(axes, curves, shares[name])
        square(axes)
    aurocs = {experiment: summary.test_mean(experiment).auroc for experiment in summary.experiments}
    return _with_key(figure, summary, kind.reference, REFERENCE, aurocs if kind.folder == "roc" else None, "mean AUROC")


def _loss(evaluation: Path, summary: Summary) -> Figure:
    """Training loss, and that of the images that choose the epoch, whose best one is marked."""
    histories = of_runs(evaluation / "curves", summary)
    chosen_on = summary.runs[0].monitored_split
    figure, panels = _panels("Loss", 2, summary)
    lowest, highest = limits([table for tables in histories.values() for table in tables], "loss")
    titles = {"train": "training", chosen_on: {"valid": "validation"}.get(chosen_on, chosen_on)}
    for axes, (split, title) in zip(panels, titles.items(), strict=True):
        plot_repeats(axes, histories, "epoch", f"{split}_loss")
        axes.set(xlabel="epoch", ylabel=f"{title} loss", ylim=(lowest, highest))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for number, runs in enumerate(summary.experiments.values()):
        for run, table in zip(runs, histories[number], strict=True):
            best = pd.to_numeric(table[f"{chosen_on}_loss"], errors="coerce")[run.best_epoch]
            colour = line_style(number)[0]
            panels[1].plot([run.best_epoch], [best], "o", color=colour, markersize=4.5, markeredgewidth=0)
    return _with_key(figure, summary, "selected epoch", {"marker": "o", "linestyle": "", "color": "#808080"})


def _roc(evaluation: Path, summary: Summary) -> Figure | None:
    curves_of_classes = _of_classes(evaluation / "roc", summary)
    if not curves_of_classes:
        return None
    figure, panels = _panels("ROC on the test images, best epoch", len(curves_of_classes), summary)
    for axes, (label, curves) in zip(panels, curves_of_classes.items(), strict=True):
        axes.plot([0, 1], [0, 1], **REFERENCE)
        plot_repeats(axes, curves, "fpr", "tpr")
        axes.set(**SQUARE, title=label, xlabel="false-positive rate (1 − specificity)")
        axes.set(ylabel="true-positive rate (sensitivity)")
    aurocs = {experiment: summary.test_mean(experiment).auroc for experiment in summary.experiments}
    return _with_key(figure, summary, "chance", REFERENCE, aurocs)


def _precision_recall(evaluation: Path, summary: Summary, shares: dict[str, float]) -> Figure | None:
    curves_of_classes = _of_classes(evaluation / "pr", summary)
    if not curves_of_classes:
        return None
    figure, panels = _panels("Precision and recall on the test images, best epoch", len(curves_of_classes), summary)
    for axes, (label, curves) in zip(panels, curves_of_classes.items(), strict=True):
        axes.axhline(shares[label], **REFERENCE)
        plot_repeats(axes, curves, "recall", "precision", drawstyle="steps-post")
        axes.set(**SQUARE, title=label, xlabel="recall (sensitivity)", ylabel="precision (PPV)")
    return _with_key(figure, summary, "chance: share of the class", REFERENCE)


def _calibration(evaluation: Path, summary: Summary) -> Figure:
    figure, (axes,) = _panels("Calibration on the test images, best epoch", 1, summary)
    axes.plot([0, 1], [0, 1], **REFERENCE)
    curves = of_runs(evaluation / "reliability", summary)
    plot_repeats(axes, curves, "probability", "observed", marker="o", markersize=3)
    axes.set(**SQUARE, xlabel="predicted probability", ylabel="observed share")
    return _with_key(figure, summary, "perfect calibration", REFERENCE)


def _confusion(matrices: list[Tree]) -> Figure:
    """A matrix per run: counts, shaded by the share of the actual class."""
    across, down = min(ACROSS, len(matrices)), -(-len(matrices) // ACROSS)
    side = 1.6 + 0.3 * len(matrices[0]["classes"])
    figure = Figure(figsize=(side * across, side * down + 0.3), facecolor="white", layout="constrained")
    figure.suptitle("Confusion on the test images, best epoch")
    several = len({row["repeat"] for row in matrices}) > 1
    for number, row in enumerate(matrices):
        axes = figure.add_subplot(down, across, number + 1)
        title = _short(row["experiment"], LONGEST_CLASS)
        axes.set_title(f"{title}, repeat {row['repeat']}" if several else title)
        _matrix(axes, row["classes"], np.array(row["counts"]), np.array(row["row_shares"], float))
    return figure


def _matrix(axes: Axes, classes: list[str], counts: Any, shares: Any) -> None:
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        ink = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=ink)
    names = [_short(label, LONGEST_CLASS) for label in classes]
    axes.set_xticks(range(len(classes)), names, rotation=90 if len(classes) > 2 or max(map(len, names)) > 8 else 0)
    axes.set_yticks(range(len(classes)), names)
    axes.set(xlabel="predicted", ylabel="actual")
    axes.grid(visible=False)


def _panels(title: str, count: int, summary: Summary) -> tuple[Figure, list[Axes]]:
    """A figure with so many axes side by side, and room for the key below."""
    key = BELOW * -(-(len(summary.experiments) + 1) // KEYED)
    size = (max(WIDTH * count, 5.6), HEIGHT + 0.3 + key)
    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    figure.suptitle(title)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _with_key(
    figure: Figure,
    summary: Summary,
    reference: str,
    how: Tree,
    aurocs: dict[str, float | None] | None = None,
    auroc_name: str = "AUROC",
) -> Figure:
    """The experiments below the axes, each with its AUROC where there are any, and what the other line or dot is."""
    lines = []
    for number, experiment in enumerate(summary.experiments):
        short, (colour, dash) = _short(experiment, LONGEST), line_style(number)
        auroc = (aurocs or {}).get(experiment)
        label = short if auroc is None else f"{short}: {auroc_name} {auroc:.3f}"
        width = 0.8 if summary.several else 1.4
        lines += figure.axes[0].plot([], [], color=colour, linestyle=dash, linewidth=width, label=label)
    lines += figure.axes[0].plot([], [], **how, label=reference)
    figure.legend(handles=lines, loc="outside lower center", ncols=KEYED, frameon=False)
    return figure


def _of_classes(folder: Path, summary: Summary) -> dict[str, Curves]:
    """Class -> its curves, of the classes that have any."""
    curves_of_classes = {label: of_runs(folder, summary, f"{label}.csv") for label in summary.drawn_classes}
    return {label: curves for label, curves in curves_of_classes.items() if any(curves.values())}


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
