"""cache: decode and prepare every image once."""

from xraylab import files, tables
from xraylab.data import cache
from xraylab.data.prepare import Preparation
from xraylab.params.config import Params
from xraylab.paths import Paths


def run(params: Params, paths: Paths) -> None:
    index = tables.read(paths.index)
    images = params.images
    preparation = Preparation.recorded(images.model_dump())
    size = len(index) * images.size**2
    files.require_room(paths.cache.parent, size, f"the cache of {len(index)} images")
    with files.replacing_folder(paths.cache) as folder:
        cache.write(folder, paths.raw, index, images.size, images.resize_method, preparation)
