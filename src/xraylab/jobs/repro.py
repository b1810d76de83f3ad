"""`dvc repro` with the experiments side by side."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import Callable, Coroutine
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console

from xraylab.jobs import pool
from xraylab.jobs.dvc import Dvc, remove_torn_lock
from xraylab.jobs.pool import Job, Screen
from xraylab.paths import Paths

Graph = dict[str, set[str]]  # stage -> the stages that it depends on, in the order of dvc.yaml
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Windows has no SIGHUP."""


def run(paths: Paths, jobs: int | None) -> None:
    """Bring the study up to date with up to `jobs` experiments at once; None: one per GPU, or one.

    Errors: XraylabError where a stage fails. A signal ends everything that was started, and then this process.
    """
    until_signal(
        paths.root, lambda dvc: _up_to_date(dvc, paths, jobs), "`xraylab repro` and `dvc repro` go on from here"
    )


def until_signal(root: Path, work: Callable[[Dvc], Coroutine[Any, Any, None]], resume: str) -> None:
    """Run `work`; a signal ends it with all of its processes, says how to `resume`, and exits with 128 + its number."""
    remove_torn_lock(root)
    dvc = Dvc(root)
    if number := asyncio.run(_first_signal(dvc, work(dvc))):
        remove_torn_lock(root)
        Console(stderr=True).print(f"stopped; {resume}", highlight=False, soft_wrap=True)
        sys.exit(128 + number)


async def _first_signal(dvc: Dvc, work: Coroutine[Any, Any, None]) -> int:
    """0 where all is done, or the signal that came: the first one ends the jobs in good order, another one at once."""
    task = asyncio.create_task(work)
    came: list[int] = []

    def stop(number: int) -> None:
        if came:
            dvc.kill()
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


async def _up_to_date(dvc: Dvc, paths: Paths, jobs: int | None) -> None:
    graph = parse_dag(await dvc.output("dag", "--dot"))
    chains = experiment_jobs(graph)
    if before := prerequisites(graph, chains):
        await dvc.repro(*before)
    stale = json.loads(await dvc.output("status", "--json"))
    if waiting := [job for job in chains if any(stage in stale for stage in job)]:
        await _side_by_side(dvc, paths, waiting, jobs)
    await dvc.repro()


async def _side_by_side(dvc: Dvc, paths: Paths, waiting: list[Job], jobs: int | None) -> None:
    """Each job's share depends on `jobs` alone: how much is stale must not decide over the bits of a result."""
    devices = pool.gpus()
    shares = pool.shares(jobs or len(devices) or 1, devices)[: len(waiting)]
    screen = Screen(len(waiting), Console(stderr=True))
    with screen.shown():
        failed = await pool.run(dvc, waiting, shares, screen, paths.state / "logs")
    if failed:
        raise pool.failure(failed, len(waiting), paths.root)


def parse_dag(dot: str) -> Graph:
    """The graph of stages that `dvc dag --dot` prints."""
    graph: Graph = {name: set() for name in re.findall(r'^"([^"]+)";?$', dot, re.MULTILINE)}
    for upstream, stage in re.findall(r'^"([^"]+)" -> "([^"]+)";?$', dot, re.MULTILINE):
        graph[stage].add(upstream)
    return graph


def experiment_jobs(graph: Graph) -> list[Job]:
    """Group the matrix stages, such as train@l2-0, into jobs that do not depend on one another, each in order.

    A matrix stage below a plain stage that itself depends on matrix stages is left out: it comes after all jobs.
    """
    ancestors, jobs = _ancestors(graph), list[Job]()
    late = {name for name in graph if not _in_matrix(name) and any(map(_in_matrix, ancestors[name]))}
    for name in ancestors:
        if _in_matrix(name) and not ancestors[name] & late:
            joined = [job for job in jobs if graph[name] & set(job)]
            jobs = [job for job in jobs if job not in joined] + [(*chain(*joined), name)]
    order = list(graph)
    return sorted(jobs, key=lambda job: order.index(job[0]))


def prerequisites(graph: Graph, jobs: list[Job]) -> list[str]:
    """The plain stages that must be up to date before any of `jobs` starts."""
    ancestors = _ancestors(graph)
    needed = {stage for job in jobs for name in job for stage in ancestors[name]}
    return [name for name in graph if name in needed and not _in_matrix(name)]


def chain_from(graph: Graph, first: str, last: str) -> Job:
    """`first`, `last`, and the stages that stand between them, in order."""
    ancestors = _ancestors(graph)
    between = (name for name in ancestors if first in ancestors[name] and name in ancestors[last])
    return (first, *between, last)


def inputs(graph: Graph, jobs: list[Job]) -> list[str]:
    """The plain stages whose outputs jobs read and do not make themselves."""
    return sorted({stage for job in jobs for name in job for stage in graph[name] - set(job) if not _in_matrix(stage)})


def _in_matrix(name: str) -> bool:
    return "@" in name


def _ancestors(graph: Graph) -> Graph:
    """All stages that each one depends on, directly or not; a stage comes after those that it depends on."""
    ancestors: Graph = {}
    for name in TopologicalSorter(graph).static_order():
        ancestors[name] = graph[name].union(*(ancestors[upstream] for upstream in graph[name]))
    return ancestors
