"""What the paired tests allow to be said, in a line and in a paragraph."""

from typing import Any

from xraylab.report.text import listed

FIGURES = {"accuracy": "accuracy", "f1": "F1", "auroc": "AUROC"}


def headline(summary: dict[str, Any], confidence: float) -> str:
    """Which experiment comes first, and whether it is shown to be better."""
    ranked, baseline = summary["ranking"], summary["baseline"]
    first = ranked[0]["experiment"]
    if len(ranked) == 1:
        return f"One experiment, {first}: there is nothing to compare it with."
    if summary["chosen_on_test"]:
        return f"{_begins(first)} comes first, on the very test images that chose: nothing is shown about new ones."
    better = [row for row in _against(summary) if _shown(row, confidence) and row["difference"] > 0]
    if first == baseline:
        others = list(dict.fromkeys(row["first"] for row in better))
        return f"The baseline comes first on validation; {_who_beats_it(others)}."
    own = [FIGURES[row["figure"]] for row in better if row["first"] == first]
    worse = [FIGURES[row["figure"]] for row in _worse(summary, confidence) if row["first"] == first]
    if own:
        return f"{_begins(first)} comes first, and is shown to beat {baseline} in {listed(own)}."
    if worse:
        return f"{_begins(first)} comes first on validation, but is shown to be behind {baseline} in {listed(worse)}."
    return f"{_begins(first)} comes first, but is not shown to differ from {baseline}."


def paragraph(summary: dict[str, Any], confidence: float) -> list[str]:
    """What the tests say of the first experiment's F1, of the top two's, and of all others in one sentence."""
    first, rows = summary["top_two"][0], summary["comparisons"]
    against, top = _against(summary), [row for row in rows if row["kind"] == "top two"]
    said = [row["sentence"] for row in against if row["figure"] == "f1" and row["first"] == first]
    if not said or summary["baseline"] not in summary["top_two"]:
        said += [row["sentence"] for row in top if row["figure"] == "f1"]
    return [*said, _rest(against, confidence)] if against else said


def _rest(against: list[dict[str, Any]], confidence: float) -> str:
    tested = list(dict.fromkeys(row["first"] for row in against))
    differ = [f"{row['first']} in {FIGURES[row['figure']]}" for row in against if _shown(row, confidence)]
    if not differ:
        who = f"None of the {len(tested)} experiments" if len(tested) > 1 else f"{_begins(tested[0])}"
        negated = "is" if len(tested) > 1 else "is not"
        return f"{who} {negated} shown to differ from the baseline in accuracy, F1 or AUROC."
    return f"Shown to differ from the baseline: {listed(differ)}; in nothing else."


def _who_beats_it(others: list[str]) -> str:
    if not others:
        return "no experiment is shown to beat it"
    return f"{listed(others)} {'beats' if len(others) == 1 else 'beat'} it on the test images"


def _against(summary: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in summary["comparisons"] if row["kind"] == "baseline"]


def _worse(summary: dict[str, Any], confidence: float) -> list[dict[str, Any]]:
    return [row for row in _against(summary) if _shown(row, confidence) and row["difference"] < 0]


def _shown(row: dict[str, Any], confidence: float) -> bool:
    return row["difference"] is not None and row["p_holm"] is not None and bool(row["p_holm"] < 1 - confidence)


def _begins(name: str) -> str:
    return "The baseline" if name == "baseline" else name
