"""Goals, judged on the interval and not on the figure."""

from typing import Any

MET, NOT_MET, UNDECIDED = "met", "not met", "undecided"


def judged(value: float | None, low: float | None, high: float | None, goal: float, at_least: bool) -> str:
    """Met where the whole interval keeps the goal, not met where none of it does.

    A figure without an interval is undecided, unless `low` and `high` are the value itself, as of a count.
    """
    if value is None or low is None or high is None:
        return UNDECIDED
    worst, best = (low, high) if at_least else (-high, -low)
    limit = goal if at_least else -goal
    return MET if worst >= limit else NOT_MET if best < limit else UNDECIDED


def together(verdicts: list[str]) -> str:
    """Of several repeats: what all of them say, else undecided."""
    return verdicts[0] if len(set(verdicts)) == 1 else UNDECIDED


def rows(figures: list[dict[str, Any]], at_least: dict[str, float], at_most: dict[str, float]) -> list[dict[str, Any]]:
    """Per experiment and goal: the verdict over repeats, and each repeat's.

    `figures` are rows of best epochs with experiment, repeat, chosen_on, figure, value, low and high, one per figure
    and repeat.
    """
    found = []
    for experiment in dict.fromkeys(row["experiment"] for row in figures):
        for wanted, kind in ((at_least, "at least"), (at_most, "at most")):
            for name, goal in wanted.items():
                own = [row for row in figures if (row["experiment"], row["figure"]) == (experiment, name)]
                each = {
                    row["repeat"]: judged(row["value"], row["low"], row["high"], goal, kind == "at least")
                    for row in own
                }
                known = {"experiment": experiment, "figure": name, "goal": f"{kind} {goal:g}"}
                known["chosen_on"] = own[0]["chosen_on"]
                values = [row["value"] for row in own]
                found.append(known | {"verdict": together(list(each.values())), "each": each, "values": values})
    return found
