"""What a run reads: which images train and which are scored after every epoch, as pixels or as features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from xraylab import tables
from xraylab.data.image_cache import SCORING_BATCH, Images, Rows, load
from xraylab.data.sampling import EpochSampler
from xraylab.model.features import Features

Of = Callable[[Sequence[int]], NDArray[np.int64]]


@dataclass(frozen=True)
class Chosen:
    """Some images: rows of the image cache, and class numbers."""

    rows: Rows
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Inputs:
    images: Images
    training: Chosen
    scored: Chosen
    sides: NDArray[np.str_]  # of each scored image
    names: list[str]  # of the training images
    groups: NDArray[np.int64]  # of the training images: the number of its pair of source and class
    sources: list[str]  # of the training images, in the order of their numbers: group = source * classes + class

    @property
    def used(self) -> Rows:
        """All rows of the image cache that the run looks at, ascending."""
        return np.unique(np.concatenate([self.training.rows, self.scored.rows]))


def read(split: Path, cache: Path, classes: list[str], select_on: str) -> Inputs:
    """What is scored is the validation side, and in published mode alone the test side."""
    names = ["valid", "test"] if select_on == "test" else ["valid"]
    training = tables.read(split / "train_data.csv")
    scored = pd.concat([tables.read(split / f"{name}_data.csv").assign(side=name) for name in names], ignore_index=True)
    images, row_of = load(cache)

    def chosen(table: pd.DataFrame) -> Chosen:
        rows = np.array([row_of[name] for name in table["id"]], np.int64)
        return Chosen(rows, np.array([classes.index(label) for label in table["label"]], np.int64))

    own = chosen(training)
    sources, source = np.unique(training["source"].to_numpy(str), return_inverse=True)
    groups = source * len(classes) + own.labels
    sides = scored["side"].to_numpy(str)
    return Inputs(images, own, chosen(scored), sides, list(training["id"]), groups, sources.tolist())


def feature_loaders(
    features: Features, training: Chosen, order: EpochSampler, scored: Chosen, batch_size: int, device: str
) -> DataLoaders:
    """As `data.loaders.dataloaders`, in the same order and batches, with features in place of images."""

    def loader(images: Chosen, places: int, size: int, of: Of, **options: bool) -> DataLoader:
        def make(batch: Sequence[int]) -> tuple[Tensor, Tensor]:
            chosen = of(batch)
            return features.of(images.rows[chosen]), from_numpy(images.labels[chosen])

        return DataLoader(
            range(places), bs=size, create_batch=make, retain=lambda batch, _: batch, device=device, **options
        )

    alone = len(order) % batch_size == 1
    train = loader(training, len(order), batch_size, order.of, shuffle=not order.ordered, drop_last=alone)
    return DataLoaders(train, loader(scored, len(scored.rows), SCORING_BATCH, np.asarray), device=device)
