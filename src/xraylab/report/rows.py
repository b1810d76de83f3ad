"""The rows of the report's tables."""

from typing import Any

from xraylab.report.answer import mark


def changes(plan: dict[str, Any], baseline: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """What `plan` sets otherwise than `baseline`, both nested: dotted key, the baseline's value, its own."""
    ours, theirs = _flat(plan), _flat(baseline)
    return [(key, theirs[key], ours[key]) for key in ours if ours[key] != theirs[key]]


def resolved(plans: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Dotted key -> its value in each of `plans`, which are nested and alike."""
    flat = [_flat(plan) for plan in plans]
    return {key: [each[key] for each in flat] for key in flat[0]}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": _as_written(value)}
    return flat


def _as_written(value: Any) -> Any:
    """null, true and false as params.yaml has them."""
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else value


def confusions(summary: dict[str, Any], experiment: str) -> list[dict[str, Any]]:
    """The confusion matrix of each repeat's best epoch on the test side, each cell with its share of the row."""
    return [
        {
            "repeat": row["repeat"],
            "mark": mark(summary, experiment),
            "rows": [[(count, count / max(sum(counts), 1)) for count in counts] for counts in row["confusion"]],
        }
        for row in summary["results"]
        if (row["experiment"], row["checkpoint"], row["side"]) == (experiment, "best", "test")
    ]
