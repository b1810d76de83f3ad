"""Images to try an exported classifier on: those of its study, or generated radiographs where there is none."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from xraylab import shards, tables, targets
from xraylab.data.pixels import Gray, Picture
from xraylab.demo import radiograph
from xraylab.inference.classifier import Classifier
from xraylab.paths import Paths
from xraylab.predict import checkpoints
from xraylab.predict.checkpoints import TrainedModel

N_CHECKED = 64
N_GENERATED = 16


@dataclass(frozen=True)
class Samples:
    """Prepared images uint8 (n, size, size), where they are from, and the rows of their table."""

    images: Gray
    what: str
    rows: pd.DataFrame

    def __len__(self) -> int:
        return len(self.images)


def of_split(paths: Paths, run: TrainedModel, split: str, most: int) -> Samples:
    """Labelled images of a split from the study's cache, evenly from its table; none where the split is empty.

    Errors: MissingError, DataError where the split or the cache is not there.
    """
    table = tables.read(paths.split_of(run.record["repeat"]) / f"{split}_data.csv")
    if not targets.of_table(table) and len(table):
        table = table[table["label"].isin(run.classes)]
    chosen = table.iloc[np.linspace(0, len(table) - 1, min(most, len(table))).round().astype(int)]
    images, row_of = shards.load(paths.cache)
    size = run.record["images"]["size"]
    empty = np.zeros((0, size, size), np.uint8)
    pixels = np.stack([images[row_of[name]] for name in chosen["id"]]) if len(chosen) else empty
    names = {"train": "training", "valid": "validation", "test": "test"}
    return Samples(pixels, f"{len(chosen)} {names[split]} images", chosen.reset_index(drop=True))


def to_check(paths: Paths, name: str) -> Samples:
    """Test images of the study that a run is of."""
    return of_split(paths, checkpoints.find_run(paths, name), "test", N_CHECKED)


def generated(classifier: Classifier) -> Samples:
    """Generated radiographs, prepared as the classifier's images."""
    rng = np.random.default_rng(0)
    patients = [radiograph.draw_patient(rng, diseased=bool(number % 2)) for number in range(N_GENERATED)]
    films = [radiograph.expose(patient, max(classifier.size, 128), rng).gray for patient in patients]
    images = np.stack([classifier.prepare(Picture(film, "L", "PNG")) for film in films])
    return Samples(images, f"{len(images)} generated radiographs", pd.DataFrame(index=range(len(images))))
