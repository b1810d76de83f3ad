"""reports/comparison.csv: the chief figures of every run side by side."""

import numpy as np
import pandas as pd

from xraylab.evaluate.compare import Result
from xraylab.evaluate.estimates import Row
from xraylab.evaluate.study import REPEAT
from xraylab.evaluate.values import MACRO, OVERALL, Asked

WITH_INTERVAL = {"accuracy": "accuracy", "precision": "ppv", "recall": "sensitivity", "f1": "f1", "auroc": "auroc"}
MORE = ("balanced_accuracy", "specificity", "npv", "mcc", "kappa", "auprc", "brier")


def comparison(results: list[Result], rows: list[Row], asked: Asked) -> pd.DataFrame:
    """The table for people: one row per experiment, repeat, checkpoint and side."""
    table = pd.DataFrame(results).drop(columns="confusion")
    by_run = _by_run(rows, asked)
    found = [by_run[row["experiment"], row["repeat"], row["checkpoint"], row["side"]] for row in results]
    for name in MORE:
        table[name] = pd.Series([row[name]["value"] for row in found], dtype=float)
    for name, ours in WITH_INTERVAL.items():
        for end in ("low", "high"):
            table[f"{name}_{end}"] = pd.Series([row[ours][end] for row in found], dtype=float)
    if asked.positive is None:
        return table
    cells = np.array([row["confusion"] for row in results])
    positive, negative = asked.positive, 1 - asked.positive
    return table.assign(
        tn=cells[:, negative, negative],
        fp=cells[:, negative, positive],
        fn=cells[:, positive, negative],
        tp=cells[:, positive, positive],
    )


def _by_run(rows: list[Row], asked: Asked) -> dict[tuple[str, int, str, str], dict[str, Row]]:
    """(experiment, repeat, checkpoint, side) -> figure -> its row, overall, of the positive class or the class mean."""
    whose = MACRO if asked.positive is None else asked.classes[asked.positive]
    found: dict[tuple[str, int, str, str], dict[str, Row]] = {}
    for row in rows:
        if row["kind"] == REPEAT and row["of"] in (OVERALL, whose):
            key = (row["experiment"], row["number"], row["checkpoint"], row["side"])
            own = found.setdefault(key, {})
            if row["of"] == OVERALL or row["figure"] not in own:
                own[row["figure"]] = row
    return found
