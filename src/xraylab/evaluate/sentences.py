"""What the paired tests say, in words that claim no more."""

from typing import Any

from xraylab.evaluate.paired import FIGURES

CHOSEN = "; chosen on these very test images, so this proves nothing"


def difference(row: dict[str, Any], confidence: float, tests: int) -> str:
    """One row of a comparison as a sentence; shown to differ where the corrected p is under 1 - `confidence`."""
    first, second, name = row["first"], row["second"], FIGURES[row["figure"]]
    if row["difference"] is None:
        return f"{first} and {second} have no {name} to compare."
    shown = row["p_holm"] is not None and row["p_holm"] < 1 - confidence
    verb = "higher" if row["difference"] > 0 else "lower"
    said = f"has a {verb} {name} than {second}" if shown else f"is not shown to differ from {second}"
    return f"{first} {said}: {name} {row['difference']:+.3f}{_interval(row, confidence)}, {_p(row, tests)}{_mark(row)}."


def _interval(row: dict[str, Any], confidence: float) -> str:
    if row["low"] is None:
        return ", no interval"
    return f", {100 * confidence:g} % CI {row['low']:+.3f} to {row['high']:+.3f}"


def _p(row: dict[str, Any], tests: int) -> str:
    if row["p_holm"] is None:
        return "no test"
    corrected = f" (corrected for {tests} experiments)" if tests > 1 else ""
    return f"{_small(row['p_holm'])}{corrected}"


def _small(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _mark(row: dict[str, Any]) -> str:
    return CHOSEN if row["chosen_on_test"] else ""
