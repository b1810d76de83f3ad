"""Trials as jobs of a cluster: each is trained on a node, which reports its epochs; this side decides what is tried."""

import asyncio
import time

import optuna

from xraylab.errors import DataError, XraylabError
from xraylab.jobs import cluster, node, preflight, repro, snapshot, watch
from xraylab.jobs.board import Board
from xraylab.jobs.cluster import Call
from xraylab.jobs.dvc import Dvc
from xraylab.jobs.engines.engine import FINAL, Engine, State
from xraylab.jobs.job import Job
from xraylab.jobs.repro import Graph
from xraylab.jobs.session import Submitted
from xraylab.jobs.watch import POLL, Watch
from xraylab.paths import Paths
from xraylab.search.experiment import parse_epoch
from xraylab.search.trials import FailedError, Report
from xraylab.terminal import Console

COMMAND = "search"


class Nodes:
    """Trains trials on the nodes of a cluster; each is `job` with its own changes."""

    def __init__(self, jobs: Watch, job: Job, metric: str) -> None:
        self.jobs, self.job, self.metric = jobs, job, metric
        self.session = jobs.session
        self.asking = asyncio.Lock()  # the engine is asked by one at a time, for all trials
        self.asked = -POLL

    async def train(self, name: str, changes: tuple[str, ...], report: Report) -> None:
        """Return once a node has trained the trial and pushed it. One whose job is under way already goes on.

        A trial that `report` ends early has its job cancelled. Errors: FailedError with the end of the job's log.
        """
        if name not in self.session.jobs:
            trial, resources = Submitted(self.job.stages, changes), self.session.resources
            trial.gpu_bytes = await asyncio.to_thread(cluster.gpu_bytes_of_trial, self.jobs.paths, resources, trial)
            async with self.asking:
                self.session.jobs[name] = trial
                await asyncio.to_thread(self.jobs.submit, [name])
        try:
            state = await self._followed(name, report)
        except optuna.TrialPruned:
            await self._cancel(name)
            raise
        finally:
            if name not in self.session.live:  # its resume states have no use
                self.jobs.forget(name)
        if state != State.DONE:
            raise FailedError(self.jobs.told(name))

    async def _followed(self, name: str, report: Report) -> State:
        """The state in which the job ended; `report` hears of each epoch."""
        heard = 0
        while True:
            state = await self._look(name)
            heard = await self._tell(name, heard, report)
            if state in FINAL:
                return state
            await asyncio.sleep(POLL)

    async def _look(self, name: str) -> State:
        """Ask for all jobs, unless that has just been done, and return how this one stands."""
        async with self.asking:
            if time.monotonic() - self.asked >= POLL:
                await self.jobs.look()
                self.asked = time.monotonic()
            return self.session.jobs[name].state

    async def _tell(self, name: str, heard: int, report: Report) -> int:
        """Report the epochs after `heard` that the job's log has, and return the last one."""
        latest = self.jobs.board.reports.get(name)
        if latest is None or latest.epoch <= heard:
            return heard
        log = await asyncio.to_thread(self.jobs.channel.read, node.log_name(name))
        for epoch, epochs, metrics in filter(None, map(parse_epoch, (log or "").splitlines())):
            if epoch > heard:
                heard = epoch
                report(epoch, epochs, metrics[self.metric])
        return heard

    async def _cancel(self, name: str) -> None:
        """End the job of a trial; cancelled anew where it is lost, and submitted again, just now."""
        while name in self.session.live:
            if id_ := self.session.jobs[name].id:
                await asyncio.to_thread(self.jobs.machines.cancel, [id_])
            await asyncio.sleep(POLL)
            await self._look(name)

    def end(self) -> None:
        """Leave nothing on the remotes, unless jobs go on, for another call."""
        if not self.session.live:
            watch.end(self.jobs.paths, self.session)


def check(paths: Paths, call: Call) -> Engine:
    """The engine of a call. Errors: XraylabError where trials cannot run as its jobs, or others' jobs are under way."""
    if call.engine == "slurm" and call.resources.jobs_per_gpu > 1:
        raise DataError(
            "SLURM starts and ends jobs that share a GPU together, and trials begin and end each at its time: leave out"
            " --jobs-per-gpu; where the site shares GPUs, add --slurm gres=shard:1 and leave out --gpus-per-job"
        )
    machines = cluster.checked(paths, call)
    earlier = cluster.unfinished(paths, call)
    if earlier is None:
        return machines
    if (earlier.command, earlier.engine) != (COMMAND, call.engine):
        raise cluster.under_way(earlier)
    if not snapshot.is_of(paths.root, earlier.commit, preflight.written(paths)):
        raise XraylabError(
            f"the jobs of session {earlier.name} were submitted from other files than are here now: bring those back, "
            f"or `xraylab search --on {call.engine} --cancel` ends the jobs; finished trials remain"
        )
    return machines


async def begin(paths: Paths, call: Call, machines: Engine, dvc: Dvc, graph: Graph, target: str, metric: str) -> Nodes:
    """Go on with the jobs of an earlier call, or push what new ones start from."""
    job = repro.job_from(graph, "configure", target)
    session = cluster.unfinished(paths, call)
    if session is None:
        session = await cluster.new_session(dvc, paths, call, repro.inputs(graph, [job]), COMMAND)
    session.resources, session.scratch = call.resources, call.scratch
    board = Board(session, Console(stderr=True), lambda name: metric)
    return Nodes(Watch(paths, session, machines, board), job, metric)
