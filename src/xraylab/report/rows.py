"""The rows of the report's tables."""

from typing import Any

from xraylab.report.answer import Means, mark

CHECKPOINTS = ("best", "last")
OF_ALL = ("accuracy", "mcc", "brier")
SURE = {"Accuracy": "accuracy", "Sensitivity": "sensitivity", "Specificity": "specificity", "PPV": "ppv", "NPV": "npv"}
SURE |= {"F1": "f1", "AUROC": "auroc", "AUPRC": "auprc", "MCC": "mcc", "Brier": "brier"}


def comparison(summary: dict[str, Any], means: Means) -> list[dict[str, Any]]:
    """One row per experiment, and under it one per repeat where there are several: test figures of best and last."""
    rows = []
    for experiment in dict.fromkeys(run["experiment"] for run in summary["runs"]):
        runs = _repeats(summary, experiment)
        whole = {"repeat": None, **_averages(means, experiment)} if len(runs) > 1 else runs[0]
        rank = summary["top_two"].index(experiment) + 1 if experiment in summary["top_two"] else None
        valid = means.get((experiment, "best", "valid"))
        rows.append(
            {"experiment": experiment, "rank": rank, "valid": valid, "mark": mark(summary, experiment), **whole}
        )
        if len(runs) > 1:
            rows += [{"experiment": experiment, "mark": rows[-1]["mark"], **run} for run in runs]
    return rows


def _repeats(summary: dict[str, Any], experiment: str) -> list[dict[str, Any]]:
    test = {
        (row["repeat"], row["checkpoint"]): row
        for row in summary["results"]
        if row["experiment"] == experiment and row["side"] == "test"
    }
    repeats = dict.fromkeys(repeat for repeat, _ in test)
    return [{"repeat": repeat, **{name: test[repeat, name] for name in CHECKPOINTS}} for repeat in repeats]


def _averages(means: Means, experiment: str) -> dict[str, Any]:
    return {name: {**means[experiment, name, "test"], "epoch": None} for name in CHECKPOINTS}


def changes(plan: dict[str, Any], baseline: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """What `plan` sets otherwise than `baseline`, both nested: dotted key, the baseline's value, its own."""
    ours, theirs = _flat(plan), _flat(baseline)
    return [(key, theirs[key], ours[key]) for key in ours if ours[key] != theirs[key]]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def machines(runs: list[dict[str, Any]]) -> list[str]:
    """Where the runs were trained, each machine and precision once."""
    found = [run["hardware"] for run in runs]
    return list(dict.fromkeys(f"{item['device']} ({item['name']}), {item['precision']}" for item in found))


def confusions(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The confusion matrix of every run's best epoch on the test side, each cell with its share of the row."""
    return [
        {
            "experiment": row["experiment"],
            "repeat": row["repeat"],
            "mark": mark(summary, row["experiment"]),
            "rows": [[(count, count / max(sum(counts), 1)) for count in counts] for counts in row["confusion"]],
        }
        for row in summary["results"]
        if (row["checkpoint"], row["side"]) == ("best", "test")
    ]


def evidence(figures: list[dict[str, Any]], summary: dict[str, Any]) -> dict[str, Any]:
    """The table of figures with intervals: best epochs, test side, the mean probability over repeats."""
    whose = summary["positive"] or "macro"
    chosen = {
        (row["experiment"], row["figure"]): row
        for row in figures
        if (row["checkpoint"], row["side"], row["kind"]) == ("best", "test", "mean")
        and row["of"] == ("overall" if row["figure"] in OF_ALL else whose)
    }
    names = dict.fromkeys(experiment for experiment, _ in chosen)
    rows = [
        {"experiment": name, "mark": mark(summary, name), "figures": [chosen[name, key] for key in SURE.values()]}
        for name in names
    ]
    return {"names": list(SURE), "rows": rows}
