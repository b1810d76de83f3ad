"""A trial as a DVC experiment, in a checkout and under a name of its own: up to the training, and no further."""

import asyncio
import io
import json
import math
import re
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from xraylab.errors import XraylabError
from xraylab.jobs.dvc import Dvc, Log, retried
from xraylab.params.search import Values
from xraylab.search.trials import FailedError, Report

EPOCH = re.compile(r"\S+ epoch (\d+)/(\d+)  (.+)")  # as the stage `train` prints it
STAGE = re.compile(r"(Running stage|Stage) '")  # dvc has begun to reproduce


@dataclass
class Trainer:
    """Trains trials of one experiment by dvc, as many at once as there are `shares` of the machine.

    `existing`: names of DVC's experiments from a search that was stopped before it could note them. `nodes`: train a
    trial, of this name and with these changes, on a cluster first; dvc then restores here what is made there.
    """

    dvc: Dvc
    experiment: str
    repeat: int
    metric: str
    name: Callable[[int], str]
    existing: set[str]
    shares: list[dict[str, str]]
    logs: Path
    nodes: Callable[[str, tuple[str, ...], Report], Awaitable[None]] | None = None
    queueing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def target(self) -> str:
        return f"train@{self.experiment}-{self.repeat}"

    async def __call__(self, number: int, values: Values, report: Report) -> float:
        """The metric of a trial at its best epoch. Errors: FailedError with the end of the log."""
        name = self.name(number)
        if name not in self.existing:
            if self.nodes:
                await self.nodes(name, changes(self.experiment, values), report)
            await self._train(name, values, report)
        return await self._best(name)

    async def _train(self, name: str, values: Values, report: Report) -> None:
        (self.logs / name).mkdir(parents=True, exist_ok=True)
        command, share = arguments(name, self.target, changes(self.experiment, values)), self.shares.pop()
        command += ["--pull"] if self.nodes else []
        try:
            code, log = await retried(lambda: self._dvc(command, share, Log(self.logs / name, "dvc"), report))
        finally:
            self.shares.append(share)
        if code:
            raise FailedError(log.tail(name, self.dvc.root))

    async def _dvc(self, command: list[str], share: dict[str, str], log: Log, report: Report) -> tuple[int, Log]:
        """One at a time puts its experiment on dvc's list and takes it from there, lest two take each other's."""
        await self.queueing.acquire()
        with ExitStack() as turn:
            turn.callback(self.queueing.release)

            def on_line(line: str) -> None:
                if STAGE.match(line):
                    turn.close()
                if self.nodes and line == f"Running stage '{self.target}':":
                    trained = f"{log.folder.name}: a node has trained it"
                    raise FailedError(f"{trained}, but not with the code and data that are here: did they change?")
                if epoch := parse_epoch(line):
                    report(epoch[0], epoch[1], epoch[2][self.metric])

            return await self.dvc.logged(command, share, log, on_line), log

    async def _best(self, name: str) -> float:
        """The metric at its best epoch, from the history that the experiment holds."""
        try:
            history = await self.dvc.read(f"models/{self.experiment}/{self.repeat}/history.csv", name)
        except XraylabError as error:
            raise FailedError(str(error)) from None
        column = pd.to_numeric(pd.read_csv(io.StringIO(history))[self.metric], errors="coerce")
        best = float(column.min() if self.metric.endswith("_loss") else column.max())
        if math.isnan(best):
            raise FailedError(f"{name}: {self.metric} is never a number")
        return best


def changes(experiment: str, values: Values) -> tuple[str, ...]:
    """The values as overrides of one experiment, so that `dvc exp apply` changes it and no other."""
    return tuple(f"++experiments.{experiment}.{key}={hydra(value)}" for key, value in values.items())


def arguments(name: str, target: str, changes: tuple[str, ...]) -> list[str]:
    """Arguments for dvc: an experiment of that name, which changes params.yaml in a temporary checkout."""
    sets = [part for change in changes for part in ("--set-param", change)]
    return ["exp", "run", "--temp", "--name", name, *sets, target]


def hydra(value: Any) -> str:
    """A value in the grammar of dvc's --set-param, which is Hydra's."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, list):
        return f"[{','.join(map(hydra, value))}]"
    return json.dumps(value)


def parse_epoch(line: str) -> tuple[int, int, dict[str, float]] | None:
    """Epoch, of how many, and its metrics, where a line of the training says them."""
    match = EPOCH.fullmatch(line)
    if not match:
        return None
    parts = match[3].split()
    return int(match[1]), int(match[2]), dict(zip(parts[::2], map(float, parts[1::2]), strict=False))
