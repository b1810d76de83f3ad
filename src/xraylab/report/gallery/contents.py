"""Contents of the gallery for each test image: its name, its labels, and the probabilities of every run, as arrays."""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from xraylab import tables, targets
from xraylab.report.artefacts import Artefacts
from xraylab.report.pictures import Names
from xraylab.report.records import Run, Tree, where

SPLIT, CHECKPOINT = "test", "best"
UNKNOWN = -1
"""Of a label that is uncertain or missing: it enters no count."""
DEFAULT_POINT = {"point": "0.5", "threshold": 0.5}
FIRST_POINT = "highest Youden index on validation"
"""Of several findings: the operating point that the report uses."""

Floats = npt.NDArray[np.float64]
Truth = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Contents:
    """`images`: rows of index.csv, of those that a repeat tests. Columns are the classes of which a curve is drawn.

    `truth` (columns, images): 1, 0 or UNKNOWN. `runs`: name -> probabilities (columns, images), NaN where the run does
    not test the image.
    """

    images: pd.DataFrame
    columns: list[str]
    truth: Truth
    runs: dict[str, Floats]


def read(data: Artefacts) -> Contents:
    """The test images in the order of the index, with the predictions of each run's best epoch."""
    columns = data.summary.classes if data.summary.multi else data.summary.drawn_classes
    predicted = {run.name: _predictions(data, run) for run in data.summary.runs}
    tested = set[str]().union(*(table.index for table in predicted.values()))
    images = data.index[data.index["id"].isin(tested)].reset_index(drop=True)
    names = [f"p_{label}" for label in columns]
    runs = {name: table[names].reindex(images["id"]).to_numpy(float).T for name, table in predicted.items()}
    return Contents(images, columns, _truth(images, columns, data.summary.multi), runs)


def _predictions(data: Artefacts, run: Run) -> pd.DataFrame:
    table = tables.read(data.paths.prediction(run.experiment, run.repeat))
    return table[(table["split"] == SPLIT) & (table["checkpoint"] == CHECKPOINT)].set_index("id")


def _truth(images: pd.DataFrame, columns: list[str], multi: bool) -> Truth:
    if not multi:
        return np.array([images["label"] == label for label in columns]).astype(np.int8)
    labels = targets.values(images, columns)
    return np.where(targets.known(labels), labels, UNKNOWN).astype(np.int8).T


def to_json(contents: Contents, data: Artefacts, names: Names) -> Tree:
    """All but the probabilities, for the page's script; arrays as `packed`."""
    summary, images = data.summary, contents.images
    sources = data.sources if len(data.sources) > 1 else []
    return {
        "names": [names.whole(name) for name in images["id"]],
        "labels": [] if summary.multi else summary.classes,
        "actual": [] if summary.multi else [summary.classes.index(label) for label in images["label"]],
        "sources": sources,
        "source": [sources.index(name) for name in images["source"]] if sources else [],
        "columns": contents.columns,
        "truth": packed(contents.truth),
        "multi": summary.multi,
        "binary": summary.positive is not None,
        "first": summary.top_two[0],
        "experiments": list(summary.experiments),
        "repeats": summary.repeats,
        "chosen_on_test": summary.chosen_on_test,
        "prevalences": prevalences(data),
        "points": {run.name: points(data, run, contents.columns) for run in summary.runs},
        "first_point": FIRST_POINT if summary.multi else DEFAULT_POINT["point"],
    }


def packed(array: npt.NDArray[Any]) -> str:
    """The array's little-endian bytes in base64: numbers stay exact."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")


def points(data: Artefacts, run: Run, columns: list[str]) -> list[list[Tree]]:
    """Of each column the operating points of the run that have a threshold; at least the threshold 0.5."""
    rows = where(data.operating_points, experiment=run.experiment, repeat=run.repeat)
    of_column = [
        [
            {"point": row.point, "threshold": row.threshold}
            for row in rows
            if row.class_ == label and row.threshold is not None
        ]
        for label in columns
    ]
    return [each or [DEFAULT_POINT] for each in of_column]


def prevalences(data: Artefacts) -> list[float | None]:
    """Of each column the prevalence that params.yaml states; None where it states none."""
    stated, summary = data.params.evaluate.prevalence, data.summary
    columns = summary.classes if summary.multi else summary.drawn_classes
    if stated is None or isinstance(stated, float):
        return [stated] * len(columns)
    return [stated[summary.classes.index(label)] for label in columns]
