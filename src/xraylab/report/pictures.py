"""The radiographs of the report, as the cache holds them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraylab import tables
from xraylab.report import images, pair
from xraylab.report.curves import by_experiment, name

SAMPLES_PER_CLASS = 6
RIGHT_PER_CLASS = 6
MISTAKES = 12
Shown = Callable[[pd.DataFrame], list[dict[str, Any]]]


def showing(cache: Path) -> Shown:
    """A function that gives each row of a table with ids its image."""
    pixels = np.load(cache / "images.npy", mmap_mode="r")
    row_of = {name: row for row, name in enumerate(tables.read(cache / "rows.csv")["id"])}

    def shown(table: pd.DataFrame) -> list[dict[str, Any]]:
        uris = [images.data_uri(pixels[row_of[name]]) for name in table["id"]]
        return [{str(key): value for key, value in row.items()} for row in table.assign(image=uris).to_dict("records")]

    return shown


def of_classes(index: pd.DataFrame, classes: list[str], shown: Shown) -> dict[str, list[dict[str, Any]]]:
    """Some images of each class, evenly through the index."""
    found = {}
    for label in classes:
        own = index.loc[index["label"] == label, ["id"]]
        places = np.linspace(0, len(own) - 1, SAMPLES_PER_CLASS).astype(int)
        found[label] = shown(own.iloc[np.unique(places)])
    return found


def of_test(folder: Path, summary: dict[str, Any], shown: Shown) -> dict[str, Any]:
    """Test images as the first repeat of the best experiment sees them."""
    run = by_experiment(summary)[summary["top_two"][0]][0]
    table = tables.read(folder / f"images/{name(run)}.csv")
    return {
        "run": run,
        "right": {label: shown(images.right(table, label, RIGHT_PER_CLASS)) for label in summary["classes"]},
        "mistakes": shown(images.mistakes(table, MISTAKES)),
        "wrong": int((table["actual"] != table["predicted"]).sum()),
    }


def of_pair(folder: Path, summary: dict[str, Any], shown: Shown) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Per experiment of the top two: its name, the other's, and what it alone gets right in the first repeat."""
    first, second = (by_experiment(summary)[experiment][0] for experiment in summary["top_two"])
    tables_of = [tables.read(folder / f"images/{name(run)}.csv") for run in (first, second)]
    alone = pair.alone_right(*tables_of)
    names = summary["top_two"]
    return [(names[0], names[1], shown(alone[0])), (names[1], names[0], shown(alone[1]))]
