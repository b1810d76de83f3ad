"""dvc.lock: what DVC has recorded of the last run of each stage, and of what it wrote."""

import io
import re
import time
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from xraylab import files, pipeline
from xraylab.errors import DataError
from xraylab.paths import Paths
from xraylab.pipeline import Stage, Tree

MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
PAUSE = 0.25  # seconds: DVC writes dvc.lock in place, and a reader may see half of it
TRIES = 20


@dataclass(frozen=True)
class Output:
    """A file or folder that a stage wrote; `md5` of a folder ends with .dir."""

    path: str
    md5: str
    stage: str


@dataclass(frozen=True)
class Lock:
    """The entries of dvc.lock by stage; those of stages that dvc.yaml no longer has are left out."""

    stages: dict[str, Tree] = field(default_factory=dict)

    @property
    def outputs(self) -> list[Output]:
        """Everything whose hash is known."""
        return [
            Output(out["path"], out["md5"], stage)
            for stage, entry in self.stages.items()
            for out in entry.get("outs") or []
            if MD5.fullmatch(str(out.get("md5")))
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
    for _ in range(TRIES):
        try:
            return _parse(_text(paths), stages)
        except (YAMLError, ValueError):
            time.sleep(PAUSE)
    raise DataError(
        f"{paths.lock.name} cannot be read: bring it back by `git checkout {paths.lock.name}`, or remove it, and "
        "`dvc repro` runs every stage again"
    )


def read_settled(paths: Paths, stages: list[Stage]) -> Lock:
    """The same, once nobody writes it any more: what seems absent may only have been half-written."""
    text = _text(paths)
    for _ in range(TRIES):
        time.sleep(PAUSE)
        before, text = text, _text(paths)
        if text == before:
            break
    return read(paths, stages)


def _text(paths: Paths) -> str | None:
    try:
        return paths.lock.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _load(text: str) -> Any:
    """YAML without the limits of `documents`, which take as long again: dvc.lock is large, and DVC's own."""
    try:
        return YAML(typ="safe").load(io.StringIO(text))
    except (KeyError, TypeError, AttributeError, OverflowError) as error:  # of tags with values of another type
        raise ValueError(str(error)) from None


def _is_entry(entry: Any) -> bool:
    """Return whether this is what DVC writes of a stage, as far as it is read here."""
    if not isinstance(entry, dict):
        return False
    files_, params = [*_rows(entry.get("deps")), *_rows(entry.get("outs"))], entry.get("params") or {}
    return (
        all(isinstance(each, dict) and isinstance(each.get("path"), str) and each["path"] for each in files_)
        and isinstance(params, dict)
        and all(isinstance(each, dict) and all(isinstance(key, str) for key in each) for each in params.values())
    )


def _rows(listed: Any) -> list[Any]:
    """The items of a list, which may be absent; of anything else one that is no row."""
    return listed if isinstance(listed, list) else [] if listed is None else [None]


def _parse(text: str | None, stages: list[Stage]) -> Lock:
    """Errors: ValueError, YAMLError."""
    tree = _load(text) if text is not None else {"stages": {}}
    entries = tree.get("stages") if isinstance(tree, dict) else None
    if not isinstance(entries, dict) or not all(map(_is_entry, entries.values())):
        raise ValueError("no entries of stages")
    names = {stage.name for stage in stages}
    return Lock({name: entry for name, entry in entries.items() if name in names})
