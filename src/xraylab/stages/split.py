"""split: assign images to train, validation and test, in each fold where there are folds; resolve what leaks."""

import pandas as pd

from xraylab import files, tables
from xraylab.data.split import assignment, lists
from xraylab.data.split.strategies import UNUSED
from xraylab.params.config import Params
from xraylab.paths import Paths


def run(params: Params, paths: Paths) -> None:
    index, near = _index(params.split.files, paths), tables.read(paths.near_duplicates)
    splits = assignment.assign(index, near, params.split)
    leaks = assignment.find_leaks(splits, near)
    with files.replacing_folder(paths.split) as folder:
        assignment.write(splits, leaks, folder)
    for line in assignment.lines(splits, leaks):
        print(line)


def _index(folder: str | None, paths: Paths) -> pd.DataFrame:
    """The index, its splits taken from the lists of split.files where there are any. Errors: DataError."""
    index = assignment.read_index(paths.index)
    if folder is None:
        return index
    column, rows = lists.read_record(paths.given_splits, paths.from_home(folder).name)
    return index.assign(split=lists.assign(column, rows, list(index["id"]), list(index["path"]), UNUSED))
