"""What a search found: a line per trial across its settings, and which settings mattered."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from numpy.typing import NDArray

from xraylab import files, tables
from xraylab.errors import DataError
from xraylab.report.charts import COLOURS, INK, panel, style, svg

BELOW = -0.18  # where a setting is that did not apply
FACTS = ("experiment", "repeat", "metric", "sampler", "seed", "trials", "best", "keys", "importances")
SHOWN = 5  # the best trials, as a table
BEST, OTHERS = COLOURS[2], COLOURS[1]


def read(folder: Path) -> dict[str, Any] | None:
    """The last search; None where there was none. Errors: DataError where an earlier version wrote it."""
    if not (folder / "trials.csv").is_file():
        return None
    trials, facts = tables.read(folder / "trials.csv"), files.read_json(folder / "importance.json")
    missing = [key for key in FACTS if key not in facts]
    missing = missing or [column for column in ("trial", "state", "value", *facts["keys"]) if column not in trials]
    if missing:
        raise DataError(
            f"{folder} was written by an earlier version of xraylab (it has no {missing[0]}): run `xraylab search` "
            "again, or delete the folder"
        )
    return section(trials, facts)


def section(trials: pd.DataFrame, facts: dict[str, Any]) -> dict[str, Any]:
    """What the page says; from reports/search/trials.csv and importance.json."""
    trials = trials.assign(value=pd.to_numeric(trials["value"], errors="coerce"))
    finished = trials[trials["state"] == "finished"]
    ranked = finished.sort_values("value", ascending=facts["metric"].endswith("_loss"), kind="stable")
    importances = facts["importances"]
    return {
        **facts,
        "counts": {state: int(count) for state, count in trials["state"].value_counts(sort=False).items()},
        "ranked": [_row(row, list(facts["keys"])) for row in ranked.head(SHOWN).to_dict("records")],
        "parallel": parallel_coordinates(trials, facts["keys"], facts["best"], facts["metric"]),
        "importance": importance(importances) if importances else None,
    }


def _row(row: dict[Any, Any], keys: list[str]) -> dict[str, Any]:
    return {"trial": row["trial"], "value": row["value"], "values": [row[key] for key in keys]}


def parallel_coordinates(trials: pd.DataFrame, keys: dict[str, str], best: str | None, metric: str) -> Markup:
    """A line per trial over one axis per key, and the metric as the last one.

    `keys`: key -> linear, log or choices. A setting that did not apply lies below its axis; the line of a trial that
    did not finish ends before the metric.
    """
    alt = f"Parallel coordinates of {len(trials)} trials: {', '.join(keys)}, and {metric}"
    scales = {**keys, "value": "linear"}
    with matplotlib.rc_context(style(alt)):
        chart, axes = panel(6.2, 2.6)
        axes.grid(visible=False)
        places = np.column_stack([_axis(axes, at, trials[key], kind) for at, (key, kind) in enumerate(scales.items())])
        for row, name, state in zip(places, trials["trial"], trials["state"], strict=True):
            colour, width, alpha = _line(name == best, state == "finished")
            order = 3 if name == best else 2
            axes.plot(
                range(len(scales)), row, "o-", color=colour, linewidth=width, alpha=alpha, markersize=2, zorder=order
            )
        axes.set_xticks(range(len(scales)), [*keys, metric])
        axes.set(yticks=[], ylim=(-0.25, 1.1), xlim=(-0.15, len(scales) - 0.55))
        axes.spines["left"].set_visible(False)
        return svg(chart, alt)


def _line(best: bool, finished: bool) -> tuple[str, float, float]:
    """Colour, width and opacity."""
    if best:
        return BEST, 2.0, 1.0
    return (OTHERS, 0.9, 0.55) if finished else (INK, 0.6, 0.3)


def _axis(axes: Axes, at: int, column: "pd.Series[Any]", kind: str) -> NDArray[np.float64]:
    """Draw one vertical axis with its labels; each trial's height on it, from 0 to 1."""
    axes.plot([at, at], [0, 1], color=INK, linewidth=0.6, alpha=0.6)
    if kind == "choices":
        heights, ticks = _choices(column.astype(str))
    else:
        heights, ticks = _numbers(pd.to_numeric(column, errors="coerce").to_numpy(float), kind == "log")
    if column.name != "value" and np.isnan(heights).any():
        heights, ticks = np.nan_to_num(heights, nan=BELOW), [*ticks, (BELOW, "–")]
    for height, label in ticks:
        axes.annotate(
            label, (at, height), (3, 0), textcoords="offset points",
            fontsize=6.5, va="center", color=INK,
        )  # fmt: skip
    return heights


def _choices(column: "pd.Series[str]") -> tuple[NDArray[np.float64], list[tuple[float, str]]]:
    names = [name for name in dict.fromkeys(sorted(column)) if name]
    height = {name: position / max(len(names) - 1, 1) for position, name in enumerate(names)}
    heights = np.array([height.get(name, np.nan) for name in column], np.float64)
    return heights, [(position, name) for name, position in height.items()]


def _numbers(values: NDArray[np.float64], log: bool) -> tuple[NDArray[np.float64], list[tuple[float, str]]]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return values, []
    low, high = finite.min(), finite.max()
    scaled = np.log(values) if log else values
    first, last = (np.log(low), np.log(high)) if log else (low, high)
    if low == high:
        return values - low + 0.5, [(0.5, f"{low:.3g}")]
    heights = np.array((scaled - first) / (last - first), np.float64)
    return heights, [(0, f"{low:.3g}"), (1, f"{high:.3g}")]


def importance(shares: dict[str, float]) -> Markup:
    """A bar per key: its share of the variance of the metric."""
    alt = "Importance of each setting: " + ", ".join(f"{key} {share:.2f}" for key, share in shares.items())
    with matplotlib.rc_context(style(alt)):
        chart, axes = panel(2.9, 0.5 + 0.22 * len(shares))
        bars = axes.barh(list(shares), list(shares.values()), 0.7, color=OTHERS)
        axes.bar_label(bars, fmt="%.2f", padding=2, color=INK, fontsize=6.5)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set(xlim=(0, 1.12), xlabel="share of the variance")
        return svg(chart, alt)
