"""How far a study is: its stages, and which of them are up to date, from dvc.yaml, params.yaml and dvc.lock alone.

DVC itself would take its lock to say so, and the dvc that runs the study would have to wait.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from xraylab import files
from xraylab.errors import DataError
from xraylab.paths import Paths

Tree = dict[str, Any]
REFERENCE = re.compile(r"\$\{([^}]+)\}")
PARAMS = "params.yaml"


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml, of a matrix one of its cells, with what ${...} stands for put in."""

    name: str
    cmd: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]


class Study:
    """Reads dvc.yaml once, and dvc.lock as often as it changes."""

    def __init__(self, paths: Paths) -> None:
        self.root, self.paths = paths.root, paths
        self.params = files.read_yaml(paths.params)
        self.stages = parse(files.read_yaml(paths.root / "dvc.yaml"), self.params)
        self.stamp: tuple[int, int] | None = None
        self.lock: Tree = {}

    def finished(self) -> list[str]:
        """The stages whose last run was with the dependencies and parameters of now, in the order of dvc.yaml.

        A stage after one that is not finished is not finished either. Files that no stage writes are not looked at.
        """
        self._read_lock()
        hashes = {
            out["path"]: out.get("md5")
            for stage in self.stages
            for out in self.lock.get(stage.name, {}).get("outs", [])
        }
        stale = {stage.name for stage in self.stages if not self._as_locked(stage, hashes)}
        stale |= below(self.stages, stale)
        return [stage.name for stage in self.stages if stage.name not in stale]

    def _read_lock(self) -> None:
        """Keep what is known where DVC is writing the file just now."""
        try:
            stat = self.paths.lock.stat()
            if (stat.st_ino, stat.st_mtime_ns) != self.stamp:
                with self.paths.lock.open(encoding="utf-8") as file:
                    self.lock = (YAML(typ="safe").load(file) or {}).get("stages", {})
                self.stamp = stat.st_ino, stat.st_mtime_ns
        except FileNotFoundError:
            self.lock = {}
        except (OSError, YAMLError):
            pass

    def _as_locked(self, stage: Stage, hashes: dict[str, str]) -> bool:
        entry = self.lock.get(stage.name)
        if entry is None or entry["cmd"] != stage.cmd:
            return False
        recorded = {dep["path"]: dep.get("md5") for dep in entry.get("deps", [])}
        if set(recorded) != set(stage.deps) or any(not (self.root / out).exists() for out in stage.outs):
            return False
        values = entry.get("params", {}).get(PARAMS, {})
        return all(_value(self.params, key) == value for key, value in values.items()) and all(
            self._hash(path, hashes, recorded[path]) == recorded[path] for path in stage.deps
        )

    def _hash(self, path: str, hashes: dict[str, str], otherwise: str | None) -> str | None:
        """Of an output, as its stage has recorded it; of a file within one, of what it holds; else `otherwise`."""
        if path in hashes:
            return hashes[path]
        within = any(path.startswith(f"{out}/") for out in hashes)
        file = self.root / path
        if not within or not file.is_file():
            return otherwise
        return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def parse(tree: Tree, params: Tree) -> list[Stage]:
    """The stages of a dvc.yaml. Errors: DataError where it has none."""
    if not isinstance(tree, dict) or not tree.get("stages"):
        raise DataError("dvc.yaml has no stages: run this command in the top folder of a study")
    return [stage for name, entry in tree["stages"].items() for stage in _cells(name, entry, params)]


def _cells(name: str, entry: Tree, params: Tree) -> Iterator[Stage]:
    axes = {axis: list(_resolved(values, params)) for axis, values in entry.get("matrix", {}).items()}
    for cell in product(*axes.values()):
        known = params | {"item": dict(zip(axes, cell, strict=True))}
        full = f"{name}@{'-'.join(map(str, cell))}" if cell else name
        outs = [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]
        yield Stage(
            full, _text(entry["cmd"], known), tuple(_paths(entry.get("deps", []), known)), tuple(_paths(outs, known))
        )


def _paths(entries: Iterable[str | Tree], known: Tree) -> Iterator[str]:
    for entry in entries:
        yield _text(entry if isinstance(entry, str) else next(iter(entry)), known)


def _resolved(values: Any, params: Tree) -> Iterable[Any]:
    """A list, or what `${key}` stands for: a list, or a mapping, which stands for its keys."""
    match = REFERENCE.fullmatch(values) if isinstance(values, str) else None
    found: Iterable[Any] = _value(params, match[1]) if match else values
    return found


def _text(text: str, known: Tree) -> str:
    return REFERENCE.sub(lambda match: str(_value(known, match[1])), text)


def _value(tree: Tree, key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    branch: Any = tree
    for name in key.split("."):
        branch = branch.get(name) if isinstance(branch, dict) else None
    return branch


def below(stages: list[Stage], names: set[str]) -> set[str]:
    """The stages that depend on these, directly or not."""
    reached, before = set(names), set[str]()
    while reached != before:
        before = set(reached)
        outs = [out for stage in stages if stage.name in reached for out in stage.outs]
        reached |= {stage.name for stage in stages if any(_touches(dep, out) for dep in stage.deps for out in outs)}
    return reached


def _touches(dep: str, out: str) -> bool:
    return dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/")
