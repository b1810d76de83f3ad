"""What the primary figure's tests allow to be said, in a line and in a paragraph."""

from typing import Any

from xraylab.report.text import listed

FIGURES = {
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "f1": "F1",
}
ONCE = "trained networks"  # what a comparison is about where every experiment was trained once
Row = dict[str, Any]


def headline(summary: dict[str, Any], confidence: float) -> str:
    """Which experiments are shown to be better than the baseline in the primary figure; else that none is, and why."""
    rows, name = _primary(summary), FIGURES[summary["primary"]]
    if not rows:
        return f"One experiment, {summary['ranking'][0]['experiment']}: there is nothing to compare it with."
    none = f"No experiment is shown to be better than {_baseline(summary)}"
    if summary["chosen_on_test"]:
        return f"{none}: the very test images chose, so they show nothing about new ones."
    better = [row for row in rows if _shown(row, confidence) and row["difference"] > 0]
    worse = [row for row in rows if _shown(row, confidence) and row["difference"] < 0]
    if rows[0]["about"] == ONCE and better:
        return f"{none}: each was trained once, and with another seed the difference in {name} may turn."
    if better:
        verb = "is" if len(better) == 1 else "are"
        said = f"{_listed(better)} {verb} shown to be better than {_baseline(summary)} in {name}"
        return f"{said}{_also_worse(worse, '; ')}."
    return f"{none} in {name}{_why_not(rows, worse, confidence)}."


def paragraph(summary: dict[str, Any], confidence: float) -> list[str]:
    """The sentences of what differs, else of the experiment that comes first; then of all others in one.

    With one repeat it ends with what that leaves open, with several with the spread between them.
    """
    rows = _primary(summary)
    if not rows:
        return []
    first = summary["top_two"][0]
    told = [row for row in rows if _shown(row, confidence) or row.get("not_worse") or row["first"] == first] or rows[:1]
    rest = len(rows) - len(told)
    said = [row["sentence"] for row in told]
    if rest:
        who = "The other is not" if rest == 1 else f"None of the other {rest} is"
        said.append(f"{who} shown to differ from {_baseline(summary)}.")
    return [*said, *_detectable(rows), _seeds(summary, rows)]


def _detectable(rows: list[Row]) -> list[str]:
    """Which true differences this test would have shown."""
    known = sorted(row["detectable"] for row in rows if row.get("detectable") is not None)
    if not known:
        return []
    span = f"{known[0]:.3f}" if f"{known[0]:.3f}" == f"{known[-1]:.3f}" else f"{known[0]:.3f} to {known[-1]:.3f}"
    name, which = FIGURES[rows[0]["figure"]], "" if len(known) == 1 else ", depending on the experiment"
    return [f"This test had a power of 80 % for a true difference in {name} of {span}{which}."]


def _why_not(rows: list[Row], worse: list[Row], confidence: float) -> str:
    """The largest difference that may be chance; why there is no test; who is shown to be worse."""
    open_ = [row for row in rows if row["p_holm"] is not None and not _shown(row, confidence)]
    above = [row for row in open_ if row["difference"] > 0]
    if worse and not above:
        return _also_worse(worse, ": ")
    if above:
        most = max(above, key=lambda row: row["difference"])
        chance = f": the largest difference, {most['difference']:+.3f} of {most['first']}, may be chance"
        return chance + _also_worse(worse, "; ")
    if open_:
        return ": every one is level with it or below"
    untested = next((row["why"] for row in rows if row.get("why")), "no difference could be tested")
    return f": {untested}"


def _also_worse(worse: list[Row], joint: str) -> str:
    if not worse:
        return ""
    what = "the network of " if worse[0]["about"] == ONCE and len(worse) == 1 else ""
    what = "the networks of " if worse[0]["about"] == ONCE and len(worse) > 1 else what
    return f"{joint}{what}{_listed(worse)} {'is' if len(worse) == 1 else 'are'} shown to be worse"


def _seeds(summary: dict[str, Any], rows: list[Row]) -> str:
    if rows[0]["about"] == ONCE:
        return "Every experiment was trained once: this is about these trained networks, and another seed may turn it."
    name, repeats = FIGURES[summary["primary"]], len({run["repeat"] for run in summary["runs"]})
    known = {summary["baseline"]: rows[0].get("second_sd")} | {row["first"]: row.get("first_sd") for row in rows}
    spreads = [f"{experiment} {sd:.3f}" for experiment, sd in known.items() if sd is not None]
    what = "folds" if summary["folds"] else "repeats"
    return f"Over {repeats} {what} the standard deviation of {name} is: {listed(spreads)}."


def _primary(summary: dict[str, Any]) -> list[Row]:
    """The primary figure of every experiment against the baseline."""
    return [row for row in summary["comparisons"] if row["kind"] == "baseline" and row["role"] == "primary"]


def _shown(row: Row, confidence: float) -> bool:
    return row["difference"] is not None and row["p_holm"] is not None and bool(row["p_holm"] < 1 - confidence)


def _listed(rows: list[Row]) -> str:
    return listed([f"{row['first']} ({row['difference']:+.3f})" for row in rows])


def _baseline(summary: dict[str, Any]) -> str:
    name = summary["baseline"]
    return "the baseline" if name == "baseline" else f"the baseline ({name})"
