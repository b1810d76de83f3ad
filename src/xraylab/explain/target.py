"""A trained network with the test images that it is asked about."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from xraylab import files, shards, tables
from xraylab.data import augment
from xraylab.data.image_cache import Normalise, Rows, network_input
from xraylab.errors import DataError
from xraylab.explain.pictures import Gray
from xraylab.explain.saliency import Method, Saliency
from xraylab.model import hardware, weights
from xraylab.model.create import create_recorded_model
from xraylab.model.hardware import Hardware
from xraylab.paths import Paths
from xraylab.shards import Images

CHECKPOINT, SPLIT = "best", "test"


@dataclass(frozen=True)
class Target:
    """One run's network after its best epoch; `record` is its model.json."""

    name: str
    record: dict[str, Any]
    network: nn.Module
    hardware: Hardware
    predictions: pd.DataFrame
    """Of the test images: id, label, p_<class>."""
    images: Images
    """The image cache."""
    row_of: dict[str, int]
    """Each id's row in `images`."""

    @classmethod
    def load(cls, paths: Paths, name: str, repeat: int, tell: Callable[[str], object]) -> "Target":
        """The best epoch of a finished run; `tell` hears what computes. Errors: DataError without test images."""
        folder, predictions = paths.model(name, repeat), paths.prediction(name, repeat)
        record, table = files.read_json(folder / "model.json"), tables.read(predictions)
        tested = table[(table["checkpoint"] == CHECKPOINT) & (table["split"] == SPLIT)].reset_index(drop=True)
        if tested.empty:
            raise DataError(f"{predictions} has no {SPLIT} images, so there is nothing to explain")
        machine, notes = hardware.choose_to_score(record["hardware"]["precision"])
        for line in [*hardware.first_lines(f"{name}-{repeat}", machine), *notes]:
            tell(line)
        network = create_recorded_model(record)
        weights.restore(network, folder / f"{CHECKPOINT}.safetensors")
        return cls(name, record, network.eval().to(machine.device), machine, tested, *shards.load(paths.cache))

    @property
    def classes(self) -> list[str]:
        return list(self.record["classes"])

    @property
    def size(self) -> int:
        """The network's images are (size, size)."""
        return int(self.record["img_size"])

    def rows(self, ids: Sequence[str]) -> Rows:
        return np.array([self.row_of[name] for name in ids], np.int64)

    def to_input(self, images: Images, rows: Rows) -> Tensor:
        """What the network is shown of uint8 images as they are cached: float32 (n, channels, size, size)."""
        normalise = Normalise.recorded(self.record["normalise"])
        return network_input(images, rows, normalise, self.size, self.hardware.device)

    def gray(self, name: str) -> Gray:
        """A test image for people: uint8 (size, size)."""
        return augment.resize(self.images[self.row_of[name]], self.size)

    def saliency(
        self, methods: dict[str, Method], ids: Sequence[str], labels: Sequence[str], network: nn.Module | None = None
    ) -> dict[str, Saliency]:
        """Each method's maps (n, size, size) of the evidence for `labels` in these test images.

        After the target's own network, or another that takes the same input.
        """
        batch = self.to_input(self.images, self.rows(ids))
        classes = torch.tensor([self.classes.index(label) for label in labels], device=batch.device)
        return {name: method(network or self.network, batch, classes).numpy() for name, method in methods.items()}
