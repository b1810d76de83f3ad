"""Labels of several findings per image, as columns of tables."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

PREFIX = "y_"  # of the column of a finding: 1, 0, UNCERTAIN, or empty where nobody labelled it
UNCERTAIN = -1
NO_FINDING = "No Finding"
SEPARATOR = "|"

Values = NDArray[np.float64]


def columns(findings: Sequence[str]) -> list[str]:
    """The column of each finding in index.csv and in the tables of the split."""
    return [f"{PREFIX}{name}" for name in findings]


def of_table(table: pd.DataFrame) -> list[str]:
    """The columns of findings that a table has: none in a single-label study."""
    return [name for name in table.columns if str(name).startswith(PREFIX)]


def values(table: pd.DataFrame, findings: Sequence[str]) -> Values:
    """Labels (images, findings): 1, 0, -1 (uncertain) or NaN (not labelled)."""
    return table[columns(findings)].astype("Float64").to_numpy(float, na_value=np.nan)


def known(labels: Values) -> NDArray[np.bool_]:
    """Which labels are 0 or 1: only these enter a metric."""
    return np.asarray((labels == 0) | (labels == 1))


def to_columns(labels: Values, findings: Sequence[str]) -> pd.DataFrame:
    """The columns of findings, Int64, and `label`: the positive findings joined, or No Finding."""
    table = pd.DataFrame(labels, columns=columns(findings)).astype("Int64")
    table.insert(0, "label", [joined(row, findings) for row in labels])
    return table


def joined(row: NDArray[np.float64], findings: Sequence[str]) -> str:
    """The positive findings of one image, in their order, for people."""
    return SEPARATOR.join(name for name, value in zip(findings, row, strict=True) if value == 1) or NO_FINDING
