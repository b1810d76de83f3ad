"""fetch: bring the source's files to data/raw, where DVC versions them."""

from xraylab import files
from xraylab.data import demo, sources
from xraylab.params import Params
from xraylab.paths import Paths


def run(params: Params, paths: Paths) -> None:
    with files.replacing_folder(paths.raw) as raw:
        if params.data.source == "demo":
            demo.write(raw, **params.data.demo.model_dump())
        else:
            sources.copy(paths.from_home(params.data.source), raw)
