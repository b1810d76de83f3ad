"""Describe the sources for data/source.json, after checking that their content fits the study."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xraylab import files
from xraylab.data import layouts, sources
from xraylab.data.layouts import multi_source
from xraylab.data.sources import archives, local
from xraylab.data.sources.members import MAX_NAMED
from xraylab.errors import DataError, speaking_of
from xraylab.params.data import Data, Demo
from xraylab.task import is_multi

Record = dict[str, Any]
Warn = Callable[[str], None]


@dataclass(frozen=True)
class Locations:
    """Locations in a study: its home, the cache of file hashes, and the folders that its stages write."""

    home: Path
    hash_cache: Path
    written: list[Path]

    def refuse_own_files(self, key: str, what: str, source: Path) -> None:
        """Errors: DataError where `source` is written by the stages, which make it anew, and cannot be what they read.

        Before DVC deletes it.
        """
        path = source.resolve()
        for folder in (each.resolve() for each in self.written):
            if path.is_relative_to(folder) or folder.is_relative_to(path):
                raise DataError(
                    f"{key}: {source} and {folder}, which the study itself writes, lie one in the other: "
                    f"keep the {what} in a folder of their own"
                )


def read(path: Path) -> Record:
    """data/source.json; empty where there is none. Errors: DataError where it describes nothing."""
    recorded = files.read_json(path) if path.exists() else {}
    each = recorded.get("sources", {}) if isinstance(recorded, dict) else None
    if not isinstance(each, dict) or not all(isinstance(one, dict) for one in each.values()):
        raise DataError(f"{path} describes no source: `git checkout {path}` brings it back, or remove it")
    return recorded


def describe(data: Data, recorded: Record, locations: Locations, warn: Warn) -> Record:
    """Describe the source, or each of several; `recorded` is the previous description.

    `warn` is told of a source that cannot be reached, of which the recorded version stays.

    Errors: DataError for a source that is refused, or whose classes, labels, tables and patients do not fit.
    """
    if not isinstance(data.source, str):
        return {"kind": "several", "sources": _describe_each(data, recorded.get("sources", {}), locations, warn)}
    source = _locate(data.source, data.sha256, locations)
    is_archive = isinstance(source, Path) and archives.kind(source.name)
    if isinstance(source, Path) and not is_archive:
        _refuse_unfit(data, source)
    described = _describe(source, data, recorded, locations, warn)
    if isinstance(source, Path) and is_archive and described != recorded:
        _refuse_unfit(data, source)  # an unchanged archive was unpacked already, and `index` looks at that
    return described


def require_recorded(recorded: Record, copied: Record, source: Path | sources.Address | None, hash_cache: Path) -> None:
    """Errors: DataError where `copied`, the description of what was copied, is not what data/source.json describes."""
    if json.loads(json.dumps(copied)) == recorded:
        return
    changes = local.changes(source, hash_cache) if isinstance(source, Path) else []
    hash_cache.unlink(missing_ok=True)  # it may have the hash of a file that changed and kept its size and time
    name = source.url if isinstance(source, sources.Address) else source or "demo"
    raise DataError(
        f"data.source: {name} is not what data/source.json describes: it changed since the stage source, or while it "
        "was copied; when nothing writes to it any more, run `dvc repro --force source`, then `dvc repro`",
        changes[:MAX_NAMED],
    )


def describe_demo(demo: Demo) -> Record:
    """Describe the demo by its parameters."""
    exclude = None if is_multi(demo.task) else {"task"}  # as it was recorded before there were two
    return {"kind": "demo", **demo.model_dump(exclude=exclude)}


def _describe_each(data: Data, recorded: Record, locations: Locations, warn: Warn) -> Record:
    """Name -> what that source of the list holds now, after a look whether its labels fit the classes."""
    described: Record = {}
    datasets: dict[str, layouts.Dataset] = {}
    configs = multi_source.source_configs(data)
    for key, each in data.sources.items():
        with speaking_of(key):
            source = _locate(each.path, each.sha256, locations)
        if isinstance(source, Path):
            with sources.previewed(source) as folder:
                if folder:
                    datasets[each.name] = multi_source.read_source(folder, configs[each.name], data.classes)
        with speaking_of(key):
            described[each.name] = _describe(source, data, recorded.get(each.name, {}), locations, warn)
    if len(datasets) == len(configs):
        multi_source.refuse_absent_classes(datasets, data.classes)
    return described


def _locate(address: str, sha256: str | None, locations: Locations) -> Path | sources.Address | None:
    """The source's path or address, None for the demo."""
    if address == "demo":
        return None
    source = sources.locate(address, locations.home, sha256)
    if isinstance(source, Path):
        locations.refuse_own_files("data.source", "images", source)
    return source


def _describe(
    source: Path | sources.Address | None, data: Data, recorded: Record, locations: Locations, warn: Warn
) -> Record:
    """Describe one source; the previous description where this machine cannot reach it."""
    if source is None:
        return describe_demo(data.demo)
    try:
        return sources.describe(source, locations.hash_cache)
    except sources.UnreachableError as error:
        if recorded.get("name") != error.name:
            raise
        warn(f"warning: {error.what}; going on with the version in source.json")
        return recorded


def _refuse_unfit(data: Data, source: Path) -> None:
    """Classes, labels, tables and patients that do not fit the source, before anything of it is copied."""
    with sources.previewed(source) as folder:
        if folder:
            multi_source.read_one(folder, data)
