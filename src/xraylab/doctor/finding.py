"""What a check finds, and where it looks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xraylab.paths import Paths

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """A fact in a sentence. `error`: a run would fail or be wrong; `advice`: what to do, such as a command to type."""

    check: str
    level: Level
    text: str
    advice: str = ""


@dataclass(frozen=True)
class Subject:
    """The folder that is examined; `paths` where it is the top folder of a study."""

    folder: Path
    paths: Paths | None

    @classmethod
    def at(cls, folder: Path) -> "Subject":
        """The study of that folder, or the machine alone where there is none."""
        return cls(folder, Paths(folder) if (folder / "params.yaml").is_file() else None)


Check = Callable[[Subject], Iterator[Finding]]
