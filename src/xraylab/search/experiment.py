"""A trial as a DVC experiment, in a checkout and under a name of its own: up to the training, and no further."""

import asyncio
import io
import json
import math
import re
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pandas as pd

from xraylab.errors import XraylabError
from xraylab.jobs.dvc import Dvc, lines
from xraylab.jobs.pool import Output
from xraylab.params.search import Values
from xraylab.search.loop import FailedError, Report, Runner

EPOCH = re.compile(r"\S+ epoch (\d+)/(\d+)  (.+)")  # as the stage `train` prints it
STAGE = re.compile(r"(Running stage|Stage) '")  # dvc has begun to reproduce
TRIES = 5


def arguments(name: str, experiment: str, repeat: int, values: Values) -> list[str]:
    """Of dvc: vary one experiment, in a temporary checkout, and train it.

    The values become overrides of that experiment, so that `dvc exp apply` changes it and no other.
    """
    changes = [f"++experiments.{experiment}.{key}={spelled(value)}" for key, value in values.items()]
    sets = [part for change in changes for part in ("--set-param", change)]
    return ["exp", "run", "--temp", "--name", name, *sets, f"train@{experiment}-{repeat}"]


def spelled(value: Any) -> str:
    """A value in the grammar of dvc's --set-param, which is Hydra's."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, list):
        return f"[{','.join(map(spelled, value))}]"
    return json.dumps(value)


def figures(line: str) -> tuple[int, int, dict[str, float]] | None:
    """Epoch, of how many, and its figures, where a line of the training says them."""
    found = EPOCH.fullmatch(line)
    if not found:
        return None
    parts = found[3].split()
    return int(found[1]), int(found[2]), dict(zip(parts[::2], map(float, parts[1::2]), strict=False))


def runner(
    dvc: Dvc,
    experiment: str,
    repeat: int,
    figure: str,
    name: Callable[[int], str],
    finished: set[str],
    shares: list[dict[str, str]],
    logs: Path,
) -> Runner:
    """Runs trials by dvc, as many at once as there are `shares` of the machine.

    `finished`: names of experiments that DVC already has, from a search that was stopped before it could note them.
    """
    free: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    for share in shares:
        free.put_nowait(share)
    turn = asyncio.Lock()

    async def run(number: int, values: Values, report: Report) -> float:
        if name(number) not in finished:
            given = arguments(name(number), experiment, repeat, values)
            share = await free.get()
            try:
                await _patiently(dvc, given, share, turn, logs / name(number), figure, report)
            finally:
                free.put_nowait(share)
        return await _best(dvc, f"models/{experiment}/{repeat}/history.csv", name(number), figure)

    return run


async def _patiently(
    dvc: Dvc, given: list[str], share: dict[str, str], turn: asyncio.Lock, logs: Path, figure: str, report: Report
) -> None:
    """Again where another dvc held a lock for too long. Errors: FailedError with the end of the log."""
    logs.mkdir(parents=True, exist_ok=True)
    for _ in range(TRIES):
        output = Output(logs, "dvc")
        try:
            code = await _once(dvc, given, share, turn, output, figure, report)
        finally:
            output.close()
        if code == 0:
            return
        if not output.locked():
            break
    raise FailedError("\n      ".join([f"{logs.name}, whose log {output.path} ends with", *output.last]))


async def _once(
    dvc: Dvc,
    given: list[str],
    share: dict[str, str],
    turn: asyncio.Lock,
    output: Output,
    figure: str,
    report: Report,
) -> int:
    """dvc's exit status.

    One at a time puts its experiment on dvc's list and takes it from there: of two, each might take the other's.
    """
    environment = {"PYTHONUNBUFFERED": "1", **share}
    async with AsyncExitStack() as held:
        await held.enter_async_context(turn)
        async with dvc.started(given, environment, PIPE, STDOUT) as process:
            async for line in lines(_pipe(process)):
                output.add(line)
                if STAGE.match(line):
                    await held.aclose()
                if epoch := figures(line):
                    report(epoch[0], epoch[1], epoch[2][figure])
            return await process.wait()


def _pipe(process: Process) -> asyncio.StreamReader:
    if process.stdout is None:
        raise RuntimeError("a pipe was asked for")
    return process.stdout


async def _best(dvc: Dvc, history: str, name: str, figure: str) -> float:
    """The figure at its best epoch, from the history that the experiment holds."""
    try:
        text = await dvc.read(history, name)
    except XraylabError as error:
        raise FailedError(str(error)) from None
    column = pd.to_numeric(pd.read_csv(io.StringIO(text))[figure], errors="coerce")
    best = float(column.min() if figure.endswith("_loss") else column.max())
    if math.isnan(best):
        raise FailedError(f"{name}: {figure} is never a number")
    return best
