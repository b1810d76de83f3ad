"""SLURM, through submitit: one array job for all commands; several commands in one job where they share a GPU."""

import os
import shutil
import signal
import subprocess
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from xraylab.errors import DataError, MissingError, XraylabError
from xraylab.jobs.engines.engine import Command, Resources, State, Status

STATES = {
    **dict.fromkeys(["PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD"], State.PENDING),
    **dict.fromkeys(["RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"], State.RUNNING),
    **dict.fromkeys(["NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED"], State.LOST),
    "COMPLETED": State.DONE,
    "TIMEOUT": State.TIMEOUT,
    "CANCELLED": State.CANCELLED,
}
"""Any other one, such as FAILED or OUT_OF_MEMORY: failed."""
NOT_LAUNCHED = {"JobLaunchFailure", "NodeDown"}
"""Reasons of FAILED that are a node's: a job whose node is cut off may end so."""
TAIL = 16_384  # bytes of a log
AT_ONCE = 10_000  # tasks of an array that may run at a time: the site's own limits hold
AT_A_TIME = 500  # jobs on one command line
WAIT = 60  # seconds that a command of SLURM may take


class Slurm:
    """An id is `<job>_<task>.<number>`, or `<job>.<number>`: the command's number among those of one job of SLURM."""

    def check(self, resources: Resources) -> None:
        """Errors: MissingError without submitit or sbatch; DataError where SLURM would never start such a job."""
        _submitit()
        if shutil.which("sbatch") is None:
            raise MissingError("this machine has no sbatch: run the command on a login node of the cluster")
        _call("sinfo", "--noheader", "--format=%R")
        if resources.jobs_per_gpu > 1 and resources.gpus != 1:
            raise DataError("--jobs-per-gpu shares one GPU between jobs: add --gpus-per-job 1")
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in _flags(resources).items()]
        try:
            _call("sbatch", "--test-only", *flags, "--wrap=true")
        except XraylabError as error:
            listed = "`sinfo --format='%P %l %c %G %D'` lists partitions, time limits, cores and GPUs"
            raise DataError(f"SLURM takes no such job ({' '.join(flags)}): {listed}", error.problems) from None

    def submit(self, commands: Sequence[Command], resources: Resources, folder: Path) -> list[str]:
        """Submit all as one array. `folder` must be seen by the nodes under the same path."""
        submitit = _submitit()
        executor = submitit.SlurmExecutor(folder=folder)
        executor.update_parameters(
            job_name=f"xraylab-{commands[0].name}" if len(commands) == 1 else "xraylab",
            array_parallelism=AT_ONCE,
            signal_delay_s=1,
            stderr_to_stdout=True,
            additional_parameters=_flags(resources),
        )
        size = resources.jobs_per_gpu
        packs = [tuple(commands[first : first + size]) for first in range(0, len(commands), size)]
        try:
            jobs = executor.map_array(run_side_by_side, packs, [str(folder)] * len(packs))
        except submitit.core.utils.FailedJobError as error:
            raise XraylabError("SLURM refused the jobs", [str(error)]) from None
        return [f"{job.job_id}.{number}" for job, pack in zip(jobs, packs, strict=True) for number in range(len(pack))]

    def status(self, ids: Sequence[str]) -> dict[str, Status]:
        """Ask squeue; of jobs that it has forgotten, sacct, where the site keeps accounts."""
        jobs = {id_: id_.rpartition(".")[0] for id_ in ids}
        known = _read(_call("squeue", *_OURS, "--noheader", "--array", "--states=all", "--format=%i|%T|%N|%r"))
        if forgotten := sorted(set(jobs.values()) - set(known)):
            known |= _accounted(forgotten)
        gone = Status(State.LOST, None, "SLURM knows it no longer")
        return {id_: known.get(job, gone) for id_, job in jobs.items()}

    def cancel(self, ids: Sequence[str]) -> None:
        """End the jobs, and with each one the commands that share its GPU."""
        jobs = sorted({id_.rpartition(".")[0] for id_ in ids})
        for first in range(0, len(jobs), AT_A_TIME):
            command = ["scancel", *jobs[first : first + AT_A_TIME]]
            subprocess.run(command, capture_output=True, timeout=WAIT, check=False)  # noqa: S603 - SLURM's own

    def log(self, id_: str, folder: Path) -> str:
        """The end of what the command printed; of what SLURM said of its job where it printed nothing."""
        job = id_.rpartition(".")[0]
        for path in (_log(folder, id_), folder / f"{job}_0_log.out"):
            with suppress(FileNotFoundError), path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - TAIL))
                if text := file.read().decode(errors="replace").strip():
                    return text
        return ""


_OURS = (f"--user={getattr(os, 'getuid', int)()}",)


def run_side_by_side(commands: Sequence[Command], folder: str) -> None:
    """On the node: run the commands at once, each with its own log; SIGTERM reaches all of them.

    Errors: RuntimeError, at which SLURM calls the job failed, where one of them ends with another code than 0.
    """
    job = "_".join(
        [os.environ["SLURM_ARRAY_JOB_ID"], os.environ["SLURM_ARRAY_TASK_ID"]]
        if "SLURM_ARRAY_JOB_ID" in os.environ
        else [os.environ["SLURM_JOB_ID"]]
    )
    started: list[subprocess.Popen[bytes]] = []
    # a second before the time limit, at which submitit would put the job back into the queue or call it failed: the
    # caller decides that. The commands inherit it, whom the signal would end
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    for number, command in enumerate(commands):
        with _log(Path(folder), f"{job}.{number}").open("ab") as log:
            environment = os.environ | command.environment
            started.append(subprocess.Popen(command.arguments, env=environment, stdout=log, stderr=log))  # noqa: S603 - ours
    signal.signal(signal.SIGTERM, lambda number, frame: _terminate(started))
    codes = {command.name: process.wait() for command, process in zip(commands, started, strict=True)}
    if failed := [f"{name} ended with {code}" for name, code in codes.items() if code]:
        raise RuntimeError("; ".join(failed))


def _terminate(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()


def _submitit() -> Any:
    try:
        import submitit  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingError("--on slurm needs submitit, which is not installed: pip install 'xraylab[slurm]'") from None
    warnings.filterwarnings("ignore", module="submitit")
    return submitit


def _flags(resources: Resources) -> dict[str, str]:
    """As sbatch takes them; the user's own options come last and win."""
    flags = {"cpus-per-task": str(resources.cores * resources.jobs_per_gpu)}
    flags |= {"gpus-per-node": str(resources.gpus)} if resources.gpus else {}
    flags |= {"time": str(resources.minutes)} if resources.minutes else {}
    flags |= {"partition": resources.partition} if resources.partition else {}
    return flags | {key.replace("_", "-"): value for key, value in resources.options.items()}


def _read(table: str) -> dict[str, Status]:
    """Job -> status, from lines of id|state|nodes|reason."""
    return {line.split("|")[0]: _status(*line.split("|")[1:]) for line in table.splitlines() if line.count("|") >= 2}


def _status(word: str, node: str, reason: str = "") -> Status:
    state = State.LOST if reason in NOT_LAUNCHED else STATES.get(word.split(maxsplit=1)[0], State.FAILED)
    told = "" if reason in ("", "None") else reason
    return Status(state, node if node not in ("", "None assigned") else None, told or word.lower())


def _accounted(jobs: list[str]) -> dict[str, Status]:
    """What sacct says of the jobs; nothing where the site keeps no accounts."""
    if shutil.which("sacct") is None:
        return {}
    flags = ["--noheader", "--parsable2", "--allocations", "--format=JobID,State,NodeList", f"--jobs={','.join(jobs)}"]
    with suppress(XraylabError):
        return _read(_call("sacct", *flags))
    return {}


def _call(*command: str) -> str:
    """What a command of SLURM prints. Errors: XraylabError with what it said."""
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=WAIT, check=False)  # noqa: S603 - SLURM's own
    except FileNotFoundError:
        raise MissingError(f"this machine has no {command[0]}: run the command on a login node") from None
    except subprocess.TimeoutExpired:
        raise XraylabError(f"`{command[0]}` gave no answer within {WAIT} s: is SLURM's controller up?") from None
    if done.returncode != 0:
        raise XraylabError(f"`{command[0]}` failed", [line for line in done.stderr.splitlines() if line.strip()][:5])
    return done.stdout


def _log(folder: Path, id_: str) -> Path:
    return folder / f"{id_}.log"
