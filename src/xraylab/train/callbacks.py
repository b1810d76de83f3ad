"""What happens around fastai's loop: penalty, seeds, history, checkpoints."""

import random
import time
from collections.abc import Callable
from math import isfinite
from typing import Any, Protocol

import numpy as np
import torch
from fastai.callback.core import Callback
from numpy.typing import NDArray
from torch import Tensor

from xraylab import progress
from xraylab.data.sampling import EpochSampler
from xraylab.errors import TrainingError
from xraylab.evaluate import counts
from xraylab.model.losses import l2_penalty

Row = dict[str, Any]
LOOK_EVERY = 64  # batches
LISTED = 32  # names of a batch
WIDTH, TITLE = 100, 40  # columns of a line, and at most so many for the run's name


class Starts(Protocol):
    """Something that is drawn anew for every epoch."""

    def start(self, epoch: int) -> None: ...


# fastai carries no types, so to mypy each callback subclasses Any: hence the ignores below


class L2Penalty(Callback):  # type: ignore[misc]
    """Adds the penalty to what is differentiated; the recorded loss stays without it."""

    order, run_valid = 5, False

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def after_loss(self) -> None:
        self.learn.loss_grad = self.loss_grad + l2_penalty(self.model.parameters(), self.strength)


class Reseed(Callback):  # type: ignore[misc]
    """Makes every epoch's random numbers a function of (seed, epoch), so that a resumed run draws the same ones."""

    def __init__(self, seed: int, first_epoch: int, drawn: Starts) -> None:
        self.seed, self.first_epoch, self.drawn = seed, first_epoch, drawn

    def before_train(self) -> None:
        epoch = self.first_epoch + self.epoch
        seed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        self.dls.train.rng.seed(seed)
        self.drawn.start(epoch)


class History(Callback):  # type: ignore[misc]
    """One row per epoch: learning rate, running training loss and accuracy, then each scored side's figures.

    Those are loss, accuracy and F1; `sides` names the side of each image of the scored loader. `shown` says which
    training images, of these `names`, the latest batch held.
    """

    order = 65  # after the schedule has set this batch's rate

    def __init__(
        self,
        rows: list[Row],
        sides: NDArray[np.str_],
        classes: int,
        positive: int | None,
        shown: EpochSampler,
        names: list[str],
    ) -> None:
        self.rows, self.sides, self.classes, self.positive = rows, sides, classes, positive
        self.shown, self.names = shown, names

    def start_phase(self, name: str) -> None:
        self.phase = name

    def before_train(self) -> None:
        zero = torch.zeros((), device=self.dls.device)
        self.total, self.right, self.seen = zero, zero, 0
        self.unchecked: list[tuple[Tensor, NDArray[np.int64]]] = []

    def before_validate(self) -> None:
        self.logits: list[Tensor] = []
        self.labels: list[Tensor] = []

    def after_batch(self) -> None:
        if not self.training:
            self.logits.append(self.pred.cpu())
            self.labels.append(self.yb[0].cpu())
            return
        learn, count, loss = self.learn, len(self.learn.yb[0]), self.learn.loss.detach()
        self.unchecked.append((loss, self.shown.latest))
        if len(self.unchecked) == LOOK_EVERY:
            self._look()
        self.total = self.total + loss * count
        self.right = self.right + (learn.pred.argmax(dim=1) == learn.yb[0]).sum()
        self.seen += count

    def after_train(self) -> None:
        self._look()

    def _look(self) -> None:
        """Refuse a loss that is no number; not after every batch, since a GPU would have to wait for the answer."""
        losses, shown = zip(*self.unchecked, strict=True) if self.unchecked else ((), ())
        self.unchecked = []
        wrong = [
            number for number, loss in enumerate(torch.stack(losses).tolist() if losses else []) if not isfinite(loss)
        ]
        if wrong:
            batch = self.iter - len(losses) + 1 + wrong[0]
            raise TrainingError(
                f"the training loss is no longer a number in epoch {len(self.rows)}, batch {batch}: lower train.lr (a"
                " tenth is a good try), set train.clip, or set train.precision to float32. The batch's images, which"
                " may be at fault where it is the first of all:",
                _listed([self.names[position] for position in shown[wrong[0]]]),
            )

    def after_validate(self) -> None:
        logits, labels = torch.cat(self.logits), torch.cat(self.labels)
        row: Row = {
            "epoch": len(self.rows),
            "phase": self.phase,
            "lr": float(self.opt.hypers[-1]["lr"]),
            "train_loss": float(self.total) / self.seen,
            "train_accuracy": float(self.right) / self.seen,
        }
        for side in dict.fromkeys(self.sides):
            members = torch.from_numpy(self.sides == side)
            row |= {
                f"{side}_{name}": figure for name, figure in self._figures(logits[members], labels[members]).items()
            }
        self.rows.append(row)

    def _figures(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        confusion = counts.confusion(labels.numpy(), logits.argmax(dim=1).numpy(), self.classes)
        return {
            "loss": float(self.loss_func(logits.to(self.pred.device), labels.to(self.pred.device))),
            "accuracy": counts.accuracy(confusion),
            "f1": counts.f1(confusion, self.positive),
        }


class Checkpoint(Callback):  # type: ignore[misc]
    """Calls `save` once an epoch's row is written."""

    order = 90

    def __init__(self, save: Callable[[], None]) -> None:
        self.save = save

    def after_validate(self) -> None:
        self.save()


class Bar(Callback):  # type: ignore[misc]
    """A line per epoch, and in between a bar over all batches that are left, with the time left.

    Where there is no terminal for the bar, a line every half minute takes its place. `select` is the history column
    that chooses the best epoch.
    """

    order = 95

    def __init__(
        self,
        title: str,
        epochs: int,
        history: History,
        select: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title, self.epochs, self.history, self.select, self.clock = title, epochs, history, select, clock
        self.display = progress.display()

    def start(self, epochs_done: int) -> None:
        batches = len(self.dls.train)
        self.pace = progress.Pace(self.epochs * batches, epochs_done * batches, self.clock)
        self.display.start()
        self.task = self.display.add_task(self.title, total=self.pace.total, completed=self.pace.done)

    def after_batch(self) -> None:
        if self.training:
            self.pace.advance()
            self.display.advance(self.task)
        if self.display.disable and self.pace.due():
            progress.say(self._so_far())

    def after_validate(self) -> None:
        line = epoch_line(self.title, self.epochs, self.history.rows[-1], self.select)
        self.display.console.print(line, highlight=False, soft_wrap=True)
        self.pace.spoken()

    def stop(self) -> None:
        self.display.stop()

    def _so_far(self) -> str:
        epoch = f"{cut(self.title, TITLE)} epoch {len(self.history.rows) + 1}/{self.epochs}"
        part = f"{100 * (self.iter + 1) // self.n_iter} %{'' if self.training else ' scored'}"
        images = self.pace.per_second() * self.dls.train.bs
        return f"{epoch}, {part}  {images:.0f} images/s  {self.pace.left()} left"


def epoch_line(title: str, epochs: int, row: Row, select: str) -> str:
    """An epoch's figures on a line of at most `WIDTH` columns, of which the one that chooses never falls off."""
    side, _, _ = select.partition("_")
    line = f"{cut(title, TITLE)} epoch {row['epoch'] + 1}/{epochs}"
    first = dict.fromkeys([select, "train_loss", f"{side}_loss", f"{side}_f1", f"{side}_accuracy"])
    shown: list[str] = []
    for name in first:
        if len(line) + sum(len(_figure(row, other)) for other in [*shown, name]) <= WIDTH:
            shown.append(name)
    return line + "".join(_figure(row, name) for name in row if name in shown)


def cut(text: str, width: int) -> str:
    """The text, or as much of its beginning as fits."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _figure(row: Row, name: str) -> str:
    return f"  {name} {row[name]:.4f}"


def _listed(names: list[str]) -> list[str]:
    more = len(names) - LISTED
    return [*names[:LISTED], f"and {more} more"] if more > 0 else names
