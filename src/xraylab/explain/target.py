"""A trained network with the test images that it is asked about."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from xraylab import files, shards, tables, targets
from xraylab.data import augment
from xraylab.data.image_cache import Normalise, Rows, network_input
from xraylab.errors import DataError
from xraylab.evaluate.multi_label.samples import fit_thresholds
from xraylab.explain import selection
from xraylab.explain.pictures import Gray
from xraylab.explain.saliency import Method, Saliency
from xraylab.model import hardware, weights
from xraylab.model.create import create_recorded_model
from xraylab.model.hardware import Hardware
from xraylab.paths import Paths
from xraylab.shards import Images
from xraylab.targets import Values
from xraylab.task import is_multi

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
    findings: "Findings | None" = None
    """Of a study with several findings per image."""

    @classmethod
    def load(
        cls, paths: Paths, name: str, repeat: int, shown: int | list[str], tell: Callable[[str], object]
    ) -> "Target":
        """The best epoch of a finished run; `tell` hears what computes. Errors: DataError without test images.

        `shown`: findings to look at, or how many of the most frequent ones.
        """
        folder, predictions = paths.model(name, repeat), paths.prediction(name, repeat)
        record, table = files.read_json(folder / "model.json"), tables.read(predictions)
        table = table[table["checkpoint"] == CHECKPOINT]
        tested = table[table["split"] == SPLIT].reset_index(drop=True)
        if tested.empty:
            raise DataError(f"{predictions} has no {SPLIT} images, so there is nothing to explain")
        machine, notes = hardware.choose_to_score(record["hardware"]["precision"])
        for line in [*hardware.first_lines(f"{name}-{repeat}", machine), *notes]:
            tell(line)
        network = create_recorded_model(record)
        weights.restore(network, folder / f"{CHECKPOINT}.safetensors")
        findings = None
        if is_multi(record["task"]):
            valid, index = table[table["split"] == "valid"], tables.read(paths.index)
            findings = Findings.of(tested, valid, index, list(record["classes"]), shown)
        network = network.eval().to(machine.device)
        return cls(name, record, network, machine, tested, *shards.load(paths.cache), findings)

    @property
    def classes(self) -> list[str]:
        return list(self.record["classes"])

    @property
    def size(self) -> int:
        """The network's images are (size, size)."""
        return int(self.record["img_size"])

    def first_image(self) -> str:
        """The first tested image of the positive class, of the first finding shown, or of the first class."""
        label = self.record["positive"] or self.classes[0]
        present = (self.predictions["label"] == label).to_numpy()
        if self.findings is not None:
            label = (self.findings.shown or self.classes)[0]
            present = self.findings.truth[:, self.classes.index(label)] == 1
        return str(self.predictions["id"][int(present.argmax())])

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


@dataclass(frozen=True)
class Findings:
    """What is known of the findings of a target's test images."""

    truth: Values
    """(test images, findings)."""
    thresholds: dict[str, float]
    """Finding -> the probability from which it is predicted, of the highest Youden index on the validation images."""
    shown: list[str]

    @classmethod
    def of(
        cls, tested: pd.DataFrame, valid: pd.DataFrame, index: pd.DataFrame, findings: list[str], shown: int | list[str]
    ) -> "Findings":
        """`tested` and `valid`: predictions of the splits; `shown` as in `Target.load`."""
        by_id = index.set_index("id")
        truth, of_valid = (targets.values(by_id.loc[part["id"]], findings) for part in (tested, valid))
        known = np.where(targets.known(of_valid), of_valid, np.nan)
        fitted = fit_thresholds(known, valid[[f"p_{name}" for name in findings]].to_numpy(float))
        thresholds = dict(zip(findings, fitted.tolist(), strict=True))
        chosen = selection.most_frequent(truth, findings, shown) if isinstance(shown, int) else shown
        return cls(truth, thresholds, chosen)
