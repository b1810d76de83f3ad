"""Saved states of a run on disk: the files of its last epochs with their SHA-256, so that damage is noticed.

The manifest is written last, so a state that it does not name was not finished. Two generations are kept: where a file
of the newest is damaged or absent, the run goes on from the epoch before.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xraylab import files
from xraylab.errors import XraylabError

MANIFEST, DEVICES = "state.json", "devices.json"
KEPT = 2


@dataclass(frozen=True)
class Generation:
    """The files of a run after an epoch, counted from 0."""

    epoch: int
    files: dict[str, str]
    """Name -> SHA-256."""


def newest(folder: Path) -> Generation | None:
    """The last finished generation; None before the first. Errors: DataError where the manifest cannot be read."""
    generations = _read(folder) if (folder / MANIFEST).is_file() else []
    return generations[-1] if generations else None


def commit(folder: Path, epoch: int, names: Iterable[str]) -> None:
    """Make the files of these names, which are written, the newest generation; remove what no generation needs."""
    earlier = _read(folder) if (folder / MANIFEST).is_file() else []
    known = {name: sha256 for each in earlier for name, sha256 in each.files.items()}
    hashes = {name: known.get(name) or files.sha256(folder / name) for name in names}
    _keep(folder, [*earlier, Generation(epoch, hashes)][-KEPT:])


def discard_damaged(folder: Path) -> str | None:
    """Remove what is damaged, and what no whole generation needs; say what was lost, or None.

    Without any whole generation the run begins anew.
    """
    if not folder.is_dir():
        return None
    problem, generations = None, list[Generation]()
    if (folder / MANIFEST).exists():
        try:
            generations = _read(folder)
        except (XraylabError, OSError):
            problem = f"{MANIFEST} is damaged"
    elif any(folder.glob("state-*.pt")):
        problem = f"{MANIFEST} is absent"
    whole = [each for each in generations if not _damage(folder, each)]
    if generations and generations[-1] not in whole:
        problem = _damage(folder, generations[-1])
    _keep(folder, whole)
    if problem is None:
        return None
    resumed = f"goes on after epoch {whole[-1].epoch + 1}" if whole else "begins anew"
    return f"{problem} in .xraylab/runs/{folder.name}: the run {resumed}"


def problem(folder: Path, contents: bool) -> str | None:
    """What is wrong with the newest generation, in words, and nothing is removed; `contents`: also hash every file.

    Errors: DataError where the manifest cannot be read.
    """
    latest = newest(folder)
    if latest is None:
        return None
    absent = [name for name in latest.files if not (folder / name).is_file()]
    return f"{absent[0]} is absent" if absent else _damage(folder, latest) if contents else None


def _read(folder: Path) -> list[Generation]:
    """From the oldest on. Errors: DataError where the manifest is none."""
    path = folder / MANIFEST

    def parse(text: str) -> list[Generation]:
        try:
            record = json.loads(text)
            if record["sha256"] != _sha256(record["generations"]):
                raise ValueError("its own SHA-256 is another")
            return [Generation(each["epoch"], each["files"]) for each in record["generations"]]
        except (KeyError, TypeError) as error:
            raise ValueError("it lists no generations") from error

    return files.read(path, lambda file: parse(file.read()))


def _sha256(records: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(records).encode()).hexdigest()


def _damage(folder: Path, generation: Generation) -> str | None:
    """The first file that is not what it was, in words."""
    for name, sha256 in generation.files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is absent"
        if files.sha256(path) != sha256:
            return f"{name} is damaged"
    return None


def _keep(folder: Path, generations: list[Generation]) -> None:
    """Write the manifest of these alone, then remove what they do not need."""
    manifest = folder / MANIFEST
    if generations:
        records = [asdict(each) for each in generations]
        files.write_json({"generations": records, "sha256": _sha256(records)}, manifest)
    elif manifest.exists():
        _remove(manifest)
    needed = {MANIFEST, DEVICES}.union(*(each.files for each in generations))
    for path in folder.iterdir():
        if path.name not in needed:
            _remove(path)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
