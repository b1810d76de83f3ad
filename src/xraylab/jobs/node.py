"""A job on a node: clone the study at a commit, restore or make the stages of one run, and push what they made.

`python -m xraylab.jobs.node JOB`, where JOB is the job as JSON. It tells the channel how far it is, and keeps the run's
resume state there, so that another node can go on after the last finished epoch.
"""

import asyncio
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from xraylab import files
from xraylab.errors import XraylabError
from xraylab.jobs import environment, gpu_memory, repro
from xraylab.jobs.channel import Channel
from xraylab.jobs.dvc import Dvc, Log, retried
from xraylab.jobs.environment import Versions
from xraylab.jobs.job import Job
from xraylab.jobs.resume_state import ResumeState

GLANCE = 0.5  # seconds between two looks for a finished epoch
CLONE = 64 * 2**20  # bytes that a clone and what DVC writes beside data may take
TELL = 3.0  # seconds between two reports, at least
RETRY = 20.0  # seconds until a remote is tried again
TAIL = 400  # lines of the log that travel
EPOCH = re.compile(r" epoch (\d+)/(\d+)\b(.*)")
METRIC = re.compile(r"  (\w+) (-?\d+\.\d+|nan)")
DEVICE = re.compile(r"\S+: (.+, (?:float32|bfloat16|float16)\b.*)")


@dataclass(kw_only=True)
class NodeJob(Job):
    """What a node has to know: a job, of which commit it is, and where to clone that from.

    `study` and `session` name folders of the channel; `size` is what its inputs take, in bytes; `jobs_per_gpu`: so
    many share a GPU.
    """

    name: str
    repository: str
    commit: str
    ref: str
    study: str
    session: str
    size: int
    versions: Versions
    scratch: str | None = None
    jobs_per_gpu: int = 1

    @property
    def states(self) -> str:
        """The folder of the channel that has its resume states; trials do not take up one another's."""
        return f"{self.study}/{self.name}" if self.changes else self.study

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "NodeJob":
        tree = json.loads(text)
        return cls(**{**tree, "stages": tuple(tree["stages"]), "changes": tuple(tree["changes"])})


@dataclass
class Report:
    """How far a job is: `doing` is starting, a stage, pushing, done, failed, or refused. `epoch`: finished ones."""

    node: str
    doing: str = "starting"
    device: str = ""
    epoch: int = 0
    epochs: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    seconds_left: float | None = None
    problem: str = ""


def report_name(job: str) -> str:
    return f"{job}/report.json"


def log_name(job: str) -> str:
    return f"{job}/log.txt"


class Reporter:
    """Reads the lines that dvc prints, and tells the channel."""

    def __init__(self, channel: Channel, job: NodeJob) -> None:
        self.channel, self.job = channel, job
        self.report = Report(os.environ.get("SLURMD_NODENAME") or platform.node())
        self.log: deque[str] = deque(maxlen=TAIL)
        self.first: tuple[int, float] | None = None  # an epoch that was finished here, and when
        self.told: tuple[str, float] = ("", 0.0)

    def line(self, text: str) -> None:
        """Take a line of the output into account."""
        print(text, flush=True)  # noqa: T201 - the engine's log
        self.log.append(text)
        if started := re.fullmatch(r"Running stage '(.+)':", text):
            self.report.doing = started[1]
        elif device := DEVICE.fullmatch(text):
            self.report.device = device[1]
        elif epoch := EPOCH.search(text):
            self._epoch(int(epoch[1]), int(epoch[2]), epoch[3])

    def _epoch(self, number: int, epochs: int, rest: str) -> None:
        """A line at an epoch's end has metrics; one in between has none, and speaks of the epoch that runs."""
        metrics = {name: float(value) for name, value in METRIC.findall(rest)}
        self.report.epoch, self.report.epochs = number if metrics else number - 1, epochs
        if metrics:
            self.report.metrics = metrics
            now = time.time()
            self.first = self.first or (number, now)
            done = number - self.first[0]
            self.report.seconds_left = (now - self.first[1]) / done * (epochs - number) if done else None

    def tell(self, at_once: bool = False) -> None:
        """Write report and log to the channel where they are others than the last ones."""
        text = json.dumps(asdict(self.report))
        state = f"{text} {len(self.log)} {self.log[-1] if self.log else ''}"
        if state != self.told[0] and (at_once or time.monotonic() - self.told[1] >= TELL):
            self.told = state, time.monotonic()
            self.channel.write("\n".join(self.log), log_name(self.job.name))
            self.channel.write(text, report_name(self.job.name))


def run(job: NodeJob) -> None:
    """Do the job in a folder of its own, which is removed at the end.

    Errors: XraylabError where a stage fails, or where the node cannot do the job.
    """
    scratch = Path(job.scratch or tempfile.gettempdir())
    scratch.mkdir(parents=True, exist_ok=True)
    _sweep(scratch, job)
    files.require_room(scratch, CLONE + 2 * job.size, f"{job.name} on {platform.node()}: clone and inputs, twice,")
    folder = Path(tempfile.mkdtemp(dir=scratch, prefix=_prefix(job)))
    (folder / "owner").write_text(str(os.getpid()))
    os.environ["DVC_SITE_CACHE_DIR"] = str(folder / "site")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name in [name for name in os.environ if name in ("DVC_ROOT", "DVC_STAGE")]:
        del os.environ[name]
    try:
        study = _clone(job, folder)
        _reported(job, study)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _prefix(job: NodeJob) -> str:
    return f"xraylab-{job.session}-{job.name}-"


def _sweep(scratch: Path, job: NodeJob) -> None:
    """Remove what an earlier attempt left when its node was cut off."""
    for folder in scratch.glob(f"{_prefix(job)}*"):
        with suppress(OSError, ValueError):
            if not psutil.pid_exists(int((folder / "owner").read_text())):
                shutil.rmtree(folder, ignore_errors=True)


def _clone(job: NodeJob, folder: Path) -> Path:
    """The study at the job's commit, without its history."""
    study = folder / "study"
    study.mkdir()
    _git(study, "init", "--quiet")
    _git(study, "fetch", "--quiet", "--depth=1", job.repository, job.ref)
    _git(study, "checkout", "--quiet", "--detach", job.commit)
    return study


def _git(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, encoding="utf-8", check=False)  # noqa: S603, S607 - git
    if done.returncode != 0:
        raise XraylabError(f"`git {' '.join(arguments)}` failed on {platform.node()}", done.stderr.splitlines())


def _reported(job: NodeJob, study: Path) -> None:
    reporter = Reporter(Channel.open(study, f"{job.study}/{job.session}"), job)
    try:
        reporter.tell(at_once=True)
        environment.refuse_others(environment.versions(study / "constraints.txt"), job.versions, reporter.report.node)
        if job.gpu_bytes:
            gpu_memory.refuse_too_large(job.experiment, job.gpu_bytes, job.jobs_per_gpu, gpu_memory.visible())
        _use_cache(job, study)
        change(job.changes, study / "params.yaml")
        states = ResumeState(Channel.open(study, job.states), study / ".xraylab/runs", job.run)
        if fetched := states.fetch():
            reporter.line(f"takes up {', '.join(fetched)} where its last finished epoch ended")
        repro.until_signal(study, lambda dvc: _made(dvc, job, states, reporter), "its resume state is on the remote")
        states.remove()
        reporter.report.doing = "done"
    except XraylabError as error:
        refused = isinstance(error, environment.OtherVersionsError)
        reporter.report.doing, reporter.report.problem = "refused" if refused else "failed", str(error)
        raise
    finally:
        reporter.tell(at_once=True)


def _use_cache(job: NodeJob, study: Path) -> None:
    """With a scratch folder of the user's, the jobs of a node share DVC's cache there."""
    if job.scratch:
        cache = Path(job.scratch).resolve() / "cache"
        (study / ".dvc/config.local").write_text(f"[cache]\n    dir = {cache}\n", encoding="utf-8")


def change(changes: Sequence[str], params: Path) -> None:
    """Change params.yaml as `dvc exp run` does, so that the caller's experiment finds what is made here."""
    from dvc.utils.hydra import apply_overrides  # type: ignore[import-untyped] # noqa: PLC0415 - slow to import

    if changes:
        apply_overrides(str(params), list(changes))


async def _made(dvc: Dvc, job: NodeJob, states: ResumeState, reporter: Reporter) -> None:
    """Make the stages, with an eye on finished epochs; then push their outputs and what DVC knows of them."""
    agent = asyncio.create_task(_watch(states, reporter))
    try:
        await _dvc(dvc, reporter, *job.repro("--pull"))
    finally:
        agent.cancel()
        with suppress(asyncio.CancelledError):
            await agent
        await asyncio.to_thread(states.send)
    reporter.report.doing = "pushing"
    await _dvc(dvc, reporter, "push", "--run-cache", *job.stages)


async def _watch(states: ResumeState, reporter: Reporter) -> None:
    """Until it is cancelled. A remote that does not answer now may do so next time: training goes on meanwhile."""
    while True:
        try:
            sent = await asyncio.to_thread(states.send)
            await asyncio.to_thread(reporter.tell, bool(sent))
        except Exception as error:  # file systems' errors have no class in common but this
            reporter.line(f"the remote does not answer ({type(error).__name__}: {error}); tried again soon")
            await asyncio.sleep(RETRY)
        await asyncio.sleep(GLANCE)


async def _dvc(dvc: Dvc, reporter: Reporter, *arguments: str) -> None:
    """Errors: XraylabError with the end of the log where the command fails."""

    async def attempt() -> tuple[int, Log]:
        log = Log(dvc.root / ".xraylab/logs", arguments[0])
        log.folder.mkdir(parents=True, exist_ok=True)
        return await dvc.logged(list(arguments), {}, log, reporter.line), log

    code, log = await retried(attempt)
    if code != 0:
        raise XraylabError(f"`dvc {' '.join(arguments)}` ended with {code} on {reporter.report.node}", list(log.last))


def main(arguments: list[str]) -> int:
    """0 where the job is done, 1 with the reason where it is not."""
    try:
        run(NodeJob.from_json(arguments[0]))
    except (XraylabError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - as the command line does
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
