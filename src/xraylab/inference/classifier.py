"""A trained classifier: its network, its preprocessing and its thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from xraylab.data import pixels, prepare
from xraylab.data.image_cache import Normalise, network_input
from xraylab.data.pixels import Gray, Picture
from xraylab.data.prepare import Preparation
from xraylab.inference import thresholds as operating
from xraylab.inference.card import ModelCard
from xraylab.inference.reference import Reference
from xraylab.inference.thresholds import Bools, Floats, Thresholds
from xraylab.model import hardware, scoring
from xraylab.model.compiling import Forward
from xraylab.model.hardware import Hardware
from xraylab.model.penultimate import WithFeatures
from xraylab.task import is_multi


@dataclass(frozen=True)
class Scores:
    """Probabilities and features of images, from one pass of a network."""

    p: Floats
    """The probability of each class, float64 (n, classes), before temperature scaling."""
    features: NDArray[np.float32]
    """(n, width): the input of the network's head, for `Reference.check`."""


@dataclass(frozen=True)
class Classifier:
    """One run's network after its best epoch, ready to classify images; made by `create`.

    Runs, bundles, the export and the web server all classify through it, so that an image has the same probabilities
    everywhere.
    """

    name: str
    record: dict[str, Any]
    """The keys of model.json that predictions need."""
    thresholds: Thresholds
    network: nn.Module
    """On the CPU, as its weights are stored."""
    forward: Forward
    """The same network prepared to score, batch norm fused, on the device: to logits, then features, side by side."""
    hardware: Hardware
    notes: tuple[str, ...]
    """Notable things about how it computes, such as a GPU that is not used."""
    card: ModelCard | None = None
    """Of a bundle; `predict.cards.of_run` makes that of a run."""
    reference: Reference | None = None
    """Statistics of its training images, which warnings need; None where they are not at hand."""

    @classmethod
    def create(
        cls,
        name: str,
        record: dict[str, Any],
        thresholds: Thresholds,
        network: nn.Module,
        precision: str | None = None,
    ) -> "Classifier":
        """`precision`: `float32` and the like; None is that of training where this machine computes it fast."""
        if precision is None:
            machine, notes = hardware.choose_to_score(record["hardware"]["precision"])
        else:
            machine, notes = hardware.choose(precision), []
        hardware.deterministic_algorithms()
        fused, more = scoring.fuse(network.eval(), machine)
        lines = [*hardware.first_lines(name, machine)[1:], *notes, *more]
        return cls(name, record, thresholds, network, WithFeatures(fused), machine, tuple(lines))

    @property
    def classes(self) -> list[str]:
        """The classes, or the findings of a multi-label study."""
        return list(self.record["classes"])

    @property
    def multi_label(self) -> bool:
        return is_multi(self.record["task"])

    @property
    def size(self) -> int:
        """`prepare` makes images (size, size)."""
        return int(self.record["images"]["size"])

    def read(self, path: Path) -> Gray:
        """An image file prepared as the training images were: uint8 (size, size). Errors: DataError with its path."""
        return self.prepare(pixels.decode(path))

    def prepare(self, picture: Picture) -> Gray:
        """A decoded image prepared as the training images were: uint8 (size, size)."""
        images = self.record["images"]
        return prepare.from_picture(picture, Preparation.recorded(images), self.size, images["resize_method"])[0]

    def to_input(self, images: Gray) -> Tensor:
        """The network's input for prepared images (n, size, size): float32 (n, channels, img_size, img_size)."""
        return self._input(images, 0, len(images))

    def predict_proba(self, images: Gray) -> Floats:
        """The probability of each class, float64 (n, classes), for prepared images (n, size, size).

        Softmax over the classes, or the sigmoid of each finding, before temperature scaling.
        """
        return self.score(images).p

    def score(self, images: Gray) -> Scores:
        """`predict_proba`, and the features that it comes from."""
        (raw,), _ = scoring.outputs(
            [self.forward], partial(self._input, images), len(images), self.hardware, "scoring images"
        )
        p = scoring.activation(self.multi_label)(raw[:, : len(self.classes)])
        return Scores(p.cpu().numpy().astype(np.float64), raw[:, len(self.classes) :].cpu().numpy())

    def calibrate(self, p: Floats) -> Floats | None:
        """Probabilities (n, classes) after temperature scaling; None where no temperature was fitted."""
        return operating.calibrate(p, self.classes, self.thresholds, self.multi_label)

    def reaches(self, p: Floats, point: str) -> dict[str, Bools]:
        """Class -> which images' probability (n, classes) reaches its threshold at the operating point `point`."""
        limits = self.thresholds.named(point)
        return {name: p[:, self.classes.index(name)] >= limit for name, limit in limits.items()}

    def predict(self, paths: Path | str | Sequence[Path | str]) -> list[dict[str, float]]:
        """Class -> probability, of each image file. Errors: DataError where one cannot be read."""
        each = [paths] if isinstance(paths, (str, Path)) else paths
        images = np.stack([self.read(Path(path)) for path in each])
        return [dict(zip(self.classes, row.tolist(), strict=True)) for row in self.predict_proba(images)]

    def _input(self, images: Gray, start: int, stop: int) -> Tensor:
        rows, normalise = np.arange(start, stop), Normalise.recorded(self.record["normalise"])
        return network_input(images, rows, normalise, self.record["img_size"], self.hardware.device)
