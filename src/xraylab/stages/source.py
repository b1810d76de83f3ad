"""source: note what the source and the lists of a split hold now, so that a change behind an unchanged name is seen."""

from pathlib import Path
from typing import Any

from xraylab import files
from xraylab.data import layouts, sources
from xraylab.data.layouts import multi_source
from xraylab.data.sources import archives
from xraylab.data.split import listed
from xraylab.errors import DataError, speaking_of
from xraylab.params.config import Params
from xraylab.params.data import Data
from xraylab.paths import Paths
from xraylab.studies import watch

Record = dict[str, Any]


def run(params: Params, paths: Paths) -> None:
    """Write data/source.json and data/sides.csv.

    What is not on this machine stays as git holds it.
    """
    for folder in (paths.search, paths.external):  # the report depends on them, also where there is nothing in them
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitkeep").touch()
    _note_source(params, paths)
    _note_sides(params.split.files, paths)
    for unwatched in watch.missing(params, paths.root, paths.home):
        print(
            f"warning: DVC does not watch {unwatched} of params.yaml: run `xraylab watch`, or a change goes unnoticed"
        )


def _note_source(params: Params, paths: Paths) -> None:
    data, recorded = params.data, files.read_json(paths.source) if paths.source.exists() else {}
    if isinstance(data.source, str):
        placed = _placed(data.source, data.sha256, paths)
        packed = isinstance(placed, Path) and archives.kind(placed.name)
        if isinstance(placed, Path) and not packed:
            _refuse_unfit(data, placed)
        described = _described(placed, data, recorded, paths)
        if isinstance(placed, Path) and packed and described != recorded:
            _refuse_unfit(data, placed)  # an unchanged archive was unpacked already, and `index` looks at that
    else:
        described = {"kind": "several", "sources": _each(data, recorded.get("sources", {}), paths)}
    files.write_json(described, paths.source)


def _each(data: Data, recorded: Record, paths: Paths) -> Record:
    """Name -> what that source of the list holds now, after a look whether its labels fit the classes."""
    described: Record = {}
    found: dict[str, layouts.Dataset] = {}
    how = multi_source.source_configs(data)
    for where, each in data.sources.items():
        with speaking_of(where):
            placed = _placed(each.path, each.sha256, paths)
        if isinstance(placed, Path):
            with sources.looked_at(placed) as folder:
                found |= {each.name: multi_source.read_source(folder, how[each.name], data.classes)} if folder else {}
        with speaking_of(where):
            described[each.name] = _described(placed, data, recorded.get(each.name, {}), paths)
    if len(found) == len(how):
        multi_source.refuse_absent_classes(found, data.classes)
    return described


def _placed(address: str, sha256: str | None, paths: Paths) -> Path | sources.Address | None:
    """The source's place, None for the demo."""
    if address == "demo":
        return None
    placed = sources.placed(address, paths.home, sha256)
    if isinstance(placed, Path):
        _refuse_own_files("data.source", "images", placed, paths)
    return placed


def _described(source: Path | sources.Address | None, data: Data, recorded: Record, paths: Paths) -> Record:
    """What the source holds now; what was recorded of it, where it cannot be reached from this machine."""
    if source is None:
        return {"kind": "demo", **data.demo.model_dump()}
    try:
        return sources.describe(source, paths.state / "hashes.json")
    except sources.UnreachableError as error:
        if recorded.get("name") != error.name:
            raise
        print(f"warning: {error.what}; going on with the version in {paths.source.name}")
        return recorded


def _refuse_unfit(data: Data, source: Path) -> None:
    """Classes, labels, tables and patients that do not fit the source, before anything of it is copied."""
    tables = layouts.TableConfig.of(data.table, data.columns)
    with sources.looked_at(source) as folder:
        if folder:
            layouts.read(folder, data.layout, data.classes, data.labels, data.patient, tables)


def _note_sides(name: str | None, paths: Paths) -> None:
    """The lists in split.files; without them the header alone, since a stage always has the same outputs."""
    if name is None:
        listed.note("id", [], "", paths.sides)
        return
    folder = paths.from_home(name)
    _refuse_own_files("split.files", "lists", folder, paths)
    if not folder.exists() and listed.noted_folder(paths.sides) == folder.name:
        print(f"warning: {folder} is not on this machine; going on with the lists in {paths.sides.name}")
        return
    listed.note(*listed.read(folder), folder.name, paths.sides)


def _refuse_own_files(key: str, what: str, source: Path, paths: Paths) -> None:
    """Before DVC deletes them: what the stages write is made anew, and cannot be what they read."""
    place = source.resolve()
    written = [paths.raw, paths.cache, paths.split, paths.plans, paths.models, paths.run_metrics, paths.predictions]
    written.append(paths.reports)
    for folder in (each.resolve() for each in written):
        if place.is_relative_to(folder) or folder.is_relative_to(place):
            raise DataError(
                f"{key}: {source} and {folder}, which the study itself writes, lie one in the other: "
                f"keep the {what} in a folder of their own"
            )
