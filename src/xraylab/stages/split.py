"""split: train_data.csv, valid_data.csv and test_data.csv, and a summary of who is where."""

from typing import Any

from xraylab import files, tables
from xraylab.data import split
from xraylab.params import Params
from xraylab.paths import Paths

COLUMNS = ["id", "path", "label", "patient"]
NAMED_PATIENTS = 20


def run(params: Params, paths: Paths) -> None:
    index = tables.read(paths.index)
    side = split.by_sorted_id(index, params.split.test, params.split.valid, params.split.seed)
    summary = {
        "strategy": params.split.strategy,
        "sides": split.summary(index, side),
        "shared_patients": split.shared_patients(index, side),
        "shared_duplicates": split.shared_duplicates(index, side),
    }
    with files.replacing_folder(paths.split) as folder:
        for name in split.SIDES:
            tables.write(index.loc[side == name, COLUMNS], folder / f"{name}_data.csv")
        files.write_json(summary, folder / "summary.json")
    _print(summary)


def _print(summary: dict[str, Any]) -> None:
    for side, classes in summary["sides"].items():
        for label, part in classes.items():
            names = f"{part['first']} to {part['last']}" if part["images"] else ""
            print(f"{side:6} {label:16} {part['images']:6}  {names}")
    shared = summary["shared_patients"]
    if shared:
        names = ", ".join(f"{row['patient']} ({'+'.join(row['sides'])})" for row in shared[:NAMED_PATIENTS])
        more = f" and {len(shared) - NAMED_PATIENTS} more, see summary.json" if len(shared) > NAMED_PATIENTS else ""
        print(
            f"warning: {len(shared)} patients have images on two sides, so the test is not independent: {names}{more}"
        )
    if summary["shared_duplicates"]:
        count = len(summary["shared_duplicates"])
        print(f"warning: {count} groups of identical images lie on two sides, see summary.json")
