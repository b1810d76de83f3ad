"""What dvc.lock has of the stages of dvc.yaml, and of what they wrote."""

import time
from dataclasses import dataclass, field

from xraylab import dvc_lock, files, pipeline
from xraylab.paths import Paths
from xraylab.pipeline import Stage, Tree


@dataclass(frozen=True)
class Output:
    """A file or folder that a stage wrote; `md5` of a folder ends with .dir. `cached`: in DVC's cache, and not git."""

    path: str
    md5: str
    stage: str
    cached: bool = True


@dataclass(frozen=True)
class Lock:
    """The entries of dvc.lock by stage; those of stages that dvc.yaml no longer has are left out."""

    stages: dict[str, Tree] = field(default_factory=dict)
    uncached: frozenset[str] = frozenset()

    @property
    def outputs(self) -> list[Output]:
        """Everything whose hash is known."""
        return [
            Output(out["path"], out["md5"], stage, out["path"] not in self.uncached)
            for stage, entry in self.stages.items()
            for out in entry.get("outs") or []
            if "md5" in out
        ]

    def touching(self, path: str) -> list[Output]:
        """The outputs that a path is, lies in, or holds."""
        return [out for out in self.outputs if pipeline.touches(path, out.path)]


def stages_of(paths: Paths) -> list[Stage]:
    """The stages of dvc.yaml. Errors: MissingError, and DataError where it or params.yaml cannot be read."""
    tree, params = files.read_yaml(paths.root / "dvc.yaml"), files.read_yaml(paths.params)
    with files.parsing(paths.root / "dvc.yaml"):
        return pipeline.parse(tree, params)


def read(paths: Paths, stages: list[Stage]) -> Lock:
    """dvc.lock as it stands; empty where there is none. Errors: DataError where it cannot be read, also later."""
    names = {stage.name for stage in stages}
    uncached = frozenset(out for stage in stages for out in stage.uncached)
    return Lock({name: entry for name, entry in dvc_lock.entries(paths.lock).items() if name in names}, uncached)


def read_settled(paths: Paths, stages: list[Stage]) -> Lock:
    """The same, once nobody writes it any more: what seems absent may only have been half-written."""
    text = dvc_lock.content(paths.lock)
    for _ in range(dvc_lock.TRIES):
        time.sleep(dvc_lock.PAUSE)
        before, text = text, dvc_lock.content(paths.lock)
        if text == before:
            break
    return read(paths, stages)
