"""Trainings of a tiny network on random images, through all that a run goes through but the stage's files."""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from runs import Killed
from torch import Tensor, nn

from xraylab.data.sampling import EpochSampler
from xraylab.model import hardware, networks, optimizers, schedules
from xraylab.train import callbacks, run, steps
from xraylab.train.record import Choice, Run
from xraylab.train.run import Part

MACHINE = hardware.choose("float32")
IMAGES, SIZE = 24, 8  # and how many of them make a batch
State = dict[str, Tensor]


def images() -> tuple[Tensor, Tensor]:
    """Noise, of which the second class is brighter."""
    drawn = torch.Generator().manual_seed(1)
    labels = torch.arange(IMAGES) % 2
    return torch.randn(IMAGES, 1, 32, 32, generator=drawn) + 2 * labels[:, None, None, None], labels


def loaders(pictures: Tensor, labels: Tensor, size: int) -> DataLoaders:
    """The same images to train with and to score, in batches made of their places as ours are."""

    def loader() -> DataLoader:
        return DataLoader(
            range(len(labels)),
            bs=size,
            create_batch=lambda places: (pictures[list(places)], labels[list(places)]),
            retain=lambda batch, _: batch,
        )

    return DataLoaders(loader(), loader(), device="cpu")


def phase(optimizer: str, epochs: int, frozen: bool, lr: float = 0.01) -> Part:
    """Some epochs at one rate, with a strong weight decay."""
    momentum = 0.9 if optimizer in {"sgd", "rmsprop"} else None
    (constant,) = schedules.constant(epochs, lr, networks.PARTS, cycle_momentum=False)
    return Part(replace(constant, frozen=frozen), optimizers.factory(optimizer, 0.1, momentum))


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

    run: Run
    trained: list[State]
    rows: list[callbacks.Row] = field(default_factory=list)


def fit(
    folder: Path,
    parts: list[Part],
    network: nn.Module,
    cbs: list[Callback] | None = None,
    ema: float | None = None,
    stop: int | None = None,
) -> Fitted:
    """Train `network` on the images, or go on in `folder`; with `stop` end after so many epochs by an exception."""
    pictures, labels = images()
    order = EpochSampler("none", labels.numpy(), seed=0)
    learn = run.learner(
        loaders(pictures, labels, SIZE), network, nn.CrossEntropyLoss(), parts[0].opt_func, MACHINE, cbs or []
    )
    finished = Run(folder, Choice("valid_f1", min_epochs=0, soup=0, swa=0), keep_all=True)
    names = [str(number) for number in range(IMAGES)]
    history = callbacks.History(finished.rows, np.array(["valid"] * IMAGES), 2, 1, order, names)
    average = None if ema is None else steps.Average(network, ema)
    watch = Watch(stop)
    with suppress(Killed):
        run.fit(learn, parts, finished, history, order, 0, "test-0", None, average, [watch])
    return Fitted(finished, watch.states, finished.rows)
