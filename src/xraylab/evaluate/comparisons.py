"""Every experiment against the baseline, the two best against each other: one primary figure, the rest exploratory."""

from collections.abc import Sequence

from scipy import stats

from xraylab.evaluate import paired, power, repeated, sentences
from xraylab.evaluate.paired import Row
from xraylab.evaluate.runs import Run, by_experiment
from xraylab.evaluate.values import Asked

COLUMNS = (
    "kind", "role", "about", "first", "second", "chosen_on_test", "figure", "difference", "low", "high", "p", "p_holm",
    "p_at_most", "tests", "test", "why", "error", "seeds_error", "detectable", "first_sd", "second_sd", "margin",
    "margin_low", "margin_high", "not_worse", "equivalent", "first_alone_right", "second_alone_right", "sentence",
)  # fmt: skip
PRIMARY, EXPLORATORY = "primary", "exploratory"
NETWORKS, SETTINGS = "trained networks", "settings"


def rows(
    runs: Sequence[Run], baseline: str, top_two: list[str], ranked_on: str, asked: Asked, folds: int | None
) -> list[Row]:
    """One row per pair and figure, of the best epochs.

    `role` is primary for `asked.primary` against the baseline, corrected over the experiments; everything else is
    exploratory, corrected over all of its figures and pairs together. With one repeat a row is about the trained
    networks, with several about the settings. Where the baseline is one of the two best, theirs are the rows that are
    there already.
    """
    by = by_experiment(runs)
    on_test = {name for name, own in by.items() if own[0].select_on == "test"}

    def pair(first: str, second: str, kind: str) -> list[Row]:
        marked = bool({first, second} & on_test) or (kind == "top two" and ranked_on == "test")
        return of_pair(by[first], by[second], kind, marked, asked, folds)

    found = [row for name in by if name != baseline for row in pair(name, baseline, "baseline")]
    if baseline not in top_two:
        found += pair(top_two[0], top_two[1], "top two")
    parts: dict[str, list[Row]] = {PRIMARY: [], EXPLORATORY: []}
    for row in found:
        chief = (row["kind"], row["figure"]) == ("baseline", asked.primary)
        parts[PRIMARY if chief else EXPLORATORY].append(row)
    done = [describe(row, asked) for role, own in parts.items() for row in correct(own, role)]
    if baseline in top_two:
        done += [row | {"kind": "top two"} for row in done if {row["first"], row["second"]} == set(top_two)]
    return done


def of_pair(
    first: list[Run], second: list[Run], kind: str, chosen_on_test: bool, asked: Asked, folds: int | None
) -> list[Row]:
    """One row per figure, not yet corrected. The runs of both experiments are of the same repeats, in one order."""
    pair = [[run.test["best"] for run in own] for own in (first, second)]
    once = len(first) == 1
    known = {
        "kind": kind,
        "about": NETWORKS if once else SETTINGS,
        "first": first[0].experiment,
        "second": second[0].experiment,
        "chosen_on_test": chosen_on_test,
    }
    ours, theirs = pair
    found = paired.compared(ours[0], theirs[0], asked) if once else repeated.compared(ours, theirs, asked, folds)
    return [known | row for row in found]


def correct(rows: list[Row], role: str) -> list[Row]:
    """With `p_holm`, corrected for all of `rows` that have a test, and how many these are."""
    ps = paired.holm([float("nan") if row["p"] is None else row["p"] for row in rows])
    tests = sum(row["p"] is not None for row in rows)
    return [
        row | {"role": role, "tests": tests, "p_holm": None if row["p"] is None else p}
        for row, p in zip(rows, ps.tolist(), strict=True)
    ]


def describe(row: Row, asked: Asked) -> Row:
    known = row | (_against_margin(row, asked) if row["role"] == PRIMARY and asked.margin > 0 else {})
    if row.get("error") is not None and row["tests"]:
        known["detectable"] = power.detectable_difference(row["error"], asked.confidence, row["tests"])
    return {name: known.get(name) for name in COLUMNS} | {"sentence": sentences.difference(known, asked.confidence)}


def _against_margin(row: Row, asked: Asked) -> Row:
    """Whether the difference is shown to be above -margin, and within the margin on either side.

    From the interval that all primary differences keep together (Bonferroni): an experiment is not worse where its
    lower end is above -margin (ICH E9, section 3.3.2), and equivalent where it lies within the margin (Schuirmann, J
    Pharmacokinet Biopharm 15 (1987) 657).
    """
    known: Row = {"margin": asked.margin}
    if row.get("error") is None:
        return known
    level = (1 - asked.confidence) / row["tests"] / 2
    half = float(stats.t.isf(level, row["freedom"])) * row["error"]
    low, high = row["difference"] - half, row["difference"] + half
    known |= {"margin_low": low, "margin_high": high, "not_worse": low > -asked.margin}
    return known | {"equivalent": -asked.margin < low and high < asked.margin}
