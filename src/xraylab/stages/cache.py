"""cache: decode and prepare every image once."""

from xraylab import files, shards, tables
from xraylab.data import cache, shard_store
from xraylab.data.cache import Decoding
from xraylab.data.prepare import Preparation
from xraylab.data.shard_store import ShardStore
from xraylab.params.config import Params
from xraylab.paths import Paths


def run(params: Params, paths: Paths) -> None:
    """Write data/cache: one array, or shards of more than `shards.SHARD` images, the finished ones of which remain."""
    decoding, store = _decoding(params, paths), ShardStore(paths.shards / "cache", prune=paths.home == paths.root)
    count = len(decoding.index)
    if count <= shards.SHARD:
        files.require_room(paths.cache.parent, count * decoding.size**2, f"the cache of {count} images")
        with files.replacing_folder(paths.cache) as folder:
            cache.write(folder, decoding)
        return
    with files.replacing_folder(paths.cache) as folder:
        cache.write_shards(folder, decoding, store)


def run_part(params: Params, paths: Paths, part: shards.Part) -> None:
    """Make a part of the shards, and leave them where `run` looks for them."""
    decoding = _decoding(params, paths)
    shard_store.write_part(decoding, ShardStore(paths.shards / "cache"), len(decoding.index), part)


def _decoding(params: Params, paths: Paths) -> Decoding:
    images = params.images
    preparation = Preparation.recorded(images.model_dump())
    return Decoding(paths.raw, tables.read(paths.index), images.size, images.resize_method, preparation)
