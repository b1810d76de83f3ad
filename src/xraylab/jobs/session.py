"""A session: the jobs that a call of `xraylab repro --on` or `search --on` has submitted, in a file to go on from."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from xraylab import files
from xraylab.jobs.engines.engine import FINAL, Resources, State
from xraylab.jobs.job import Job

FILE = "session.json"
WAYS_BACK = {"repro": " --attach` watches", "search": "` goes on with"}
"""The end of a command that jobs are left to, and what it does."""


@dataclass
class Submitted(Job):
    """A job with its id at the engine (None: not handed over yet), and how it stands.

    `epoch`: the last one it was seen to finish; `epoch_before`: when its present attempt began; `idle`: how many
    attempts in a row finished none.
    """

    id: str | None = None
    state: State = State.PENDING
    node: str | None = None
    reason: str = ""
    attempts: int = 0
    epoch: int = 0
    epoch_before: int = 0
    idle: int = 0


@dataclass
class Session:
    """`engine`, `resources`, `commit` and `ref` are those of all jobs; `study` names its folder of the channel.

    `command` of xraylab that submitted them.
    """

    folder: Path
    engine: str
    resources: Resources
    study: str
    repository: str
    commit: str
    ref: str
    size: int
    scratch: str | None = None
    jobs: dict[str, Submitted] = field(default_factory=dict)
    command: str = "repro"
    ended: bool = False

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def logs(self) -> Path:
        """One log per job."""
        return self.folder / "logs"

    @property
    def live(self) -> dict[str, Submitted]:
        """The jobs that have not ended."""
        return {name: job for name, job in self.jobs.items() if job.state not in FINAL}

    @property
    def way_back(self) -> str:
        """What to type for jobs that go on without their caller."""
        return way_back(self.command, self.engine)

    def save(self) -> None:
        files.write_json({**asdict(self), "folder": str(self.folder)}, self.folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> "Session":
        """Errors: DataError where the file is not as `save` wrote it."""
        tree = files.read_json(folder / FILE)
        with files.parsing(folder / FILE):
            jobs = {
                name: Submitted(
                    **job
                    | {"stages": tuple(job["stages"]), "changes": tuple(job["changes"]), "state": State(job["state"])}
                )
                for name, job in tree["jobs"].items()
            }
            return cls(**{**tree, "folder": folder, "resources": Resources(**tree["resources"]), "jobs": jobs})


def way_back(command: str, engine: str) -> str:
    """What to type for the jobs of a command whose caller has ended."""
    again = f"xraylab {command} --on {engine}"
    return f"`{again}{WAYS_BACK[command]} them, --cancel ends them"


def unfinished(jobs: Path) -> Session | None:
    """The session whose end nobody has seen; None where there is none."""
    sessions = [Session.load(file.parent) for file in sorted(jobs.glob(f"*/{FILE}"))]
    return next((session for session in reversed(sessions) if not session.ended), None)


def new_folder(jobs: Path) -> Path:
    """A folder that sorts by the time at which it was made."""
    folder = jobs / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    return folder
