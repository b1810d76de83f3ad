"""Every experiment against the baseline, and the two best against each other, with one sentence per figure."""

from collections.abc import Sequence
from typing import Any

from xraylab.evaluate import paired, sentences
from xraylab.evaluate.runs import Run, by_experiment, mean
from xraylab.evaluate.values import Asked

COLUMNS = (
    "kind", "first", "second", "chosen_on_test", "figure", "difference", "low", "high", "p", "p_holm", "test",
    "first_alone_right", "second_alone_right", "sentence",
)  # fmt: skip


def rows(runs: Sequence[Run], baseline: str, top_two: list[str], ranked_on: str, asked: Asked) -> list[dict[str, Any]]:
    """One row per pair and figure; `p_holm` is corrected over the experiments for each figure.

    Of the mean probability over repeats of each best epoch, folds pooled. The pair of the two best, which validation
    ranked, is a single comparison; where one of them is the baseline it is the one that is there already.
    """
    by = by_experiment(runs)
    samples = {name: mean(own, "best")[1] for name, own in by.items()}
    on_test = {name for name, own in by.items() if own[0].select_on == "test"}

    def pair(first: str, second: str, kind: str) -> list[dict[str, Any]]:
        marked = bool({first, second} & on_test) or (kind == "top two" and ranked_on == "test")
        known = {"kind": kind, "first": first, "second": second, "chosen_on_test": marked}
        return [known | row for row in paired.compared(samples[first], samples[second], asked)]

    against = [row for name in by if name != baseline for row in pair(name, baseline, "baseline")]
    found = _corrected(against, asked.confidence)
    if baseline in top_two:
        return found + [row | {"kind": "top two"} for row in found if {row["first"], row["second"]} == set(top_two)]
    return found + _corrected(pair(top_two[0], top_two[1], "top two"), asked.confidence)


def _corrected(rows: list[dict[str, Any]], confidence: float) -> list[dict[str, Any]]:
    """With `p_holm`, each figure corrected for itself, and `sentence`."""
    found = list(rows)
    for figure in dict.fromkeys(row["figure"] for row in rows):
        places = [place for place, row in enumerate(rows) if row["figure"] == figure]
        ps = paired.holm([float("nan") if rows[place]["p"] is None else rows[place]["p"] for place in places])
        for place, p in zip(places, ps.tolist(), strict=True):
            row = rows[place] | {"p_holm": None if rows[place]["p"] is None else p}
            found[place] = row | {"sentence": sentences.difference(row, confidence, len(places))}
    return found
