"""Refuse what is not what its stage wrote: the inputs of a stage that DVC runs, and what a command reads.

DVC trusts the time and size of a file that it has hashed once; here the contents are hashed anew.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xraylab import files, pipeline
from xraylab.errors import DataError
from xraylab.integrity import hashes, lock
from xraylab.integrity.cache import Cache
from xraylab.integrity.hashes import FOLDER, Ignored
from xraylab.integrity.lock import Lock, Output
from xraylab.paths import Paths, parse_run
from xraylab.pipeline import Stage

STAGE = "DVC_STAGE"
"""In the environment of a stage that DVC runs: its name, after the path of a dvc.yaml in another folder and a colon."""
LISTED = 5
KINDS = {
    "code": "a fingerprint of code",
    "data/source.json": "the record of the source",
    "data/given_splits.csv": "the record of the lists in split.files",
    "data/raw": "a file of the data set",
    "data/index.csv": "the list of images",
    "data/near_duplicates.csv": "the list of near duplicates",
    "data/audit.json": "the audit of the data",
    "data/split": "the assignment of images to splits",
    "data/cache": "decoded images",
    "configs": "an experiment's configuration",
    "features": "features of frozen backbones",
    "models": "a trained run",
    "metrics": "a run's metric",
    "predictions": "a run's predictions",
    "reports": "results",
}


@dataclass(frozen=True)
class Difference:
    """A file, or where nobody knows which one a folder, that is not what its stage wrote.

    `what` is "changed", "absent", or "not written by it".
    """

    path: str
    what: str
    out: Output

    def __str__(self) -> str:
        return f"{self.path} ({_kind(self.path)}): {self.what}"


def require_intact(paths: Paths, stage: str) -> None:
    """Refuse to run a stage whose inputs were damaged or changed since their own stages wrote them.

    `stage` is its command. One that is run by hand, without DVC, is not checked. Errors: DataError.
    """
    name = os.environ.get(STAGE, "").rpartition(":")[2]
    if name.partition("@")[0] != stage:
        return
    stages = lock.stages_of(paths)
    deps = next((each.deps for each in stages if each.name == name), ())
    made = [dep for dep in deps if any(pipeline.touches(dep, out) for each in stages for out in each.outs)]
    if differences := _confirmed(paths, stages, made):
        raise refusal(paths, differences, f"the stage {name} was not run")


def require_run(paths: Paths, name: str, *others: Path) -> None:
    """Refuse a run that is not as it was trained; experiment alone is its repeat 0. `others` of its study are read too.

    One that dvc.lock does not know, such as one that was trained by hand, is not checked. Errors: DataError.
    """
    experiment, repeat = parse_run(name)
    require_outputs(paths, [paths.model(experiment, repeat or 0), *others])


def require_runs(paths: Paths, names: Iterable[str], *others: Path) -> None:
    """The same for several; experiment alone is all of its repeats. Errors: DataError."""
    runs = [(paths.models / experiment, repeat) for experiment, repeat in map(parse_run, names)]
    folders = [folder if repeat is None else folder / str(repeat) for folder, repeat in runs]
    require_outputs(paths, [*folders, *others])


def require_outputs(paths: Paths, selected: Iterable[Path]) -> None:
    """Refuse files and folders of the study that are not what their stages wrote. Errors: DataError."""
    if not paths.lock.exists() or not (paths.root / "dvc.yaml").exists():
        return
    names = [path.relative_to(paths.root).as_posix() for path in selected]
    stages = lock.stages_of(paths)
    if differences := _confirmed(paths, stages, names):
        raise refusal(paths, differences, "nothing was computed from it")


def _confirmed(paths: Paths, stages: list[Stage], names: Sequence[str]) -> list[Difference]:
    """What is not as recorded, when nobody writes dvc.lock any more."""
    recorded = lock.read(paths, stages)
    if any(not recorded.touching(name) for name in names):
        recorded = lock.read_settled(paths, stages)
    differences = different(paths, recorded, names)
    if not differences or (settled := lock.read_settled(paths, stages)) == recorded:
        return differences
    return different(paths, settled, names)


def different(paths: Paths, recorded: Lock, selected: Sequence[str]) -> list[Difference]:
    """What of these paths, relative to the study, is not as recorded; what is wholly absent is none of it."""
    outs = {out.path: out for path in selected for out in recorded.touching(path)}
    on_disk = OutputsOnDisk(paths, [out for out in outs.values() if (paths.root / out.path).exists()], selected)
    return [difference for out in on_disk.outs for difference in on_disk.differences(out)]


class OutputsOnDisk:
    """Outputs as they are on disk, hashed together, beside what was recorded of them."""

    def __init__(self, paths: Paths, outs: Sequence[Output], selected: Sequence[str]) -> None:
        self.root, self.outs, self.cache = paths.root, list(outs), Cache.of(paths)
        ignored = Ignored(paths.root)
        self.recorded = {out.path: self.cache.listing(out.md5) for out in outs if out.md5.endswith(FOLDER)}
        self.present: dict[str, list[Path]] = {}
        for out in outs:
            place = paths.root / out.path
            listed = list(ignored.walk(place)) if place.is_dir() else [place]
            self.present[out.path] = [path for path in listed if self._is_selected(path, out, selected)]
        every = [path for listed in self.present.values() for path in listed]
        self.md5 = hashes.of_files(every, "checking what earlier stages wrote")
        self.selected = selected

    def _is_selected(self, path: Path, out: Output, selected: Sequence[str]) -> bool:
        """Return whether a file of an output must be hashed: of one whose files are known, only the selected ones."""
        if self.recorded.get(out.path) is None:
            return True
        name = path.relative_to(self.root).as_posix()
        return any(pipeline.touches(name, each) for each in selected)

    def differences(self, out: Output) -> list[Difference]:
        place, listing = self.root / out.path, self.recorded.get(out.path)
        now = {path.relative_to(self.root).as_posix(): self.md5.get(path) for path in self.present[out.path]}
        if not out.md5.endswith(FOLDER):
            return [] if now == {out.path: out.md5} else [Difference(out.path, "changed", out)]
        if listing is None:
            inner = {name.removeprefix(f"{out.path}/"): md5 for name, md5 in now.items() if md5}
            same = place.is_dir() and hashes.of_listing(inner) == out.md5
            return [] if same else [Difference(out.path, "changed", out)]
        then = {f"{out.path}/{name}": md5 for name, md5 in listing.items()}
        then = {name: md5 for name, md5 in then.items() if any(pipeline.touches(name, each) for each in self.selected)}
        return [
            Difference(name, _change(then.get(name), now.get(name)), out)
            for name in sorted({*then, *now})
            if then.get(name) != now.get(name)
        ]


def _change(then: str | None, now: str | None) -> str:
    return "not written by it" if then is None else "absent" if now is None else "changed"


def refusal(paths: Paths, differences: Sequence[Difference], consequence: str) -> DataError:
    """Name what is damaged and what to type; DVC is made to look at the files again, whose times it trusts."""
    for difference in differences:
        with suppress(OSError):
            if (paths.root / difference.path).is_file():
                files.touch(paths.root / difference.path)
    first = differences[0]
    lines = [str(each) for each in differences[1 : LISTED + 1]]
    lines += [f"and {len(differences) - LISTED - 1} more"] if len(differences) > LISTED + 1 else []
    described = {"changed": "was damaged or changed", "absent": "is gone"}.get(first.what, "was added")
    return DataError(
        f"{first.path} ({_kind(first.path)}) {described} since the stage {first.out.stage} wrote {first.out.path}; "
        f"{consequence}. {_advice(paths, differences)}",
        lines,
    )


def _advice(paths: Paths, differences: Sequence[Difference]) -> str:
    outs = {difference.out.path: difference.out for difference in differences}
    places = " ".join(outs)
    anew = f"`dvc repro {' '.join(dict.fromkeys(out.stage for out in outs.values()))}`"
    if not any(out.cached for out in outs.values()):
        return f"`git checkout {places}` brings it back, {anew} makes it anew"
    if all(Cache.of(paths).is_whole(out) for out in outs.values()):
        return f"`dvc checkout --force {places}` brings it back, {anew} makes it anew"
    return (
        f"`xraylab doctor --deep` looks for what DVC's cache holds of it; then `dvc fetch` and `dvc checkout --force "
        f"{places}` bring it back from a remote, and `dvc repro` makes it anew"
    )


def _kind(path: str) -> str:
    return next((kind for start, kind in KINDS.items() if pipeline.touches(path, start)), "an output")
