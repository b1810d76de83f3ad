"""State of a run: its history and the weights of its epochs, from which an interrupted run is resumed.

It lies outside DVC's outputs, which DVC deletes before a stage runs.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from math import isnan
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xraylab import files, locks, progress
from xraylab.data.image_cache import SCORING_BATCH
from xraylab.errors import DataError, TrainingError
from xraylab.model import distributed, weights
from xraylab.train import generations
from xraylab.train.generations import DEVICES, MANIFEST

Row = dict[str, Any]
"""An epoch of the history: column -> value."""
LR_CURVE = "lr_find.csv"  # the learning rate finder's curve
AVERAGES = ("soup", "swa")  # phases of one epoch each, in which the weights of other epochs are averaged


def key(*facts: Any) -> str:
    """A name for a run: the same facts (parameters, data, code, hardware, seed) give the same name."""
    return sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's folder. Errors: TrainingError while another process trains in it."""
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"another process is training this very run ({folder.name})"
    with locks.held(folder.with_suffix(".lock"), busy, "wait for it, or stop it", error=TrainingError):
        yield


def _devices(number: int) -> str:
    return f"{number} device{'s' if number > 1 else ''}"


@dataclass(frozen=True)
class CheckpointPolicy:
    """Rules for selecting, saving and averaging epochs.

    `monitor` is the history column that chooses the best, such as valid_f1, among the epochs from `min_epochs` on.
    `soup` is how many of the best are averaged in the end, `swa` how many of the last; 0 for neither. All epochs are
    kept with `keep_all`, else the best, the last and the averages.
    """

    monitor: str
    min_epochs: int = 0
    soup: int = 0
    swa: int = 0
    keep_all: bool = False

    @property
    def monitored_split(self) -> str:
        """The images that choose the best epoch."""
        return self.monitor.split("_")[0]

    def ranked(self, rows: list[Row]) -> list[int]:
        """Epochs from the best on: the lowest loss, or the highest of anything else; of equals, the first.

        What is no number comes last.
        """
        sign = 1 if self.monitor.endswith("_loss") else -1
        eligible = range(self.min_epochs, len(rows)) or range(len(rows))
        values = {epoch: rows[epoch][self.monitor] for epoch in eligible}
        return sorted(eligible, key=lambda epoch: (isnan(values[epoch]), sign * values[epoch]))

    def best(self, rows: list[Row], number: int) -> list[int]:
        """The best `number` epochs that have a value; the first of all where none has."""
        ranked = self.ranked(rows)
        return [epoch for epoch in ranked[:number] if not isnan(rows[epoch][self.monitor])] or ranked[:1]


@dataclass
class TrainingState:
    """The epochs of a run that are finished, and the folder that keeps them."""

    folder: Path
    policy: CheckpointPolicy
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    scoring_batch: int = SCORING_BATCH
    """Batch size of scoring; smaller where memory ran out."""
    devices: int = 1
    """That train together."""
    on_any_number: str = ""
    """A name for the run that is the same on any number of devices."""

    @property
    def best(self) -> int:
        """The best epoch."""
        return self.policy.ranked(self.rows)[0]

    @property
    def trained(self) -> list[Row]:
        """Epochs that were trained, and not averaged from others."""
        return [row for row in self.rows if row["phase"] not in AVERAGES]

    @property
    def last(self) -> int:
        """The last epoch that was trained."""
        return len(self.trained) - 1

    @property
    def averaged(self) -> dict[str, int]:
        """soup and swa -> its epoch."""
        return {row["phase"]: row["epoch"] for row in self.rows if row["phase"] in AVERAGES}

    @property
    def kept_epochs(self) -> list[int]:
        """The epochs whose weights are kept in the end."""
        everything = range(len(self.rows))
        return list(everything) if self.policy.keep_all else sorted({self.best, self.last, *self.averaged.values()})

    @property
    def averages(self) -> list[str]:
        """The averages that the policy asks for."""
        return [average for average in AVERAGES if getattr(self.policy, average)]

    def averaged_from(self, average: str) -> list[int]:
        """The epochs that an average is made of."""
        if average == "soup":
            return sorted(self.policy.best(self.trained, self.policy.soup))
        return list(range(len(self.trained)))[-self.policy.swa :]

    def out_of_patience(self, patience: int | None, first: int) -> bool:
        """Return whether `patience` epochs, counted from `first` and `min_epochs` on, brought no improvement."""
        if patience is None or not self.rows:
            return False
        last_improvement = max(self.best, first - 1, self.policy.min_epochs - 1)
        return self.last - last_improvement >= patience

    def refuse_other_devices(self) -> None:
        """Errors: TrainingError where epochs of this very run were trained on another number of devices."""
        title = self.folder.name.rpartition("-")[0]
        for record in sorted(self.folder.parent.glob(f"{title}-*/{DEVICES}")):
            other = _read_devices(record)
            finished = other.get("run") == self.on_any_number and (record.parent / MANIFEST).is_file()
            if finished and other["devices"] != self.devices:
                raise TrainingError(
                    f"{title} was interrupted on {_devices(other['devices'])}, and would go on to other bits on "
                    f"{_devices(self.devices)}: set train.devices to {other['devices']} to go on, or delete "
                    f".xraylab/runs/{record.parent.name} to begin anew"
                )
        files.write_json({"run": self.on_any_number, "devices": self.devices}, self.folder / DEVICES)

    def weights(self, epoch: int) -> Path:
        """The weights after an epoch."""
        return self.folder / f"epoch-{epoch:03d}.safetensors"

    def save(self, scored: nn.Module, **states: Any) -> None:
        """Save this epoch: the scored network's weights, the state, then their SHA-256: with them it is finished."""
        epoch = len(self.rows) - 1
        weights.save(scored, self.weights(epoch))
        with files.replacing(self.folder / _state(epoch)) as temporary:
            so_far = {"rows": self.rows, "seconds": self.seconds, "scoring_batch": self.scoring_batch}
            torch.save({**so_far, **states}, temporary)
        needed = {*self.kept_epochs, epoch}.union(*(self.averaged_from(average) for average in self.averages))
        curve = [LR_CURVE] if (self.folder / LR_CURVE).is_file() else []
        names = [_state(epoch), *(self.weights(each).name for each in sorted(needed)), *curve]
        generations.commit(self.folder, epoch, names)

    def discard_damaged(self) -> None:
        """Leave only epochs whose files are what was saved, and say so where others were there."""
        if distributed.is_main() and (lost := generations.discard_damaged(self.folder)):
            progress.say(f"warning: {lost}")
        distributed.barrier()

    def load(self) -> dict[str, Any] | None:
        """Take over the epochs that are finished; returns what else was saved, or None before the first."""
        newest = generations.newest(self.folder)
        if newest is None:
            return None
        saved: dict[str, Any] = torch.load(self.folder / _state(newest.epoch), weights_only=True)
        self.rows[:], self.seconds, self.scoring_batch = (saved[key] for key in ("rows", "seconds", "scoring_batch"))
        return saved


def _state(epoch: int) -> str:
    return f"state-{epoch:03d}.pt"


def _read_devices(path: Path) -> dict[str, Any]:
    """Read what `refuse_other_devices` wrote; empty where it is damaged, which must not stop a run for ever."""
    try:
        record = files.read_json(path)
    except DataError:
        return {}
    return record if isinstance(record, dict) and {"run", "devices"} <= set(record) else {}
