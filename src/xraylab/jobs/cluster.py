"""The caller: a study's experiments as jobs of an engine, watched until they end, and its results brought back.

`dvc repro` makes here what comes before the experiments, the nodes make the experiments, and a last `dvc repro --pull`
restores what they made and does the rest. DVC's remote is all that caller and nodes share.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from xraylab import files
from xraylab.errors import MissingError, XraylabError
from xraylab.jobs import environment, node, preflight, repro, session, snapshot
from xraylab.jobs.board import Board
from xraylab.jobs.channel import Channel
from xraylab.jobs.dvc import Dvc
from xraylab.jobs.engines import ENGINES
from xraylab.jobs.engines.engine import FINAL, Command, Engine, Resources, State
from xraylab.jobs.node import Report
from xraylab.jobs.pool import Job
from xraylab.jobs.session import Session, Submitted
from xraylab.params import config
from xraylab.paths import Paths

POLL = 2.0  # seconds between two looks at the jobs
IDLE = 3  # attempts in a row without a finished epoch, after which a job is given up
AGAIN = {State.LOST, State.TIMEOUT}
TAIL = 12  # lines of a failed job's log


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
    with _only_caller(paths, call.wait):
        if earlier := session.unfinished(_jobs(paths, call.folder)):
            raise XraylabError(
                f"the jobs of session {earlier.name} have not been brought to an end: "
                f"`xraylab repro --on {earlier.engine} --attach` watches them, --cancel ends them"
            )
        machines = engine(call.engine)
        machines.check(call.resources)
        preflight.check(paths, call.git_remote, call.commit)
        _until_signal(paths, call.engine, lambda dvc: _submit_and_watch(dvc, paths, call, machines))


def attach(paths: Paths, call: Call) -> None:
    """Watch the jobs of an earlier call to their end. Errors: as `run`; MissingError where there are none."""
    with _only_caller(paths, call.wait):
        current = _current(paths, call)
        _until_signal(paths, current.engine, lambda dvc: _watch(dvc, paths, current, engine(current.engine)))


def cancel(paths: Paths, call: Call) -> None:
    """End the jobs of an earlier call. Their resume state stays: the next call goes on from there."""
    with _only_caller(paths, call.wait):
        current = _current(paths, call)
        ids = [job.id for job in current.live.values() if job.id is not None]
        engine(current.engine).cancel(ids)
        for job in current.live.values():
            job.state = State.CANCELLED
        _end(paths, current)
        print(f"cancelled {len(ids)} jobs of session {current.name}", file=sys.stderr)  # noqa: T201 - of the command line


def _current(paths: Paths, call: Call) -> Session:
    current = session.unfinished(_jobs(paths, call.folder))
    if current is None:
        raise MissingError(f"no jobs of this study are under way; `xraylab repro --on {call.engine}` submits them")
    return current


def _jobs(paths: Paths, folder: Path | None) -> Path:
    return (folder or paths.state / "jobs").resolve()


@contextmanager
def _only_caller(paths: Paths, wait: bool) -> Iterator[None]:
    """Errors: XraylabError while another process looks after this study's jobs, unless it is to be waited for."""
    path = paths.state / "jobs/lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise XraylabError("another `xraylab repro --on` looks after this study: end it, or add --wait") from None
    try:
        yield
    finally:
        lock.release()


def _until_signal(paths: Paths, name: str, work: Any) -> None:
    again = f"xraylab repro --on {name}"
    repro.until_signal(paths.root, work, f"submitted jobs go on; `{again} --attach` watches them, --cancel ends them")


async def _submit_and_watch(dvc: Dvc, paths: Paths, call: Call, machines: Engine) -> None:
    """Make what comes first, submit what is stale, and watch it."""
    graph = repro.parse_dag(await dvc.output("dag", "--dot"))
    chains = repro.experiment_jobs(graph)
    if before := repro.prerequisites(graph, chains):
        await dvc.repro(*before)
    stale = json.loads(await dvc.output("status", "--json"))
    waiting = [job for job in chains if any(stage in stale for stage in job)]
    if not waiting:
        await dvc.repro()
        return
    inputs = sorted({stage for job in waiting for name in job for stage in graph[name] if "@" not in stage})
    print(f"pushing the outputs of {', '.join(inputs)} to DVC's remote", file=sys.stderr)  # noqa: T201 - it may take long
    await dvc.output("push", "--run-cache", *inputs)
    current = _new_session(paths, call, waiting, inputs)
    _submit(current, machines, paths, list(current.jobs))
    await _watch(dvc, paths, current, machines)


def _new_session(paths: Paths, call: Call, waiting: list[Job], inputs: list[str]) -> Session:
    folder = session.new_folder(_jobs(paths, call.folder))
    pushed = snapshot.push(paths.root, call.git_remote, folder.name, preflight.written(paths))
    return Session(
        folder, call.engine, call.resources, snapshot.study_id(paths.root), pushed.repository, pushed.commit,
        pushed.ref, _size(paths, inputs), call.scratch, {name(job): Submitted(job) for job in waiting},
    )  # fmt: skip


def name(job: Job) -> str:
    """Of a job, after its matrix stages: baseline-0 of train@baseline-0."""
    return job[0].partition("@")[2]


def _size(paths: Paths, stages: list[str]) -> int:
    """Bytes of the stages' outputs, as dvc.lock has them."""
    locked = files.read_yaml(paths.lock)["stages"]
    return sum(out.get("size", 0) for stage in stages for out in locked.get(stage, {}).get("outs", []))


def _submit(current: Session, machines: Engine, paths: Paths, names: list[str]) -> None:
    """Hand jobs over, for the first time or again."""
    versions = environment.versions(paths.root / "constraints.txt")
    threads = {"OMP_NUM_THREADS": str(current.resources.cpus)}
    commands = [_command(current, each, versions, threads) for each in names]
    current.save()
    for each, id_ in zip(names, machines.submit(commands, current.resources, current.folder), strict=True):
        job = current.jobs[each]
        job.id, job.state, job.node, job.reason = id_, State.PENDING, None, ""
        job.attempts, job.epoch_before = job.attempts + 1, job.epoch
    current.save()


def _command(current: Session, each: str, versions: dict[str, str], threads: dict[str, str]) -> Command:
    job = node.Job(
        each, current.jobs[each].stages, current.repository, current.commit, current.ref, current.study, current.name,
        current.size, versions, current.scratch,
    )  # fmt: skip
    return Command(each, (sys.executable, "-m", "xraylab.jobs.node", job.to_json()), threads)


async def _watch(dvc: Dvc, paths: Paths, current: Session, machines: Engine) -> None:
    """Until all jobs have ended; then bring back what they made.

    Errors: XraylabError that names the failed ones, with the end of each log.
    """
    channel = Channel.open(paths.root, f"{current.study}/{current.name}")
    monitors = {each: _monitor(paths, each) for each in current.jobs}
    board = Board(current, Console(stderr=True), monitors.get)
    with board.shown():
        while current.live:
            await asyncio.to_thread(_look, current, machines, channel, board, paths)
            board.update()
            if current.live:
                await asyncio.sleep(POLL)
    board.print(board.summary())
    failed = {each: job for each, job in current.jobs.items() if job.state != State.DONE}
    if failed:
        await _restore(dvc, [stage for job in current.jobs.values() if job.state == State.DONE for stage in job.stages])
        error = _failure(current, failed)
        _end(paths, current)
        raise error
    await dvc.repro("--pull")
    _end(paths, current)


def _monitor(paths: Paths, each: str) -> str | None:
    """The metric that chooses the best epoch of a run."""
    path = paths.config(each.rpartition("-")[0])
    return config.read_config(path).train.monitor if path.is_file() else None


def _look(current: Session, machines: Engine, channel: Channel, board: Board, paths: Paths) -> None:
    """Ask the engine and the channel once, and submit again what was lost."""
    live = current.live
    statuses = machines.status([job.id for job in live.values() if job.id is not None])
    for each, job in live.items():
        if job.id is None:
            continue
        status = statuses[job.id]
        job.state, job.node, job.reason = status.state, status.node or job.node, status.reason
        if job.state != State.PENDING:
            _hear(each, job, channel, board)
        if job.state in FINAL:
            _keep_log(each, job, current, machines, channel)
    lost = [each for each, job in live.items() if job.state in AGAIN or job.id is None]
    if again := [each for each in lost if _worth_another(live[each])]:
        board.update()
        _submit(current, machines, paths, again)
    current.save()


def _hear(each: str, job: Submitted, channel: Channel, board: Board) -> None:
    """What the node reports. Its word on the end counts: an engine forgets, and shared jobs fail together."""
    tree = channel.read_json(node.report_name(each))
    if tree is None:
        return
    report = board.reports[each] = Report(**tree)
    job.epoch = max(job.epoch, report.epoch)
    if job.state in FINAL and report.doing == "done":
        job.state = State.DONE
    elif job.state == State.LOST and report.doing == "failed":
        job.state = State.FAILED


def _worth_another(job: Submitted) -> bool:
    """Whether an attempt has finished an epoch more than those before, or is not yet the third that has not."""
    job.idle = 0 if job.epoch > job.epoch_before else job.idle + 1
    return job.idle < IDLE


def _keep_log(each: str, job: Submitted, current: Session, machines: Engine, channel: Channel) -> None:
    text = channel.read(node.log_name(each)) or machines.log(job.id or "", current.folder)
    if text:
        files.write_text(text + "\n", current.logs / f"{each}.log")


async def _restore(dvc: Dvc, stages: list[str]) -> None:
    """Bring back what has been made, and nothing else."""
    if stages:
        await dvc.repro("--pull", "--single-item", *stages)


def _failure(current: Session, failed: dict[str, Submitted]) -> XraylabError:
    """The error that says which jobs failed, with the end of each log."""
    headline = f"{len(failed)} of {len(current.jobs)} jobs did not come to their end; what the others made is here"
    return XraylabError(headline, [_told(current, each, job) for each, job in failed.items()])


def _told(current: Session, each: str, job: Submitted) -> str:
    path = current.logs / f"{each}.log"
    lines = path.read_text(encoding="utf-8").splitlines()[-TAIL:] if path.is_file() else []
    where = f" on {job.node}" if job.node else ""
    reason = f" ({job.reason})" if job.reason and job.reason != job.state else ""
    return "\n      ".join(
        [f"{each}: {job.state}{where}{reason}" + (f", whose log {path} ends with" if lines else ""), *lines]
    )


def _end(paths: Paths, current: Session) -> None:
    """Nothing of the session stays on the remotes but the resume states of unfinished runs."""
    current.ended = True
    current.save()
    Channel.open(paths.root, current.study).remove([current.name])
    snapshot.remove(paths.root, current.repository, current.ref)
