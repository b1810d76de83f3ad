"""source: note what the data source holds now, so that a change behind an unchanged name is seen."""

from pathlib import Path

from xraylab import files
from xraylab.data import sources
from xraylab.errors import DataError
from xraylab.params import Params
from xraylab.paths import Paths


def run(params: Params, paths: Paths) -> None:
    """Write data/source.json. Where the source is not on this machine, keep the one that git holds for it."""
    if params.data.source == "demo":
        files.write_json({"kind": "demo", **params.data.demo.model_dump()}, paths.source)
        return
    source = paths.from_home(params.data.source)
    _refuse_own_files(source, paths)
    if not source.exists() and _recorded_name(paths) == source.name:
        print(f"warning: {source} is not on this machine; going on with the version in {paths.source.name}")
        return
    files.write_json(sources.describe(source, paths.state / "hashes.json"), paths.source)


def _refuse_own_files(source: Path, paths: Paths) -> None:
    """Before DVC deletes them: what the stages write is made anew, and cannot be what they read."""
    place = source.resolve()
    written = [paths.raw, paths.cache, paths.split, paths.plans, paths.models, paths.predictions, paths.reports]
    for folder in (each.resolve() for each in written):
        if place.is_relative_to(folder) or folder.is_relative_to(place):
            raise DataError(
                f"data.source: {source} and {folder}, which the study itself writes, lie one in the other: "
                "keep the images in a folder of their own"
            )


def _recorded_name(paths: Paths) -> str | None:
    return files.read_json(paths.source).get("name") if paths.source.exists() else None
