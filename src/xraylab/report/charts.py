"""Curves as inline SVG. Axes and the baseline are in the page's own ink, so they follow its light or dark colours."""

import io
import re
from collections.abc import Iterable
from typing import Any, Literal

import matplotlib
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK = "#010101"  # stands for the page's text colour
# Okabe and Ito, Color Universal Design, 2008: apart for every kind of colour vision
COLOURS = (INK, "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("solid", "dashed", "dotted")
SIDES = {"train": ("#0072B2", "dashed"), "valid": ("#D55E00", "solid"), "test": ("#009E73", "solid")}
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

MANY_SIZES = 300  # more different sizes than these are rounded to 32 pixels: the page need not hold a dot for each

History = tuple[pd.DataFrame, int]  # one run's history.csv and its best epoch


def line_style(number: int) -> tuple[str, str]:
    """Colour and dash of the experiment with that number; the first is in ink."""
    return COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]


def css_colour(colour: str) -> str:
    return "currentColor" if colour == INK else colour


def limits(histories: Iterable[pd.DataFrame], measure: str) -> tuple[float, float]:
    """The range of loss, accuracy or f1 over every run and side; that of a loss begins at 0, the others end at 1."""
    values = pd.concat([_numbers(table[name]) for table in histories for name in _columns(table, measure)])
    finite = values[values.abs() < float("inf")]
    margin = 0.04 * max(finite.max() - finite.min(), 0.05)
    return (0, finite.max() + margin) if measure == "loss" else (finite.min() - margin, 1 + margin / 2)


def learning_curve(runs: list[History], measure: str, chosen_on: str, ylim: tuple[float, float], alt: str) -> Markup:
    """One measure over the epochs: a line per side and repeat, and a dot at each repeat's best epoch."""
    with matplotlib.rc_context(style(alt)):
        figure, axes = panel(2.9, 2.0)
        for table, best in runs:
            for name in _columns(table, measure):
                colour, dash = SIDES[name.split("_")[0]]
                values = _numbers(table[name])
                axes.plot(
                    table["epoch"], values, color=colour, linestyle=dash, linewidth=1.5 if len(runs) == 1 else 0.8
                )
            chosen = _numbers(table[f"{chosen_on}_{measure}"])[best]
            axes.axvline(best, color=INK, alpha=0.35, linewidth=0.7, linestyle="dotted")
            axes.plot([best], [chosen], "o", color=SIDES[chosen_on][0], markersize=4.5, markeredgewidth=0)
        axes.set(ylim=ylim, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        return svg(figure, alt)


def plot_repeats(
    axes: Axes,
    curves: dict[int, list[pd.DataFrame]],
    x: str,
    y: str,
    drawstyle: Literal["default", "steps-post"] = "default",
) -> None:
    """Column `y` over `x`, by the experiment's number, a line per repeat, thinner where there are several."""
    for number, repeats in curves.items():
        colour, dash = line_style(number)
        for table in repeats:
            width = 1.4 if len(repeats) == 1 else 0.8
            axes.plot(table[x], table[y], color=colour, linestyle=dash, linewidth=width, drawstyle=drawstyle)


def roc(curves: dict[int, list[pd.DataFrame]], corner: float, alt: str) -> Markup:
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
        return svg(figure, alt)


def balance(counts: dict[str, dict[str, int]], alt: str) -> Markup:
    """Bars of side -> class -> number of images, the number beside each."""
    with matplotlib.rc_context(style(alt)):
        labels = list(next(iter(counts.values())))
        figure, axes = panel(2.9, 0.5 + 0.2 * len(labels) * len(counts))
        height = 0.8 / len(labels)
        for number, label in enumerate(labels):
            places = [side + (number - (len(labels) - 1) / 2) * height for side in range(len(counts))]
            bars = axes.barh(places, [part[label] for part in counts.values()], height, color=line_style(number)[0])
            axes.bar_label(bars, padding=2, color=INK, fontsize=6.5)
        axes.set_yticks(range(len(counts)), list(counts))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.14)
        axes.set(xlabel="images")
        return svg(figure, alt)


def sizes(index: pd.DataFrame, classes: list[str], alt: str) -> Markup:
    """Width and height of the images, a dot per size and class, larger where there are more images."""
    with matplotlib.rc_context(style(alt)):
        figure, axes = panel(2.9, 2.5)
        stored = index[["width", "height"]]
        step = 1 if len(stored.drop_duplicates()) <= MANY_SIZES else 32
        rounded = index.assign(**(stored // step * step))
        for number, label in enumerate(classes):
            found = rounded[rounded["label"] == label].groupby(["width", "height"]).size().reset_index(name="images")
            area = 6 + 60 * found["images"] / len(index)
            colour = line_style(number)[0]
            axes.scatter(found["width"], found["height"], s=area, color=colour, alpha=0.5, linewidth=0)
        axes.set(xlabel="width", ylabel="height")
        return svg(figure, alt)


def _columns(table: pd.DataFrame, measure: str) -> list[str]:
    return [f"{side}_{measure}" for side in SIDES if f"{side}_{measure}" in table]


def _numbers(column: "pd.Series[float]") -> "pd.Series[float]":
    """A CSV holds an empty cell where a figure was not a number."""
    return pd.to_numeric(column, errors="coerce")


def style(salt: str) -> Any:  # matplotlib types the keys as literals
    """The charts' settings; `salt` makes a chart's ids its own."""
    return {**STYLE, "svg.hashsalt": salt}


def panel(width: float, height: float, place: tuple[int, int, int] = (1, 1, 1)) -> tuple[Figure, Axes]:
    """A figure of that size in inches, with one axes at `place` (rows, columns, number)."""
    figure = Figure(figsize=(width, height), facecolor="none", layout="constrained")
    axes = figure.add_subplot(*place, facecolor="none")
    return figure, axes


def svg(figure: Figure, alt: str) -> Markup:
    """The figure as an <svg> element: no date, no ids that another chart has too, as wide as the page lets it be."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    text = re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :]).replace(INK, "currentColor")
    box = f"0 0 {72 * figure.get_figwidth():g} {72 * figure.get_figheight():g}"
    opening = f'<svg viewBox="{box}" role="img" aria-label="{escape(alt)}">'
    return Markup(opening + text[text.index(">") + 1 :])  # noqa: S704 - matplotlib escapes what it draws
