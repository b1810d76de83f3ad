"""The caller: a study's experiments as jobs of an engine, watched until they end, and its results brought back.

`dvc repro` makes here what comes before the experiments, the nodes make the experiments, and a last `dvc repro --pull`
restores what they made and does the rest. DVC's remote is all that caller and nodes share.
"""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xraylab import dvc_lock, files, locks
from xraylab.errors import MissingError, XraylabError
from xraylab.jobs import gpu_memory, node, preflight, repro, session, snapshot
from xraylab.jobs.board import Board
from xraylab.jobs.dvc import Dvc
from xraylab.jobs.engines import ENGINES
from xraylab.jobs.engines.engine import Engine, Resources, State
from xraylab.jobs.job import Job
from xraylab.jobs.session import Session, Submitted
from xraylab.jobs.watch import POLL, Watch, end
from xraylab.params import config
from xraylab.params.config import ExperimentConfig
from xraylab.paths import Paths
from xraylab.terminal import Console


@dataclass(frozen=True)
class Call:
    """How the caller was called.

    `commit`: commit what is not; `wait` for another caller on this study; `scratch`: a folder of each node's, with
    DVC's cache for all jobs; `folder` of the session, where the nodes do not see the study's own.
    """

    engine: str
    resources: Resources
    git_remote: str = "origin"
    commit: bool = False
    wait: bool = False
    scratch: str | None = None
    folder: Path | None = None


def engine(name: str) -> Engine:
    """Errors: MissingError where there is no such engine."""
    if name not in ENGINES:
        raise MissingError(f"there is no engine {name!r}; there is {', '.join(ENGINES)}")
    return ENGINES[name]()


def run(paths: Paths, call: Call) -> None:
    """Bring the study up to date with one job per experiment and repeat.

    Errors: XraylabError where something is missing, and where jobs failed, once the others have ended.
    """
    with only_caller(paths, call.wait):
        if earlier := unfinished(paths, call):
            raise under_way(earlier)
        machines = checked(paths, call)
        _until_signal(paths, call.engine, lambda dvc: _submit_and_watch(dvc, paths, call, machines))


def checked(paths: Paths, call: Call) -> Engine:
    """The engine of a call. Errors: XraylabError where it, or the study, is not what jobs need."""
    machines = engine(call.engine)
    machines.check(call.resources)
    preflight.check(paths, call.git_remote, call.commit)
    return machines


def attach(paths: Paths, call: Call) -> None:
    """Watch the jobs of an earlier call to their end. Errors: as `run`; MissingError where there are none."""
    with only_caller(paths, call.wait):
        current = _current(paths, call, "repro")
        watch = _watch_of(paths, current, engine(current.engine))
        _until_signal(paths, current.engine, lambda dvc: _watch(dvc, watch))


def cancel(paths: Paths, call: Call, command: str = "repro") -> None:
    """End the jobs of an earlier call. Their resume state stays: the next call goes on from there."""
    with only_caller(paths, call.wait):
        current = _current(paths, call, command)
        ids = [job.id for job in current.live.values() if job.id is not None]
        engine(current.engine).cancel(ids)
        for job in current.live.values():
            job.state = State.CANCELLED
        end(paths, current)
        print(f"cancelled {len(ids)} jobs of session {current.name}", file=sys.stderr)  # noqa: T201 - of the command line


def _current(paths: Paths, call: Call, command: str) -> Session:
    current = unfinished(paths, call)
    if current is None:
        raise MissingError(f"no jobs of this study are under way; `xraylab {command} --on {call.engine}` submits them")
    if current.command != command:
        raise under_way(current)
    return current


def unfinished(paths: Paths, call: Call) -> Session | None:
    """The session of an earlier call whose end nobody has seen."""
    return session.unfinished(_jobs(paths, call.folder))


def under_way(earlier: Session) -> XraylabError:
    return XraylabError(f"the jobs of session {earlier.name} have not been brought to an end: {earlier.way_back}")


def _jobs(paths: Paths, folder: Path | None) -> Path:
    return (folder or paths.state / "jobs").resolve()


@contextmanager
def only_caller(paths: Paths, wait: bool) -> Iterator[None]:
    """Errors: XraylabError while another process looks after this study's jobs, unless it is to be waited for."""
    busy = "another `xraylab repro --on` or `search --on` looks after this study"
    with locks.held(paths.state / "jobs/lock", busy, "end it, or add --wait", wait):
        yield


def _until_signal(paths: Paths, name: str, work: Any) -> None:
    repro.until_signal(paths.root, work, f"submitted jobs go on; {session.way_back('repro', name)}")


async def _submit_and_watch(dvc: Dvc, paths: Paths, call: Call, machines: Engine) -> None:
    """Make what comes first, submit what is stale, and watch it."""
    graph, waiting = await repro.begin(dvc)
    if not waiting:
        await dvc.repro()
        return
    current = await new_session(dvc, paths, call, repro.inputs(graph, waiting), "repro")
    needs = await asyncio.to_thread(_gpu_bytes, paths, call.resources, waiting)
    current.jobs = {job.run: Submitted(job.stages, gpu_bytes=needs.get(job.run, 0)) for job in waiting}
    watch = _watch_of(paths, current, machines)
    watch.submit(list(current.jobs))
    await _watch(dvc, watch)


async def new_session(dvc: Dvc, paths: Paths, call: Call, inputs: list[str], command: str) -> Session:
    """A session without jobs, after what jobs start from has been pushed: the outputs of `inputs`, and a commit."""
    print(f"pushing the outputs of {', '.join(inputs)} to DVC's remote", file=sys.stderr)  # noqa: T201 - it may take long
    await dvc.output("push", "--run-cache", *inputs)
    folder = session.new_folder(_jobs(paths, call.folder))
    pushed = snapshot.push(paths.root, call.git_remote, folder.name, preflight.written(paths))
    return Session(
        folder, call.engine, call.resources, snapshot.study_id(paths.root), pushed.repository, pushed.commit,
        pushed.ref, _size(paths, inputs), call.scratch, command=command,
    )  # fmt: skip


def _gpu_bytes(paths: Paths, resources: Resources, waiting: list[Job]) -> dict[str, int]:
    """What each job takes at least of a GPU's memory; nothing where jobs have none."""
    configs = {job.run: paths.config(job.experiment) for job in waiting}
    if not resources.gpus or not all(path.is_file() for path in configs.values()):
        return {}
    classes = config.read(paths.params).data.classes
    needs = gpu_memory.needs(sorted(set(configs.values())), len(classes), resources.gpus)
    return {each: needs[path] for each, path in configs.items() if path in needs}


def gpu_bytes_of_trial(paths: Paths, resources: Resources, trial: Job) -> int:
    """What it takes at least of a GPU's memory with its changes of params.yaml; 0 as above, and without GPUs."""
    if not resources.gpus:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        changed, path = Path(folder, "params.yaml"), Path(folder, "config.yaml")
        shutil.copyfile(paths.params, changed)
        node.change(trial.changes, changed)
        params = config.read(changed)
        cfg = ExperimentConfig(**dict(params.experiment(trial.experiment)), pretrained_sha256=None)
        files.write_yaml(cfg.model_dump(), path)
        return gpu_memory.needs([path], len(params.data.classes), resources.gpus).get(path, 0)


def _size(paths: Paths, stages: list[str]) -> int:
    """Bytes of the stages' outputs, as dvc.lock has them."""
    locked = dvc_lock.entries(paths.lock)
    return sum(out.get("size", 0) for stage in stages for out in locked.get(stage, {}).get("outs") or [])


def _watch_of(paths: Paths, current: Session, machines: Engine) -> Watch:
    monitors = {each: _monitor(paths, each) for each in current.jobs}
    return Watch(paths, current, machines, Board(current, Console(stderr=True), monitors.get))


def _monitor(paths: Paths, each: str) -> str | None:
    """The metric that chooses the best epoch of a run."""
    path = paths.config(each.rpartition("-")[0])
    return config.read_config(path).train.monitor if path.is_file() else None


async def _watch(dvc: Dvc, watch: Watch) -> None:
    """Until all jobs have ended; then bring back what they made.

    Errors: XraylabError that names the failed ones, with the end of each log.
    """
    current, board = watch.session, watch.board
    with board.shown():
        while current.live:
            await watch.look()
            if current.live:
                await asyncio.sleep(POLL)
    board.print(board.summary())
    failed = [each for each, job in current.jobs.items() if job.state != State.DONE]
    if failed:
        if made := [stage for job in current.jobs.values() if job.state == State.DONE for stage in job.stages]:
            await dvc.repro("--pull", "--single-item", *made)
        headline = f"{len(failed)} of {len(current.jobs)} jobs did not come to their end; what the others made is here"
        error = XraylabError(headline, [watch.told(each) for each in failed])
        end(watch.paths, current)
        raise error
    await dvc.repro("--pull")
    end(watch.paths, current)
