"""How far a study is: its stages, and which of them are up to date, from dvc.yaml, params.yaml and dvc.lock alone.

DVC itself would take its lock to say so, and the dvc that runs the study would have to wait.
"""

import hashlib

from ruamel.yaml.error import YAMLError

from xraylab import dvc_lock, files
from xraylab.paths import Paths
from xraylab.pipeline import PARAMS, Stage, Tree, below, command, parse, value


class Study:
    """Reads dvc.yaml once, and dvc.lock as often as it changes."""

    def __init__(self, paths: Paths) -> None:
        self.root, self.paths = paths.root, paths
        self.params = files.read_yaml(paths.params)
        self.stages = parse(files.read_yaml(paths.root / "dvc.yaml"), self.params)
        self.stamp: tuple[int, int] | None = None
        self.lock: dict[str, Tree] = {}

    def finished(self) -> list[str]:
        """The stages whose last run was with the dependencies and parameters of now, in the order of dvc.yaml.

        A stage after one that is not finished is not finished either. Files that no stage writes are not looked at.
        """
        self._read_lock()
        hashes = {
            out["path"]: out.get("md5")
            for stage in self.stages
            for out in self.lock.get(stage.name, {}).get("outs") or []
        }
        stale = {stage.name for stage in self.stages if not self._as_locked(stage, hashes)}
        stale |= below(self.stages, stale)
        return [stage.name for stage in self.stages if stage.name not in stale]

    def _read_lock(self) -> None:
        """Keep what is known where DVC is writing the file just now."""
        try:
            stat = self.paths.lock.stat()
            if (stat.st_ino, stat.st_mtime_ns) != self.stamp:
                self.lock = dvc_lock.parse(self.paths.lock.read_bytes())
                self.stamp = stat.st_ino, stat.st_mtime_ns
        except FileNotFoundError:
            self.lock = {}
        except (OSError, ValueError, YAMLError):
            pass

    def _as_locked(self, stage: Stage, hashes: dict[str, str]) -> bool:
        entry = self.lock.get(stage.name)
        if entry is None or command(entry.get("cmd")) != stage.cmd:
            return False
        recorded = {dep["path"]: dep.get("md5") for dep in entry.get("deps") or []}
        if set(recorded) != set(stage.deps) or any(not (self.root / out).exists() for out in stage.outs):
            return False
        values = (entry.get("params") or {}).get(PARAMS) or {}
        return all(value(self.params, key) == recorded_value for key, recorded_value in values.items()) and all(
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
