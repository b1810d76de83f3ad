"""`dvc repro` with the experiments side by side."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import Callable, Coroutine
from graphlib import TopologicalSorter
from itertools import chain as chained
from pathlib import Path
from typing import Any

from xraylab import leftovers, progress
from xraylab.jobs import pool
from xraylab.jobs.dvc import Dvc
from xraylab.jobs.engines.engine import Resources
from xraylab.jobs.job import Job
from xraylab.jobs.pool import Screen
from xraylab.paths import Paths
from xraylab.terminal import Console

Graph = dict[str, set[str]]  # stage -> the stages that it depends on, in the order of dvc.yaml
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Windows has no SIGHUP."""


def run(paths: Paths, jobs: int | None, resources: Resources) -> None:
    """Bring the study up to date with up to `jobs` experiments at once; None: as many as the GPUs are for, or one.

    Errors: XraylabError where a stage fails. A signal ends everything that was started, and then this process.
    """
    shares = pool.shares(jobs, pool.gpus(), resources)
    until_signal(
        paths.root,
        lambda dvc: _up_to_date(dvc, paths, shares),
        "`xraylab repro` and `dvc repro` go on from here",
    )


def until_signal(root: Path, work: Callable[[Dvc], Coroutine[Any, Any, None]], resume: str) -> None:
    """Run `work`; a signal ends it with all of its processes, says how to `resume`, and exits with 128 + its number."""
    for line in leftovers.mend_rwlock(root):
        progress.say(line)
    dvc = Dvc(root)
    if number := asyncio.run(_first_signal(dvc, work(dvc))):
        leftovers.mend_rwlock(root)
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


async def _up_to_date(dvc: Dvc, paths: Paths, shares: list[dict[str, str]]) -> None:
    _, waiting = await begin(dvc)
    if waiting:
        await _side_by_side(dvc, paths, waiting, shares)
    await dvc.repro()


async def begin(dvc: Dvc) -> tuple[Graph, list[Job]]:
    """Make the stages before the experiments, and return the graph with the jobs that are not up to date."""
    graph = parse_dag(await dvc.output("dag", "--dot"))
    jobs = experiment_jobs(graph)
    if before := prerequisites(graph, jobs):
        await dvc.repro(*before)
    stale = json.loads(await dvc.output("status", "--json"))
    return graph, [job for job in jobs if any(stage in stale for stage in job.stages)]


async def _side_by_side(dvc: Dvc, paths: Paths, waiting: list[Job], shares: list[dict[str, str]]) -> None:
    """Each job's share depends on the call alone: how much is stale must not decide over the bits of a result."""
    screen = Screen(len(waiting), Console(stderr=True))
    with screen.shown():
        failed = await pool.run(dvc, waiting, shares[: len(waiting)], screen, paths.state / "logs")
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
    ancestors, chains = _ancestors(graph), list[tuple[str, ...]]()
    late = {name for name in graph if not _in_matrix(name) and any(map(_in_matrix, ancestors[name]))}
    for name in ancestors:
        if _in_matrix(name) and not ancestors[name] & late:
            joined = [chain for chain in chains if graph[name] & set(chain)]
            chains = [chain for chain in chains if chain not in joined] + [(*chained.from_iterable(joined), name)]
    order = list(graph)
    return [Job(chain) for chain in sorted(chains, key=lambda chain: order.index(chain[0]))]


def prerequisites(graph: Graph, jobs: list[Job]) -> list[str]:
    """The plain stages that must be up to date before any of `jobs` starts."""
    ancestors = _ancestors(graph)
    needed = {stage for job in jobs for name in job.stages for stage in ancestors[name]}
    return [name for name in graph if name in needed and not _in_matrix(name)]


def job_from(graph: Graph, first: str, last: str) -> Job:
    """The job of `first`, `last`, and the stages that stand between them, in order."""
    ancestors = _ancestors(graph)
    between = (name for name in ancestors if first in ancestors[name] and name in ancestors[last])
    return Job((first, *between, last))


def inputs(graph: Graph, jobs: list[Job]) -> list[str]:
    """The plain stages whose outputs jobs read and do not make themselves."""
    needed = {stage for job in jobs for name in job.stages for stage in graph[name] - set(job.stages)}
    return sorted(stage for stage in needed if not _in_matrix(stage))


def _in_matrix(name: str) -> bool:
    return "@" in name


def _ancestors(graph: Graph) -> Graph:
    """All stages that each one depends on, directly or not; a stage comes after those that it depends on."""
    ancestors: Graph = {}
    for name in TopologicalSorter(graph).static_order():
        ancestors[name] = graph[name].union(*(ancestors[upstream] for upstream in graph[name]))
    return ancestors
