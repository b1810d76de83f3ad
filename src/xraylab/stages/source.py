"""source: note what the source and the lists of a split hold now, so that a change behind an unchanged name is seen."""

from xraylab import files
from xraylab.data.sources import recording
from xraylab.data.sources.recording import Locations
from xraylab.data.split import lists
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.studies import watch


def run(params: Params, paths: Paths) -> None:
    """Write data/source.json and data/given_splits.csv.

    What is not on this machine stays as git holds it.
    """
    for folder in (paths.search, paths.external):  # the report depends on them, also where there is nothing in them
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitkeep").touch()
    written = [paths.raw, paths.cache, paths.split, paths.configs, paths.models, paths.run_metrics, paths.predictions]
    locations = Locations(paths.home, paths.state / "hashes.json", [*written, paths.reports])
    files.write_json(recording.describe(params.data, recording.read(paths.source), locations, print), paths.source)
    _record_lists(params.split.files, paths, locations)
    for unwatched in watch.missing(params, paths.root, paths.home):
        print(
            f"warning: DVC does not watch {unwatched} of params.yaml: run `xraylab track-source`, or a change goes "
            "unnoticed"
        )


def _record_lists(name: str | None, paths: Paths, locations: Locations) -> None:
    """The lists in split.files; without them the header alone, since a stage always has the same outputs."""
    if name is None:
        lists.write_record("id", [], "", paths.given_splits)
        return
    folder = paths.from_home(name)
    locations.refuse_own_files("split.files", "lists", folder)
    if not folder.exists() and lists.recorded_folder(paths.given_splits) == folder.name:
        print(f"warning: {folder} is not on this machine; going on with the lists in {paths.given_splits.name}")
        return
    lists.write_record(*lists.read(folder), folder.name, paths.given_splits)
