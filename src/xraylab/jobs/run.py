"""The whole study brought up to date, as `dvc repro` does it, with the experiments side by side."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from rich.console import Console

from xraylab.jobs import dvc, machine, pipeline, pool
from xraylab.jobs.dvc import Dvc
from xraylab.jobs.screen import Screen
from xraylab.paths import Paths

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]  # no Windows' HUP


def run(paths: Paths, jobs: int | None) -> None:
    """Up to `jobs` experiments at once; where not given, one per GPU, or one.

    Errors: XraylabError where a stage fails. A signal ends everything that was started, and then this process.
    """
    dvc.mend(paths.root)
    process = Dvc(paths.root)
    if number := asyncio.run(until_signal(process, _up_to_date(process, paths, jobs))):
        dvc.mend(paths.root)
        Console(stderr=True).print("stopped; `xraylab run` and `dvc repro` go on from here", highlight=False)
        sys.exit(128 + number)


async def until_signal(process: Dvc, work: Coroutine[Any, Any, None]) -> int:
    """0 where all is done, or the signal that came: the first one ends the jobs in good order, another one at once."""
    task = asyncio.create_task(work)
    came: list[int] = []

    def stop(number: int) -> None:
        if came:
            process.hurry()
        else:
            task.cancel()
        came.append(number)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            _on_signal(number, stop)
    await asyncio.wait([task])
    if task.cancelled():
        return came[0]
    task.result()
    return 0


def _on_signal(number: int, stop: Callable[[int], None]) -> None:
    """Call `stop` within the running loop; on Windows, whose loop takes no handlers, by way of the interpreter's."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, stop, number)
    except NotImplementedError:
        signal.signal(number, lambda number, frame: loop.call_soon_threadsafe(stop, number))


async def _up_to_date(process: Dvc, paths: Paths, jobs: int | None) -> None:
    graph = pipeline.needs(await process.output("dag", "--dot"))
    everything = pipeline.jobs(graph)
    if before := pipeline.before(graph, everything):
        await process.repro(*before)
    stale = json.loads(await process.output("status", "--json"))
    waiting = [job for job in everything if any(stage in stale for stage in job)]
    if waiting:
        await _side_by_side(process, paths, waiting, jobs)
    await process.repro()


async def _side_by_side(process: Dvc, paths: Paths, waiting: list[pipeline.Job], jobs: int | None) -> None:
    """The shares depend on what was asked for alone: how much is stale must not decide over the bits of a result."""
    devices = machine.gpus()
    shares = machine.shares(jobs or len(devices) or 1, devices)[: len(waiting)]
    screen = Screen(len(waiting), Console(stderr=True))
    with screen.shown():
        failed = await pool.run(process, waiting, shares, screen, paths.state / "logs")
    if failed:
        raise pool.failure(failed, len(waiting), paths.root)
