"""Trainings of a tiny network on random images, through all that a run goes through but the stage's files."""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from fastai.callback.core import Callback
from fastai.data.transforms import CategoryMap
from runs import Killed
from torch import Tensor, nn

from xraylab import targets
from xraylab.data.dataloaders import Subset, XrayDataLoaders, build_dataloaders
from xraylab.data.sampling import EpochSampler
from xraylab.data.uncertain import Uncertain
from xraylab.model import hardware, networks, optimizers, schedules
from xraylab.model.schedules import Phase
from xraylab.train.averaging import EMA
from xraylab.train.fit import PhasedFit
from xraylab.train.learner import build_learner
from xraylab.train.state import CheckpointPolicy, Row, TrainingState

MACHINE = hardware.choose("float32")
IMAGES, SIZE = 24, 8  # and how many of them make a batch
State = dict[str, Tensor]


def images() -> tuple[Tensor, Tensor]:
    """Noise, of which the second class is brighter."""
    drawn = torch.Generator().manual_seed(1)
    labels = torch.arange(IMAGES) % 2
    return torch.randn(IMAGES, 1, 32, 32, generator=drawn) + 2 * labels[:, None, None, None], labels


@dataclass(frozen=True)
class Tensors:
    """Images that stand in memory as a network takes them."""

    images: Tensor

    def of(self, rows: np.ndarray) -> Tensor:
        return self.images[rows]


def loaders(
    pictures: Tensor, labels: Tensor, size: int, sources: list[str] | None = None, uncertain: str = "ignore"
) -> XrayDataLoaders:
    """The same images to train with and to score; labels (images, findings) are 1, 0, -1 or NaN."""
    names = [str(number) for number in range(len(labels))]
    if labels.ndim == 2:
        vocab = CategoryMap([*"ABCDEFG"[: labels.shape[1]]], sort=False)
        items, positive = targets.to_columns(labels.double().numpy(), list(vocab)).assign(id=names), None
        policy = Uncertain.of(uncertain, list(vocab), seed=0)
    else:
        items, positive = pd.DataFrame({"id": names, "label": [str(int(label)) for label in labels]}), 1
        vocab, policy = CategoryMap(sorted(set(items["label"])), sort=False), None
    items["source"] = sources or ""
    train, valid = (
        Subset(items.assign(split=split), np.arange(len(labels)), Tensors(pictures), vocab, positive, number, policy)
        for number, split in enumerate(["train", "valid"])
    )
    sampler = EpochSampler("none", train.labels, seed=0)
    return build_dataloaders(train, valid, sampler, None, size, 0, "cpu", row_of={}, read_image=None)


def phase(optimizer: str, epochs: int, frozen: bool, lr: float = 0.01) -> Phase:
    """Some epochs at one rate, with a strong weight decay."""
    momentum = 0.9 if optimizer in {"sgd", "rmsprop"} else None
    (constant,) = schedules.constant(epochs, lr, networks.PARTS, cycle_momentum=False)
    return replace(constant, frozen=frozen, opt_func=optimizers.factory(optimizer, 0.1, momentum))


class Watch(Callback):
    """Remembers the weights that each epoch ends with, and may end it all before one."""

    order = 1

    def __init__(self, stop: int | None) -> None:
        self.stop, self.states = stop, list[State]()

    def before_train(self) -> None:
        if len(self.states) == self.stop:
            raise Killed

    def after_train(self) -> None:
        self.states.append({name: tensor.clone() for name, tensor in self.model.state_dict().items()})


@dataclass
class Fitted:
    """The network after each epoch, what was kept of it (the average where there is one), and the history."""

    run: TrainingState
    trained: list[State]
    rows: list[Row] = field(default_factory=list)


def fit(
    folder: Path,
    parts: list[Phase],
    network: nn.Module,
    cbs: list[Callback] | None = None,
    ema: float | None = None,
    stop: int | None = None,
) -> Fitted:
    """Train `network` on the images, or go on in `folder`; with `stop` end after so many epochs by an exception."""
    pictures, labels = images()
    own = [*(cbs or []), *([] if ema is None else [EMA(network, ema)])]
    dls = loaders(pictures, labels, SIZE)
    learn = build_learner(dls, network, nn.CrossEntropyLoss(), parts[0].opt_func, MACHINE, own)
    finished, watch = TrainingState(folder, CheckpointPolicy("valid_f1", keep_all=True)), Watch(stop)
    with suppress(Killed):
        PhasedFit(learn, parts, finished, "test-0", watching=[watch]).run()
    return Fitted(finished, watch.states, finished.rows)
