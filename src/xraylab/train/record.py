"""What a run has done so far, what it keeps of it, and when it has had enough."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

from torch import nn

from xraylab.data.image_cache import SCORING_BATCH
from xraylab.model import weights
from xraylab.train import state
from xraylab.train.callbacks import Row

AVERAGES = ("soup", "swa")  # phases of one epoch each, in which weights of other epochs are averaged


@dataclass(frozen=True)
class Choice:
    """Which epochs matter.

    `select` is the history column that chooses the best, such as valid_f1, among those from `min_epochs` on. `soup` is
    how many of the best are averaged in the end, `swa` how many of the last; 0 for neither.
    """

    select: str
    min_epochs: int
    soup: int
    swa: int

    @property
    def watched(self) -> str:
        """The side that is looked at."""
        return self.select.split("_")[0]

    def ranked(self, rows: list[Row]) -> list[int]:
        """Epochs from the best on: the lowest loss, or the highest of anything else; of equals, the first.

        What is no number comes last.
        """
        sign = 1 if self.select.endswith("_loss") else -1
        eligible = range(self.min_epochs, len(rows)) or range(len(rows))
        figures = {epoch: rows[epoch][self.select] for epoch in eligible}
        return sorted(eligible, key=lambda epoch: (isnan(figures[epoch]), sign * figures[epoch]))

    def best(self, rows: list[Row], number: int) -> list[int]:
        """So many of the best, or as many as have a figure, and the first of all where none has."""
        ranked = self.ranked(rows)
        return [epoch for epoch in ranked[:number] if not isnan(rows[epoch][self.select])] or ranked[:1]


@dataclass
class Run:
    """The epochs of a run, and where it keeps them."""

    folder: Path
    choice: Choice
    keep_all: bool
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    scoring_batch: int = SCORING_BATCH
    """How many images are scored at a time; fewer where memory ran out."""

    @property
    def best(self) -> int:
        return self.choice.ranked(self.rows)[0]

    @property
    def trained(self) -> list[Row]:
        """Those that were trained, and not averaged from others."""
        return [row for row in self.rows if row["phase"] not in AVERAGES]

    @property
    def last(self) -> int:
        return len(self.trained) - 1

    @property
    def averaged(self) -> dict[str, int]:
        """soup and swa -> its epoch."""
        return {row["phase"]: row["epoch"] for row in self.rows if row["phase"] in AVERAGES}

    @property
    def kept(self) -> list[int]:
        """The epochs whose weights are kept in the end."""
        everything = range(len(self.rows))
        return list(everything) if self.keep_all else sorted({self.best, self.last, *self.averaged.values()})

    def sources(self, average: str) -> list[int]:
        """The epochs that an average is made of."""
        if average == "soup":
            return sorted(self.choice.best(self.trained, self.choice.soup))
        return list(range(len(self.trained)))[-self.choice.swa :]

    @property
    def wanted(self) -> set[int]:
        """The epochs whose weights are still wanted while the run goes on."""
        wanted = {*self.kept, len(self.rows) - 1}
        for average in self.averages:
            wanted |= set(self.sources(average))
        return wanted

    @property
    def averages(self) -> list[str]:
        """The averages that are asked for."""
        return [average for average in AVERAGES if getattr(self.choice, average)]

    def stops(self, patience: int | None, first: int) -> bool:
        """Whether so many epochs, from `first` on and from the first that may be the best, brought no better one."""
        if patience is None or not self.rows:
            return False
        before = max(self.best, first - 1, self.choice.min_epochs - 1)
        return self.last - before >= patience

    def weights(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:03d}.safetensors"

    def save(self, scored: nn.Module, **states: Any) -> None:
        """Keep this epoch: the scored network's weights first, then the state that says that the epoch is finished."""
        weights.save(scored, self.weights(len(self.rows) - 1))
        state.save(self.folder, rows=self.rows, seconds=self.seconds, scoring_batch=self.scoring_batch, **states)
        self._forget(set(range(len(self.rows))) - self.wanted)

    def _forget(self, epochs: Iterable[int]) -> None:
        for epoch in epochs:
            self.weights(epoch).unlink(missing_ok=True)
