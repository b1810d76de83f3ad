"""What of a study follows from what, stage by stage from raw data to report: contents are hashed anew, times not read.

A stage is compared with what dvc.lock has of its last run: its inputs, its parameters, its code, and what it wrote.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xraylab import code, files, pipeline
from xraylab.data.sources import recording
from xraylab.data.sources.recording import Locations
from xraylab.errors import DataError, MissingError, XraylabError
from xraylab.integrity import hashes, lock
from xraylab.integrity.check import OutputsOnDisk
from xraylab.integrity.hashes import Ignored
from xraylab.integrity.lock import Lock, Output
from xraylab.params import config
from xraylab.paths import Paths
from xraylab.pipeline import PARAMS, Stage, Tree, value

Level = Literal["ok", "note", "error"]
CODE = "code/"


@dataclass(frozen=True)
class Verdict:
    """Of a stage or one of its files.

    `state`: ok, not run, absent, changed, other inputs, params, code or command; unreadable: no stage could be checked.
    """

    stage: str
    path: str
    state: str
    text: str = ""

    @property
    def level(self) -> Level:
        return "ok" if self.state == "ok" else "note" if self.state in ("not run", "absent") else "error"


def verify(paths: Paths) -> list[Verdict]:
    """One verdict per finding, and one per stage without any, in the order of dvc.yaml."""
    stages = lock.stages_of(paths)
    recorded = lock.read_settled(paths, stages)
    study = _Study(paths, stages, recorded)
    return [verdict for stage in stages for verdict in study.verdicts(stage)]


class _Study:
    def __init__(self, paths: Paths, stages: list[Stage], recorded: Lock) -> None:
        self.paths, self.recorded = paths, recorded
        self.params: Tree = files.read_yaml(paths.params)
        self.outs = {out.path: out for out in recorded.outputs}
        present = [out for out in recorded.outputs if (paths.root / out.path).exists()]
        on_disk = OutputsOnDisk(paths, present, [out.path for out in present])
        self.changed = {out.path: changed for out in present if (changed := on_disk.differences(out))}
        self.present = {out.path for out in present}

    def verdicts(self, stage: Stage) -> list[Verdict]:
        entry = self.recorded.stages.get(stage.name)
        if entry is None:
            return [Verdict(stage.name, "", "not run", "dvc.lock has no run of it")]
        found = [*self._outputs(stage), *self._made(stage, entry)]
        found += self._source() if stage.name == "source" else []
        return found or [Verdict(stage.name, ", ".join(stage.outs), "ok")]

    def _outputs(self, stage: Stage) -> Iterator[Verdict]:
        for path in stage.outs:
            if path not in self.outs:
                yield Verdict(stage.name, path, "not run", "dvc.lock does not know it")
            elif path not in self.present:
                yield Verdict(
                    stage.name, path, "absent", "not on this machine; `dvc pull` brings it where it is needed"
                )
            for difference in self.changed.get(path, []):
                text = {"changed": "damaged or edited", "absent": "gone"}.get(difference.what, difference.what)
                yield Verdict(stage.name, difference.path, "changed", f"{text} since the stage wrote {path}")

    def _made(self, stage: Stage, entry: Tree) -> Iterator[Verdict]:
        if pipeline.command(entry.get("cmd")) != stage.cmd:
            yield Verdict(stage.name, "", "other command", f"it ran {entry.get('cmd')!r}")
        values = (entry.get("params") or {}).get(PARAMS) or {}
        keys = [*values, *(key for key in stage.params if key not in values)]
        different = [key for key in keys if key not in values or value(self.params, key) != values[key]]
        different += [key for key in values if key not in stage.params]
        if different:
            names = ", ".join(dict.fromkeys(different))
            yield Verdict(stage.name, PARAMS, "other params", f"it ran with other values of {names}")
        then = {dep["path"]: dep.get("md5") for dep in entry.get("deps") or []}
        for path in dict.fromkeys([*stage.deps, *then]):
            if path not in then or path not in stage.deps:
                yield Verdict(stage.name, path, "other inputs", "dvc.yaml has other dependencies now")
            elif self._differs(path, then[path]):
                is_code = path.startswith((CODE, "src/"))
                state = "other code" if is_code else "other inputs"
                yield Verdict(stage.name, path, state, "it ran with another version of this")
        if stage.name.partition("@")[0] != "code" and f"{CODE}{stage.name.partition('@')[0]}.txt" in stage.deps:
            yield from self._code(stage)

    def _differs(self, path: str, then: str | None) -> bool:
        """Whether an input is another one than at the run; what is damaged or absent is told where it was written."""
        if path in self.outs:
            return self.outs[path].md5 != then
        makers: list[Output] = self.recorded.touching(path)
        if any(out.path in self.changed or out.path not in self.present for out in makers):
            return False
        return self._hash(path) not in (then, None)

    def _hash(self, path: str) -> str | None:
        """Of a file or folder as it stands; None where it is absent."""
        place = self.paths.root / path
        if not place.is_dir():
            return hashes.of_files([place]).get(place)
        hashed = hashes.of_files(list(Ignored(self.paths.root).walk(place)), f"checking {path}")
        return hashes.of_listing({file.relative_to(place).as_posix(): md5 for file, md5 in hashed.items()})

    def _source(self) -> Iterator[Verdict]:
        """What the source holds now, of which nothing is remembered; one that cannot be reached is taken as it was."""
        try:
            recorded = files.read_json(self.paths.source)
        except (DataError, MissingError, OSError):
            return  # it is absent or damaged, which is told of the stage's outputs
        if not isinstance(recorded, dict):
            return
        with tempfile.TemporaryDirectory() as folder:
            locations = Locations(self.paths.home, Path(folder, "hashes.json"), [])
            try:
                now = recording.describe(config.read(self.paths.params).data, recorded, locations, lambda line: None)
            except DataError as error:
                yield Verdict("source", "data.source", "source changed", error.headline)
                return
        if now != recorded:
            yield Verdict(
                "source", "data.source", "source changed", "it holds other data than data/source.json records"
            )

    def _code(self, stage: Stage) -> Iterator[Verdict]:
        """The fingerprint against the code that would run now."""
        name = stage.name.partition("@")[0]
        try:
            code.check(name, self.paths.code, in_repository=self.paths.has_code)
        except XraylabError as error:
            yield Verdict(stage.name, f"{CODE}{name}.txt", "other code", error.headline)


def as_rows(verdicts: list[Verdict]) -> list[dict[str, str]]:
    """For --json."""
    return [
        {"stage": each.stage, "path": each.path, "state": each.state, "level": each.level, "text": each.text}
        for each in verdicts
    ]
