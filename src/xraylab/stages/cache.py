"""cache: decode every image once."""

from xraylab import files, tables
from xraylab.data import cache
from xraylab.params import Params
from xraylab.paths import Paths


def run(params: Params, paths: Paths) -> None:
    index = tables.read(paths.index)
    with files.replacing_folder(paths.cache) as folder:
        cache.write(folder, paths.raw, index, params.images.pixels, params.images.fit)
