"""fetch: bring the source's files to data/raw, where DVC versions them."""

from xraylab import files
from xraylab.data import demo, sources
from xraylab.params import Params
from xraylab.paths import Paths


def run(params: Params, paths: Paths) -> None:
    """What was downloaded stays in `.xraylab/downloads`, so that a second time needs no network."""
    with files.replacing_folder(paths.raw) as raw:
        if params.data.source == "demo":
            demo.write(raw, **params.data.demo.model_dump())
        else:
            source = sources.placed(params.data.source, paths.home, params.data.sha256)
            sources.copy(source, raw, paths.state / "downloads")
