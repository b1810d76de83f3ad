"""Labels of several findings: their columns in tables, and back."""

from pathlib import Path

import numpy as np
import pandas as pd

from xraylab import tables, targets

FINDINGS = ["Effusion", "Mass"]
LABELS = np.array([[1, 1], [0, 1], [0, 0], [-1, np.nan]])


def test_columns_of_findings_survive_a_table(tmp_path: Path) -> None:
    table = pd.concat([pd.DataFrame({"id": ["001", "2", "3", "4"]}), targets.to_columns(LABELS, FINDINGS)], axis=1)
    tables.write(table, tmp_path / "index.csv")
    again = tables.read(tmp_path / "index.csv")
    tables.write(again, tmp_path / "again.csv")
    assert (tmp_path / "index.csv").read_text().splitlines() == [
        "id,label,y_Effusion,y_Mass",
        "001,Effusion|Mass,1,1",
        "2,Mass,0,1",
        "3,No Finding,0,0",
        "4,No Finding,-1,",
    ]
    np.testing.assert_array_equal(targets.values(again, FINDINGS), LABELS)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "index.csv").read_bytes()


def test_only_0_and_1_are_known() -> None:
    assert targets.known(LABELS).tolist() == [[True, True], [True, True], [True, True], [False, False]]
