"""Curves as inline SVG. Axes and the baseline are in the page's own ink, so they follow its light or dark colours."""

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xraylab.report.records import Comparison
from xraylab.report.text import SPLIT_NAMES

INK = "#010101"  # stands for the page's text colour
# Okabe and Ito, Color Universal Design, 2008: apart for every kind of colour vision
COLOURS = (INK, "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("solid", "dashed", "dotted")
SPLITS = {"train": ("#0072B2", "dashed"), "valid": ("#D55E00", "solid"), "test": ("#009E73", "solid")}
STYLE = {
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.sans-serif": "DejaVu Sans",
    "font.size": 7.5,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "grid.linewidth": 0.5,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold dollar signs
    "xtick.color": INK,
    "xtick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.color": INK,
    "ytick.major.size": 2.5,
    "ytick.major.width": 0.6,
}

BEFORE, AFTER = ("#0072B2", "o"), ("#D55E00", "s")  # the temperature
MANY_SIZES = 300  # more different sizes than these are rounded to 32 pixels: the page need not hold a dot for each

History = tuple[pd.DataFrame, int]  # one run's history.csv and its best epoch
KeyEntry = tuple[int | str, dict[str, Any]]
"""What a line, dot or bar of a chart is, and how it looks; a number stands for the experiment that has it."""
DOTTED: dict[str, Any] = {"color": INK, "alpha": 0.5, "linewidth": 0.8, "linestyle": "dotted"}
SELECTED: dict[str, Any] = {"color": INK, "marker": "o", "linestyle": "", "markersize": 4, "markeredgewidth": 0}


class Chart(Markup):
    """A chart as an <svg> element, and the figure that it was drawn from, for other sizes and formats.

    `alt`: what it shows, in a sentence; `key`: what the page says beside the chart.
    """

    figure: Figure
    alt: str
    key: Sequence[KeyEntry]


def line_style(number: int) -> tuple[str, str]:
    """Colour and dash of the experiment with that number; the first is in ink."""
    return COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]


def css_colour(colour: str) -> str:
    return "currentColor" if colour == INK else colour


def limits(histories: Iterable[pd.DataFrame], measure: str) -> tuple[float, float]:
    """The range of loss, accuracy or f1 over every run and split; that of a loss begins at 0, the others end at 1."""
    values = pd.concat([_numbers(table[name]) for table in histories for name in _columns(table, measure)])
    finite = values[values.abs() < float("inf")]
    margin = 0.04 * max(finite.max() - finite.min(), 0.05)
    return (0, finite.max() + margin) if measure == "loss" else (finite.min() - margin, 1 + margin / 2)


def learning_curve(runs: list[History], measure: str, chosen_on: str, ylim: tuple[float, float], alt: str) -> Chart:
    """One measure over the epochs: a line per split and repeat, and a dot at each repeat's best epoch."""
    with matplotlib.rc_context(style(alt)):
        figure, axes = panel(2.9, 2.0)
        for table, best in runs:
            for name in _columns(table, measure):
                colour, dash = SPLITS[name.split("_")[0]]
                values = _numbers(table[name])
                axes.plot(
                    table["epoch"], values, color=colour, linestyle=dash, linewidth=1.5 if len(runs) == 1 else 0.8
                )
            chosen = _numbers(table[f"{chosen_on}_{measure}"])[best]
            axes.axvline(best, color=INK, alpha=0.35, linewidth=0.7, linestyle="dotted")
            axes.plot([best], [chosen], "o", color=SPLITS[chosen_on][0], markersize=4.5, markeredgewidth=0)
        axes.set(ylim=ylim, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        return svg(figure, alt, [*_splits_in(runs, measure), ("selected epoch", SELECTED)])


def _splits_in(runs: list[History], measure: str) -> list[KeyEntry]:
    names = dict.fromkeys(name.split("_")[0] for table, _ in runs for name in _columns(table, measure))
    styles = {name: SPLITS[name] for name in names}
    return [(SPLIT_NAMES[name], {"color": colour, "linestyle": dash}) for name, (colour, dash) in styles.items()]


def experiments_key(numbers: Iterable[int], **how: Any) -> list[KeyEntry]:
    """An entry per experiment, as its lines look; `how`: otherwise than a line."""
    styles = {number: line_style(number) for number in numbers}
    return [(number, {"color": colour, "linestyle": dash} | how) for number, (colour, dash) in styles.items()]


def plot_repeats(
    axes: Axes,
    curves: dict[int, list[pd.DataFrame]],
    x: str,
    y: str,
    **how: Any,
) -> None:
    """Column `y` over `x`, by the experiment's number, a line per repeat, thinner where there are several.

    `how`: further settings of matplotlib's lines.
    """
    for number, repeats in curves.items():
        colour, dash = line_style(number)
        for table in repeats:
            width = 1.4 if len(repeats) == 1 else 0.8
            axes.plot(table[x], _numbers(table[y]), color=colour, linestyle=dash, linewidth=width, **how)


def roc(curves: dict[int, list[pd.DataFrame]], corner: float, alt: str) -> Chart:
    """ROC curves (fpr, tpr), by the experiment's number, a line per repeat.

    `corner`: how much of both axes to show, from the upper left corner; 1 is all.
    """
    with matplotlib.rc_context(style(alt)):
        figure, axes = panel(2.9, 2.75)
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.3, linewidth=0.7, linestyle="dotted")
        plot_repeats(axes, curves, "fpr", "tpr")
        edge = 0.015 * corner
        axes.set(xlim=(-edge, corner + edge), ylim=(1 - corner - edge, 1 + edge))
        axes.set(xlabel="false-positive rate (1 − specificity)", ylabel="true-positive rate (sensitivity)")
        return svg(figure, alt, [*experiments_key(curves), ("chance", DOTTED)])


def precision_recall(curves: dict[int, list[pd.DataFrame]], share: float, alt: str) -> Chart:
    """Precision over recall, by the experiment's number, a line per repeat; `share`: of images of the class."""
    with matplotlib.rc_context(style(alt)):
        figure, axes = panel(2.9, 2.75)
        axes.axhline(share, color=INK, alpha=0.3, linewidth=0.7, linestyle="dotted")
        plot_repeats(axes, curves, "recall", "precision", drawstyle="steps-post")
        axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), xlabel="recall (sensitivity)", ylabel="precision (PPV)")
        return svg(figure, alt, [*experiments_key(curves), ("chance: share of the class", DOTTED)])


def reliability(before: list[pd.DataFrame], after: list[pd.DataFrame], smooth: list[pd.DataFrame], alt: str) -> Chart:
    """Observed share over probability: a point per bin, a smooth curve per repeat; the first one's has its band.

    Bars below: how the images are spread.
    """
    with matplotlib.rc_context(style(alt)):
        figure, axes = panel(2.9, 2.75)
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=0.7, linestyle="dotted")
        table = before[0]
        heights = 0.16 * table["n"] / table["n"].max()
        axes.bar(table["low"], heights, table["high"] - table["low"], align="edge", color=INK, alpha=0.13, linewidth=0)
        for number, table in enumerate(smooth):
            axes.plot(table["probability"], table["observed"], color=BEFORE[0], linewidth=1.3 if not number else 0.7)
        for table in smooth[:1]:
            low, high = table["ci_low"], table["ci_high"]
            axes.fill_between(table["probability"], low, high, color=BEFORE[0], alpha=0.16, linewidth=0)
        for tables, (colour, marker) in ((before, BEFORE), (after, AFTER)):
            for table in tables:
                axes.plot(
                    table["probability"], table["observed"], marker, color=colour, markersize=3.6, markeredgewidth=0
                )
        axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), xlabel="predicted probability", ylabel="observed share")
        return svg(figure, alt, _reliability_key(after, smooth))


def _reliability_key(after: list[pd.DataFrame], smooth: list[pd.DataFrame]) -> list[KeyEntry]:
    dot = {"linestyle": "", "markersize": 3.6, "markeredgewidth": 0}
    key: list[KeyEntry] = [("as predicted", {"color": BEFORE[0], "marker": BEFORE[1]} | dot)]
    key += [("smooth curve", {"color": BEFORE[0]})] if smooth else []
    key += [("after temperature scaling", {"color": AFTER[0], "marker": AFTER[1]} | dot)] if after else []
    return [*key, ("perfect calibration", DOTTED)]


def net_benefit(curves: dict[int, list[pd.DataFrame]], alt: str) -> Chart:
    """Decision curves by the experiment's number, a line per repeat; dotted: acting on all; 0: on nobody."""
    with matplotlib.rc_context(style(alt)):
        figure, axes = panel(2.9, 2.75)
        everyone = next(table for tables in curves.values() for table in tables)
        axes.axhline(0, color=INK, alpha=0.35, linewidth=0.7)
        axes.plot(everyone["threshold"], everyone["treat_all"], color=INK, alpha=0.4, linewidth=0.7, linestyle="dotted")
        plot_repeats(axes, curves, "threshold", "net_benefit")
        highest = max(table["net_benefit"].max() for tables in curves.values() for table in tables)
        axes.set(xlim=(-0.015, 1.015), ylim=(-0.35 * highest, 1.08 * highest))
        axes.set(xlabel="threshold probability", ylabel="net benefit")
        return svg(figure, alt, [*experiments_key(curves), ("acting on all", DOTTED)])


def differences(rows: list[Comparison], confidence: float, alt: str) -> Chart:
    """One metric's differences from the baseline with their intervals; a diamond where shown to differ."""
    with matplotlib.rc_context(style(alt)):
        figure, axes = panel(2.9, 0.5 + 0.19 * len(rows))
        axes.axvline(0, color=INK, alpha=0.6, linewidth=0.7, linestyle="dotted")
        for height, row in enumerate(rows):
            if row.difference is not None:
                _difference(axes, height, row, confidence)
        name_rows(axes, [row.first for row in rows])
        shown = SELECTED | {"color": "#D55E00", "marker": "D"}
        return svg(figure, alt, [("shown to differ", shown), ("not shown to differ", SELECTED)])


def repeats(values: dict[str, list[float | None]], name: str) -> Chart:
    """A metric of every repeat as a point, and each experiment's mean as a line."""
    defined = {experiment: [value for value in points if value is not None] for experiment, points in values.items()}
    alt = "; ".join(
        f"{name} of {each}: {', '.join(f'{value:.3f}' for value in points)}" for each, points in defined.items()
    )
    with matplotlib.rc_context(style(alt)):
        figure, axes = panel(2.9, 0.5 + 0.19 * len(defined))
        for number, points in enumerate(defined.values()):
            axes.plot(points, [number] * len(points), "o", color=INK, alpha=0.55, markersize=3.6, markeredgewidth=0)
            if points:
                axes.plot([sum(points) / len(points)] * 2, [number - 0.32, number + 0.32], color=INK, linewidth=1.3)
        name_rows(axes, list(defined))
        return svg(figure, alt, [("one repeat", SELECTED | {"alpha": 0.55}), ("mean", {"color": INK})])


def name_rows(axes: Axes, names: list[str]) -> None:
    """One row per name, from the top, without an axis line."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.08)


def _difference(axes: Axes, height: int, row: Comparison, confidence: float) -> None:
    significant = row.is_shown(confidence)
    colour = "#D55E00" if significant else INK
    if row.ci_low is not None and row.ci_high is not None:
        axes.plot([row.ci_low, row.ci_high], [height, height], color=colour, linewidth=1.2)
    axes.plot(
        [row.difference or 0], [height], "D" if significant else "o", color=colour, markersize=4.2, markeredgewidth=0
    )


def balance(counts: dict[str, dict[str, int]], alt: str) -> Chart:
    """Bars of split -> class -> number of images, the number beside each."""
    with matplotlib.rc_context(style(alt)):
        labels = list(next(iter(counts.values())))
        figure, axes = panel(2.9, 0.5 + 0.2 * len(labels) * len(counts))
        height = 0.8 / len(labels)
        for number, label in enumerate(labels):
            places = [split + (number - (len(labels) - 1) / 2) * height for split in range(len(counts))]
            bars = axes.barh(places, [part[label] for part in counts.values()], height, color=line_style(number)[0])
            axes.bar_label(bars, padding=2, color=INK, fontsize=6.5)
        axes.set_yticks(range(len(counts)), list(counts))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.14)
        axes.set(xlabel="images")
        return svg(figure, alt, _class_key(labels))


def sizes(index: pd.DataFrame, classes: list[str], alt: str) -> Chart:
    """Width and height of the images, a dot per size and class, larger where there are more images."""
    with matplotlib.rc_context(style(alt)):
        figure, axes = panel(2.9, 2.5)
        stored = index[["width", "height"]]
        step = 1 if len(stored.drop_duplicates()) <= MANY_SIZES else 32
        rounded = index.assign(**(stored // step * step))
        for number, label in enumerate(classes):
            counts = rounded[rounded["label"] == label].groupby(["width", "height"]).size().reset_index(name="images")
            area = 6 + 60 * counts["images"] / len(index)
            colour = line_style(number)[0]
            axes.scatter(counts["width"], counts["height"], s=area, color=colour, alpha=0.5, linewidth=0)
        axes.set(xlabel="width", ylabel="height")
        return svg(figure, alt, _class_key(classes))


def _class_key(labels: Iterable[str]) -> list[KeyEntry]:
    colours = {label: line_style(number)[0] for number, label in enumerate(labels)}
    return [(label, {"color": colour, "linewidth": 4}) for label, colour in colours.items()]


def _columns(table: pd.DataFrame, measure: str) -> list[str]:
    return [f"{split}_{measure}" for split in SPLITS if f"{split}_{measure}" in table]


def _numbers(column: "pd.Series[float]") -> "pd.Series[float]":
    """A CSV holds an empty cell where a metric was not a number."""
    return pd.to_numeric(column, errors="coerce")


def style(salt: str) -> Any:  # matplotlib types the keys as literals
    """The charts' settings; `salt` makes a chart's ids its own."""
    return {**STYLE, "svg.hashsalt": salt}


def panel(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of that size in inches, with one axes."""
    figure = Figure(figsize=(width, height), facecolor="none", layout="constrained")
    return figure, figure.add_subplot(facecolor="none")


def svg(figure: Figure, alt: str, key: Sequence[KeyEntry] = ()) -> Chart:
    """The figure as an <svg> element: no date, no ids that another chart has too, as wide as the page lets it be."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    text = re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :]).replace(INK, "currentColor")
    box = f"0 0 {72 * figure.get_figwidth():g} {72 * figure.get_figheight():g}"
    opening = f'<svg viewBox="{box}" role="img" aria-label="{escape(alt)}">'
    chart = Chart(opening + text[text.index(">") + 1 :])
    chart.figure, chart.alt, chart.key = figure, alt, key
    return chart
