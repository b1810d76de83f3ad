"""source: note what the data source holds now, so that a change behind an unchanged name is seen."""

from xraylab import files
from xraylab.data import sources
from xraylab.params import Params
from xraylab.paths import Paths


def run(params: Params, paths: Paths) -> None:
    """Write data/source.json. Where the source is not on this machine, keep the one that git holds for it."""
    if params.data.source == "demo":
        files.write_json({"kind": "demo", **params.data.demo.model_dump()}, paths.source)
        return
    source = paths.from_home(params.data.source)
    if not source.exists() and _recorded_name(paths) == source.name:
        print(f"warning: {source} is not on this machine; going on with the version in {paths.source.name}")
        return
    files.write_json(sources.describe(source, paths.state / "hashes.json"), paths.source)


def _recorded_name(paths: Paths) -> str | None:
    return files.read_json(paths.source).get("name") if paths.source.exists() else None
