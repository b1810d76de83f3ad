"""What an engine is: it runs commands somewhere, says how each of them stands, and cancels them. It knows no study."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol


class State(StrEnum):
    """How a submitted command stands."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"  # exit code 0
    FAILED = "failed"  # any other exit code
    TIMEOUT = "timeout"  # past its time limit
    LOST = "lost"  # preempted, or its node is gone: worth another submission
    CANCELLED = "cancelled"


FINAL = {State.DONE, State.FAILED, State.TIMEOUT, State.LOST, State.CANCELLED}


@dataclass(frozen=True)
class Command:
    """A command for one job: its name (letters, digits, . _ - alone), arguments, and additions to the environment."""

    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Resources:
    """What each job gets: whole GPUs, or one GPU shared by `jobs_per_gpu`; cores; minutes (None: the engine's default).

    `cpus`: None is one on a cluster, and here an equal share of the cores. `options`: of the engine itself, such as
    qos=long of SLURM.
    """

    gpus: int = 0
    jobs_per_gpu: int = 1
    cpus: int | None = None
    minutes: int | None = None
    partition: str | None = None
    options: dict[str, str] = field(default_factory=dict)

    @property
    def cores(self) -> int:
        return 1 if self.cpus is None else self.cpus

    @property
    def threads(self) -> dict[str, str]:
        """The environment in which a job computes in as many threads as it has cores."""
        return {"OMP_NUM_THREADS": str(self.cores)}


@dataclass(frozen=True)
class Status:
    """How a job stands, where it runs or ran (None: nowhere yet), and why it ended, in the engine's own words."""

    state: State
    node: str | None = None
    reason: str = ""


class Engine(Protocol):
    """Where jobs run. Every method may be called from another process than the submitting one: ids are enough."""

    def check(self, resources: Resources) -> None:
        """Errors: XraylabError, with what to type, where the engine cannot be reached or never has such resources."""

    def submit(self, commands: Sequence[Command], resources: Resources, folder: Path) -> list[str]:
        """Hand the commands over, one job each, and return their ids in order; what they print goes into `folder`."""

    def status(self, ids: Sequence[str]) -> dict[str, Status]:
        """How each job stands; one that the engine has forgotten is LOST."""

    def cancel(self, ids: Sequence[str]) -> None:
        """End those that have not ended; returns once the engine has been told."""

    def log(self, id_: str, folder: Path) -> str:
        """The last lines that the job printed, as far as they can be read from here; empty before it starts."""
