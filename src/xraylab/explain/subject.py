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
class Subject:
    """One run's network after one epoch; `model` is its model.json."""

    name: str
    model: dict[str, Any]
    network: nn.Module
    machine: Hardware
    tested: pd.DataFrame
    """Its predictions of the test images: id, label, p_<class>."""
    cached: Images
    row_of: dict[str, int]
    """Each id's row in `cached`."""

    @property
    def pixels(self) -> int:
        return int(self.model["pixels"])

    def rows(self, ids: Sequence[str]) -> Rows:
        return np.array([self.row_of[name] for name in ids], np.int64)

    def shown(self, images: Images, rows: Rows) -> Tensor:
        """What the network is shown of uint8 images as they are cached: float32 (n, channels, pixels, pixels)."""
        normalise = Normalise.recorded(self.model["normalise"])
        return network_input(images, rows, normalise, self.pixels, self.machine.device)

    def input(self, ids: Sequence[str]) -> Tensor:
        """The same of test images by name."""
        return self.shown(self.cached, self.rows(ids))

    def gray(self, name: str) -> Gray:
        """The same image for people: uint8 (pixels, pixels)."""
        return augment.resized(self.cached[self.row_of[name]], self.pixels)


def saliency_of(
    subject: Subject, network: nn.Module, methods: dict[str, Method], ids: Sequence[str], labels: Sequence[str]
) -> dict[str, Saliency]:
    """Each method's maps (n, pixels, pixels) of the evidence for `labels` in these images, after a network.

    The network is the subject's own, or another that takes the same input.
    """
    images = subject.input(ids)
    numbers = [subject.model["classes"].index(label) for label in labels]
    classes = torch.tensor(numbers, device=images.device)
    return {name: method(network, images, classes).numpy() for name, method in methods.items()}
