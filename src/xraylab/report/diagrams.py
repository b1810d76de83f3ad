"""Charts of the evaluation: precision and recall, calibration, and differences from the baseline."""

from typing import Any

import matplotlib
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from xraylab.report.charts import INK, panel, plot_repeats, style, svg

BEFORE, AFTER = ("#0072B2", "o"), ("#D55E00", "s")


def precision_recall(curves: dict[int, list[pd.DataFrame]], share: float, alt: str) -> Markup:
    """Precision over recall, by the experiment's number, a line per repeat; `share`: of images of the class."""
    with matplotlib.rc_context(style(alt)):
        figure, axes = panel(2.9, 2.75)
        axes.axhline(share, color=INK, alpha=0.3, linewidth=0.7, linestyle="dotted")
        plot_repeats(axes, curves, "recall", "precision", "steps-post")
        axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), xlabel="recall (sensitivity)", ylabel="precision (PPV)")
        return svg(figure, alt)


def reliability(before: list[pd.DataFrame], after: list[pd.DataFrame], smooth: list[pd.DataFrame], alt: str) -> Markup:
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
        return svg(figure, alt)


def net_benefit(curves: dict[int, list[pd.DataFrame]], alt: str) -> Markup:
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
        return svg(figure, alt)


def differences(rows: list[dict[str, Any]], confidence: float, alt: str) -> Markup:
    """One figure's differences from the baseline with their intervals; a diamond where shown to differ."""
    with matplotlib.rc_context(style(alt)):
        figure, axes = panel(2.9, 0.5 + 0.19 * len(rows))
        axes.axvline(0, color=INK, alpha=0.6, linewidth=0.7, linestyle="dotted")
        for place, row in enumerate(rows):
            if row["difference"] is not None:
                _difference(axes, place, row, confidence)
        axes.set_yticks(range(len(rows)), [row["first"] for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.08)
        return svg(figure, alt)


def repeats(values: dict[str, list[float | None]], name: str) -> Markup:
    """A figure of every repeat as a point, and each experiment's mean as a line."""
    known = {experiment: [value for value in own if value is not None] for experiment, own in values.items()}
    alt = "; ".join(f"{name} of {each}: {', '.join(f'{value:.3f}' for value in own)}" for each, own in known.items())
    with matplotlib.rc_context(style(alt)):
        figure, axes = panel(2.9, 0.5 + 0.19 * len(known))
        for number, own in enumerate(known.values()):
            axes.plot(own, [number] * len(own), "o", color=INK, alpha=0.55, markersize=3.6, markeredgewidth=0)
            if own:
                axes.plot([sum(own) / len(own)] * 2, [number - 0.32, number + 0.32], color=INK, linewidth=1.3)
        axes.set_yticks(range(len(known)), list(known))
        axes.set_ylim(len(known) - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.08)
        return svg(figure, alt)


def _difference(axes: Axes, place: int, row: dict[str, Any], confidence: float) -> None:
    shown = row["p_holm"] is not None and row["p_holm"] < 1 - confidence
    colour = "#D55E00" if shown else INK
    if row["low"] is not None:
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=1.2)
    axes.plot([row["difference"]], [place], "D" if shown else "o", color=colour, markersize=4.2, markeredgewidth=0)
