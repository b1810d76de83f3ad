"""Experiments beside one another: the mean over repeats, and who comes first."""

from typing import Any

Result = dict[str, Any]  # the figures of one experiment, repeat, checkpoint and side
KEYS = ("experiment", "checkpoint", "side")
AVERAGED = ("accuracy", "precision", "recall", "f1", "auroc", "log_loss")


def means(results: list[Result]) -> list[Result]:
    """Each figure's mean over repeats, per experiment, checkpoint and side; None where a repeat has none."""
    rows: dict[tuple[str, ...], list[Result]] = {}
    for row in results:
        rows.setdefault(tuple(row[key] for key in KEYS), []).append(row)
    return [
        dict(zip(KEYS, key, strict=True)) | {name: mean([row[name] for row in repeats]) for name in AVERAGED}
        for key, repeats in rows.items()
    ]


def rank(means: list[Result], side: str, select_by: str) -> list[Result]:
    """The experiments from the best to the worst by the mean figure of their best epochs on `side`.

    `select_by` is f1, accuracy or loss. Equal ones are ordered by their loss, then as they come in `means`.
    """
    name = "log_loss" if select_by == "loss" else select_by
    sign = 1 if name == "log_loss" else -1
    wanted = [row for row in means if (row["checkpoint"], row["side"]) == ("best", side)]
    ordered = sorted(wanted, key=lambda row: (sign * row[name], row["log_loss"]))
    return [{key: row[key] for key in ("experiment", "f1", "accuracy", "log_loss")} for row in ordered]


def mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
