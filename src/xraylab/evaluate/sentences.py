"""What the tests say, in words that claim no more."""

from typing import Any

from xraylab.evaluate.paired import FIGURES

CHOSEN = "; chosen on these very test images, so this proves nothing"


def difference(row: dict[str, Any], confidence: float) -> str:
    """One row of a comparison as a sentence; shown to differ where the corrected p is under 1 - `confidence`.

    With one repeat it is about the two trained networks, with several about the settings. What is exploratory says so.
    """
    begin = "Exploratory: " if row["role"] == "exploratory" else ""
    name, once = FIGURES[row["figure"]], row["about"] == "trained networks"
    first, second = (f"{row[each]}{'’s' if once else ''}" for each in ("first", "second"))
    if row["difference"] is None:
        return f"{begin}{row['first']} and {row['second']} have no {name} to compare."
    shown = row["p_holm"] is not None and row["p_holm"] < 1 - confidence
    verb = "higher" if row["difference"] > 0 else "lower"
    said = f"has a {verb} {name} than {second}" if shown else f"is not shown to differ from {second}"
    networks = "of these two trained networks, " if once else ""
    told = f"{begin}{networks}{first} {said}: {name} {row['difference']:+.3f}{_interval(row, confidence)}, {_p(row)}"
    return f"{_capital(told)}{_margin(row)}{_mark(row)}."


def _interval(row: dict[str, Any], confidence: float) -> str:
    if row["low"] is None:
        return ", no interval"
    return f", {100 * confidence:g} % CI {row['low']:+.3f} to {row['high']:+.3f}"


def _p(row: dict[str, Any]) -> str:
    if row["p_holm"] is None:
        return f"no test ({row['why']})" if row.get("why") else "no test"
    tests = "experiments" if row["role"] == "primary" else "tests"
    corrected = f" (corrected for {row['tests']} {tests})" if row["tests"] > 1 else ""
    return f"p {small(row['p_holm'], row['p_at_most'])}{corrected}"


def small(p: float, at_most: bool) -> str:
    """`= 0.012`; `<= 0.0001` where no draw of the test was as extreme, so that p is known no better."""
    if at_most:
        return f"<= {p:.1g}" if p < 0.001 else f"<= {p:.3f}"
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def _margin(row: dict[str, Any]) -> str:
    """What the interval that all experiments keep together says of the smallest difference that matters."""
    if not row.get("margin"):
        return ""
    margin = f"{row['margin']:g}"
    if row.get("equivalent"):
        return f"; equivalent within {margin}"
    if row.get("not_worse"):
        return f"; not worse than {row['second']} by {margin} or more"
    return f"; a difference of {margin} for the worse is not excluded"


def _mark(row: dict[str, Any]) -> str:
    return CHOSEN if row["chosen_on_test"] else ""


def _capital(sentence: str) -> str:
    """Names of experiments stay as they are written."""
    return sentence[0].upper() + sentence[1:] if sentence.startswith("of these") else sentence
