"""source: note what the source and the lists of a split hold now, so that a change behind an unchanged name is seen."""

from pathlib import Path

from xraylab import files
from xraylab.data import layouts, sources
from xraylab.data.split import listed
from xraylab.errors import DataError
from xraylab.params import Data, Params
from xraylab.paths import Paths
from xraylab.studies import watch


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
    if params.data.source == "demo":
        files.write_json({"kind": "demo", **params.data.demo.model_dump()}, paths.source)
        return
    source = sources.placed(params.data.source, paths.home, params.data.sha256)
    if isinstance(source, Path):
        _refuse_own_files("data.source", "images", source, paths)
        _refuse_unfit(params.data, source)
    try:
        described = sources.describe(source, paths.state / "hashes.json")
    except sources.UnreachableError as error:
        if _recorded_name(paths) != error.name:
            raise
        print(f"warning: {error.what}; going on with the version in {paths.source.name}")
        return
    files.write_json(described, paths.source)


def _refuse_unfit(data: Data, source: Path) -> None:
    """Classes, labels, tables and patients that do not fit the source, before anything of it is copied."""
    tables = layouts.Tables.of(data.table, data.columns)
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
    written = [paths.raw, paths.cache, paths.split, paths.plans, paths.models, paths.predictions, paths.reports]
    for folder in (each.resolve() for each in written):
        if place.is_relative_to(folder) or folder.is_relative_to(place):
            raise DataError(
                f"{key}: {source} and {folder}, which the study itself writes, lie one in the other: "
                f"keep the {what} in a folder of their own"
            )


def _recorded_name(paths: Paths) -> str | None:
    return files.read_json(paths.source).get("name") if paths.source.exists() else None
