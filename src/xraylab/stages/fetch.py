"""fetch: bring the source's files to data/raw, where DVC versions them."""

from pathlib import Path

from xraylab import demo, files
from xraylab.data import sources
from xraylab.errors import speaking_of
from xraylab.params.config import Params
from xraylab.params.data import Demo
from xraylab.paths import Paths


def run(params: Params, paths: Paths) -> None:
    """What was downloaded stays in `.xraylab/downloads`, so that a second time needs no network."""
    data = params.data
    with files.replacing_folder(paths.raw) as raw:
        if isinstance(data.source, str):
            _fetch(data.source, data.sha256, raw, data.demo, paths)
        for where, each in data.sources.items():
            (raw / each.name).mkdir()
            with speaking_of(where):
                _fetch(each.path, each.sha256, raw / each.name, data.demo, paths)


def _fetch(address: str, sha256: str | None, raw: Path, cfg: Demo, paths: Paths) -> None:
    if address == "demo":
        demo.write(raw, **cfg.model_dump())
    else:
        sources.copy(sources.locate(address, paths.home, sha256), raw, paths.state / "downloads")
