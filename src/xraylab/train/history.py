"""The history of a run: one row per epoch, kept with its weights, and shown as it grows."""

import time
from collections.abc import Callable
from math import isfinite
from typing import Any

import numpy as np
import torch
from fastai import learner
from fastai.callback.core import Callback
from fastai.learner import AvgSmoothLoss, Metric
from numpy.typing import NDArray
from torch import Tensor

from xraylab import progress, running
from xraylab.errors import TrainingError
from xraylab.evaluate import macro
from xraylab.evaluate.confusion import accuracy, confusion_matrix, f1
from xraylab.model import losses
from xraylab.task import MULTI_LABEL, SINGLE_LABEL
from xraylab.train.state import Row

CHECK_EVERY = 64  # batches
LISTED = 32  # names of a batch
WIDTH, TITLE = 100, 40  # columns of a line, and at most so many for the run's name

# fastai carries no types, so to mypy its classes are Any: hence the ignores below


def confusion(logits: Tensor, labels: Tensor, classes: int) -> NDArray[np.int64]:
    """Images of class i that were predicted as class j, at [i, j]."""
    return confusion_matrix(labels.numpy(), logits.argmax(dim=1).numpy(), classes)


METRICS = {SINGLE_LABEL: ("accuracy", "f1"), MULTI_LABEL: macro.METRICS}
"""The history's metrics of a split, besides the loss, by task."""


def scores(logits: Tensor, labels: Tensor, positive: int | None) -> dict[str, float]:
    """Those metrics, over images with one label (images,) or labels of findings (images, findings)."""
    if labels.is_floating_point():
        return macro.scores(labels.numpy(), logits.sigmoid().numpy())
    matrix = confusion(logits, labels, logits.shape[1])
    return {"accuracy": accuracy(matrix), "f1": f1(matrix, positive)}


class SplitMetric(Metric):  # type: ignore[misc]
    """A metric of one of the splits that are scored after each epoch, which fastai shows under the history's name."""

    def __init__(self, split: str, name: str, positive: int | None) -> None:
        self.split, self.short_name, self.positive = split, name, positive

    @property
    def name(self) -> str:
        """As the history's column."""
        return f"{self.split}_{self.short_name}"

    def reset(self) -> None:
        """Begin anew."""
        self.count = 0
        self.batches: list[tuple[Tensor, Tensor]] = []

    def accumulate(self, learn: Any) -> None:
        """Count a batch."""
        images, logits, labels = len(learn.pred), learn.pred.detach().cpu(), learn.yb[0].cpu()
        items = getattr(getattr(learn.dl, "dataset", None), "items", None)
        if items is not None and "split" in items:
            members = torch.from_numpy(items["split"].to_numpy(str)[self.count : self.count + images] == self.split)
            logits, labels = logits[members], labels[members]
        self.count += images
        self.batches.append((logits, labels))

    @property
    def value(self) -> float:
        """The metric of the images counted so far; NaN where none has a label."""
        if not self.batches:
            return float("nan")
        logits, labels = map(torch.cat, zip(*self.batches, strict=True))
        return scores(logits, labels, self.positive)[self.short_name]


class _SmoothLoss(AvgSmoothLoss):  # type: ignore[misc]
    """fastai's, left on the device."""

    val: Tensor

    def accumulate(self, learn: Any) -> None:
        """Count a batch."""
        self.count += 1
        loss = learn.loss.detach().mean()
        self.val = torch.lerp(loss, self.val.to(loss.device), self.beta)


class Recorder(learner.Recorder):  # type: ignore[misc]
    """fastai's, but that training losses leave the device once an epoch: after every batch, a GPU would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.smooth_loss = _SmoothLoss()
        self.losses: list[Tensor] = []

    def after_train(self) -> None:
        super().after_train()
        self.losses = list(torch.stack(self.losses).cpu()) if self.losses else []

    def after_cancel_fit(self) -> None:
        self.losses = [loss.cpu() for loss in self.losses]  # as a learning rate finder ends


class History(Callback):  # type: ignore[misc]
    """One row per epoch: learning rate, running training loss and accuracy, then loss and `METRICS` of each split.

    A loss that is no number ends the training.
    """

    order = 65  # after the schedule has set this batch's rate

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def start_phase(self, name: str) -> None:
        self.phase = name

    def before_train(self) -> None:
        zero = torch.zeros((), device=self.dls.device)
        self.total, self.correct = zero, zero
        self.entries: Tensor | int = 0
        self.known: Tensor | int = 0
        self.unchecked: list[tuple[Tensor, NDArray[np.int64]]] = []

    def before_validate(self) -> None:
        self.logits: list[Tensor] = []
        self.labels: list[Tensor] = []

    def after_batch(self) -> None:
        if not self.training:
            self.logits.append(self.pred.cpu())
            self.labels.append(self.yb[0].cpu())
            return
        loss = self.learn.loss.detach()
        self.unchecked.append((loss, self.dls.train.sampler.latest))
        if len(self.unchecked) == CHECK_EVERY:
            self._check()
        entries, correct, known = self._counts()
        self.total, self.entries = self.total + loss * entries, self.entries + entries
        self.correct, self.known = self.correct + correct, self.known + known

    def _counts(self) -> tuple[Tensor | int, Tensor, Tensor | int]:
        """The labels of a batch that its loss counts, those predicted as they are, and those that are known.

        What training makes of uncertain labels is learnt, and yet no label that a prediction could agree with.
        """
        pred, labels, train = self.pred, self.yb[0], self.dls.train
        if self.dls.task == SINGLE_LABEL:
            return len(labels), (pred.argmax(dim=1) == labels).sum(), len(labels)
        known = torch.from_numpy(train.dataset.known_labels[train.sampler.latest]).to(pred.device)
        return losses.counted(labels).sum(), ((pred >= 0) == known).sum(), losses.counted(known).sum()

    def after_train(self) -> None:
        self._check()

    def _check(self) -> None:
        """Refuse a loss that is no number; not after every batch, since a GPU would have to wait for the answer."""
        values, positions = zip(*self.unchecked, strict=True) if self.unchecked else ((), ())
        self.unchecked = []
        wrong = [
            number for number, loss in enumerate(torch.stack(values).tolist() if values else []) if not isfinite(loss)
        ]
        if wrong:
            batch = self.iter - len(values) + 1 + wrong[0]
            raise TrainingError(
                f"the training loss is no longer a number in epoch {len(self.rows)}, batch {batch}: lower train.lr (a"
                " tenth is a good try), set train.grad_clip, or set train.precision to float32. The batch's images,"
                " which may be at fault where it is the first of all:",
                _listed(list(self.dls.train_ds.items["id"].iloc[positions[wrong[0]]])),
            )

    def after_validate(self) -> None:
        logits, labels = torch.cat(self.logits), torch.cat(self.labels)
        row: Row = {
            "epoch": len(self.rows),
            "phase": self.phase,
            "lr": float(self.opt.hypers[-1]["lr"]),
            "train_loss": float(self.total) / max(float(self.entries), 1),
            "train_accuracy": float(self.correct) / max(float(self.known), 1),
        }
        splits = self.dls.valid_ds.items["split"].to_numpy(str)
        for split in dict.fromkeys(splits.tolist()):
            members = torch.from_numpy(splits == split)
            metrics = self._metrics(logits[members], labels[members])
            row |= {f"{split}_{name}": value for name, value in metrics.items()}
        self.rows.append(row)

    def _metrics(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        loss = float(self.loss_func(logits.to(self.pred.device), labels.to(self.pred.device)))
        return {"loss": loss, **scores(logits, labels, self.dls.positive)}


class Checkpoint(Callback):  # type: ignore[misc]
    """Calls `save` once an epoch's row is written."""

    order = 90

    def __init__(self, save: Callable[[], None]) -> None:
        self.save = save

    def after_validate(self) -> None:
        self.save()


class EpochBar(Callback):  # type: ignore[misc]
    """A line per epoch, and in between a bar over all batches that are left, with the time left.

    Where there is no terminal for the bar, a line every half minute takes its place. `monitor` is the history column
    that chooses the best epoch.
    """

    order = 95

    def __init__(
        self,
        title: str,
        epochs: int,
        history: History,
        monitor: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title, self.epochs, self.history, self.monitor, self.clock = title, epochs, history, monitor, clock
        self.display = progress.display()

    def start(self, epochs_done: int) -> None:
        batches = len(self.dls.train)
        self.pace = progress.Pace(self.epochs * batches, epochs_done * batches, self.clock)
        self.told = self.clock()
        self.display.start()
        self.task = self.display.add_task(self.title, total=self.pace.total, completed=self.pace.completed)

    def after_batch(self) -> None:
        if self.training:
            self.pace.advance()
            self.display.advance(self.task)
            self._tell_watchers({}, running.EVERY)
        if self.display.disable and self.pace.due():
            progress.say(self._so_far())

    def after_validate(self) -> None:
        line = epoch_line(self.title, self.epochs, self.history.rows[-1], self.monitor)
        self.display.console.print(line, highlight=False, soft_wrap=True)
        self._tell_watchers({name: value for name, value in self.history.rows[-1].items() if "_" in name}, 0)
        self.pace.restart()

    def _tell_watchers(self, metrics: dict[str, float], pause: float) -> None:
        """Tell `xraylab watch`, not oftener than every `pause` seconds."""
        now = self.clock()
        if now - self.told >= pause:
            self.told = now
            running.epoch(len(self.history.rows), self.epochs, metrics, self.monitor, self.pace.seconds_left())

    def stop(self) -> None:
        self.display.stop()

    def _so_far(self) -> str:
        epoch = f"{cut(self.title, TITLE)} epoch {len(self.history.rows) + 1}/{self.epochs}"
        part = f"{100 * (self.iter + 1) // self.n_iter} %{'' if self.training else ' scored'}"
        images = self.pace.per_second() * self.dls.train.bs
        return f"{epoch}, {part}  {images:.0f} images/s  {self.pace.remaining()} left"


def epoch_line(title: str, epochs: int, row: Row, monitor: str) -> str:
    """An epoch's metrics on a line of at most `WIDTH` columns, of which the one that chooses never falls off."""
    split, _, _ = monitor.partition("_")
    line = f"{cut(title, TITLE)} epoch {row['epoch'] + 1}/{epochs}"
    first = dict.fromkeys([monitor, "train_loss", f"{split}_loss", f"{split}_f1", f"{split}_accuracy"])
    columns: list[str] = []
    for name in first:
        if len(line) + sum(len(_value(row, other)) for other in [*columns, name]) <= WIDTH:
            columns.append(name)
    return line + "".join(_value(row, name) for name in row if name in columns)


def cut(text: str, width: int) -> str:
    """The text, or as much of its beginning as fits."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _value(row: Row, name: str) -> str:
    return f"  {name} {row[name]:.4f}"


def _listed(names: list[str]) -> list[str]:
    more = len(names) - LISTED
    return [*names[:LISTED], f"and {more} more"] if more > 0 else names
