"""fetch: bring the source's files to data/raw, where DVC versions them."""

from pathlib import Path

from xraylab import demo, files
from xraylab.data import sources
from xraylab.data.sources import recording
from xraylab.errors import speaking_of
from xraylab.params.config import Params
from xraylab.params.data import Data
from xraylab.paths import Paths


def run(params: Params, paths: Paths) -> None:
    """What was downloaded stays in `.xraylab/downloads`, so that a second time needs no network.

    Errors: DataError where the source is not what data/source.json describes; data/raw stays as it was.
    """
    data, recorded = params.data, files.read_json(paths.source)
    with files.replacing_folder(paths.raw) as raw:
        if isinstance(data.source, str):
            _fetch(data.source, data.sha256, raw, recorded, data, paths)
        for where, each in data.sources.items():
            (raw / each.name).mkdir()
            with speaking_of(where):
                described = recorded.get("sources", {}).get(each.name, {})
                _fetch(each.path, each.sha256, raw / each.name, described, data, paths)


def _fetch(address: str, sha256: str | None, raw: Path, recorded: recording.Record, data: Data, paths: Paths) -> None:
    if address == "demo":
        source = None
        demo.write(raw, **data.demo.model_dump())
        copied = recording.describe_demo(data.demo)
    else:
        source = sources.locate(address, paths.home, sha256)
        copied = sources.copy(source, raw, paths.state / "downloads")
    recording.require_recorded(recorded, copied, source, paths.state / "hashes.json")
