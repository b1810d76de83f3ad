"""Predictions of runs that are trained and not yet predicted, made by the first stage `predict` for those to come.

Each stage of DVC is a process, and importing torch takes longer than scoring a small study's images. So the first one
also predicts for the runs whose own stage is still to come, and keeps the tables under a name that says what they were
made from; such a stage then takes its table, if nothing has changed, and imports no torch. Nothing here needs torch.
"""

import shutil
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from xraylab import dvc_lock, files, progress, shards, tables
from xraylab.params.config import Params
from xraylab.paths import Paths

WEIGHTS = ("best.safetensors", "last.safetensors")
LIBRARIES = ("torch", "numpy", "opencv-python-headless")


def path(cfg: Params, paths: Paths, experiment: str, repeat: int) -> Path:
    """The path of predictions made ahead for a run.

    The name is a hash of its weights, the images and their splits, the parameters, the code and the libraries.
    """
    folder, split = paths.model(experiment, repeat), paths.split_of(repeat)
    inputs = [folder / "model.json", *(folder / name for name in WEIGHTS if (folder / name).is_file())]
    inputs += [split / "valid_data.csv", split / "test_data.csv", paths.cache / "rows.csv"]
    images = [(paths.cache / name).stat() for name in shards.files_of(paths.cache)]
    facts = [*map(files.sha256, inputs), *_code(), *map(version, LIBRARIES), cfg.predict.model_dump_json()]
    facts += [text for each in images for text in (str(each.st_size), str(each.st_mtime_ns))]
    return paths.predicted_ahead / f"{experiment}-{repeat}-{sha256(' '.join(facts).encode()).hexdigest()[:16]}.csv"


def waiting(cfg: Params, paths: Paths, experiment: str, repeat: int) -> Iterator[tuple[str, int]]:
    """The other runs whose weights are not those that their predictions were made from, as dvc.lock has it."""
    stages = dvc_lock.entries(paths.lock)
    for name, number in ((name, number) for name in cfg.experiments for number in cfg.study.repeats):
        if (name, number) == (experiment, repeat) or not (paths.model(name, number) / "model.json").is_file():
            continue
        folder = paths.model(name, number).relative_to(paths.root).as_posix()
        trained = _hash(stages, f"train@{name}-{number}", "outs", folder)
        predicted = _hash(stages, f"predict@{name}-{number}", "deps", folder)
        if trained is not None and trained != predicted:
            yield name, number


def _hash(stages: dict[str, Any], stage: str, kind: str, path: str) -> str | None:
    entries = stages.get(stage, {}).get(kind) or []
    return next((entry.get("md5") for entry in entries if entry["path"] == path), None)


def keep(predictions: pd.DataFrame, path: Path) -> None:
    """Write predictions for a stage that is still to come."""
    tables.write(predictions, path)
    files.write_checksum(path)


def take(path: Path, target: Path) -> bool:
    """Move predictions that were made ahead to where they belong; whether there were any that `keep` wrote so."""
    whole, present = files.checked_sha256(path) is not None, path.is_file()
    if whole:
        with files.replacing(target) as temporary:
            shutil.copyfile(path, temporary)
    elif present:
        progress.say(f"{path} is damaged, or was not written whole, and is made anew")
    for each in (path, path.with_suffix(files.CHECKSUM)):
        each.unlink(missing_ok=True)
    return whole


def forget(paths: Paths, experiment: str, repeat: int) -> None:
    """Remove what was made ahead for a run from weights, images or code that are no longer so."""
    for end in (".csv", files.CHECKSUM):
        for path in paths.predicted_ahead.glob(f"{experiment}-{repeat}-*{end}"):
            path.unlink()


def _code() -> list[str]:
    return [files.sha256(path) for path in sorted(Path(files.__file__).parent.rglob("*.py"))]
