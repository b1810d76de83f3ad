"""A trained network with the test images that it is asked about."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from xraylab.data import augment
from xraylab.data.image_cache import Images, Normalise, Rows, network_input
from xraylab.explain.pictures import Gray
from xraylab.explain.saliency import Method, Saliency
from xraylab.model.hardware import Hardware


@dataclass(frozen=True)
class Target:
    """One run's network after one epoch; `record` is its model.json."""

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

    @property
    def classes(self) -> list[str]:
        return list(self.record["classes"])

    @property
    def size(self) -> int:
        """The network's images are (size, size)."""
        return int(self.record["pixels"])

    def rows(self, ids: Sequence[str]) -> Rows:
        return np.array([self.row_of[name] for name in ids], np.int64)

    def to_input(self, images: Images, rows: Rows) -> Tensor:
        """What the network is shown of uint8 images as they are cached: float32 (n, channels, size, size)."""
        normalise = Normalise.recorded(self.record["normalise"])
        return network_input(images, rows, normalise, self.size, self.hardware.device)

    def gray(self, name: str) -> Gray:
        """A test image for people: uint8 (size, size)."""
        return augment.resized(self.images[self.row_of[name]], self.size)

    def saliency(
        self, methods: dict[str, Method], ids: Sequence[str], labels: Sequence[str], network: nn.Module | None = None
    ) -> dict[str, Saliency]:
        """Each method's maps (n, size, size) of the evidence for `labels` in these test images.

        After the target's own network, or another that takes the same input.
        """
        batch = self.to_input(self.images, self.rows(ids))
        classes = torch.tensor([self.classes.index(label) for label in labels], device=batch.device)
        return {name: method(network or self.network, batch, classes).numpy() for name, method in methods.items()}
