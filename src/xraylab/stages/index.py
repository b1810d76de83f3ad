"""index: one row per image, and what is wrong with files, labels and patients."""

from pathlib import Path

from xraylab import files, tables
from xraylab.data import shard_store
from xraylab.data.audit import audit
from xraylab.data.index import Reading
from xraylab.data.layouts import multi_source
from xraylab.data.layouts.records import Dataset
from xraylab.data.shard_store import ShardStore
from xraylab.errors import DataError
from xraylab.params.config import Params
from xraylab.params.data import Data
from xraylab.paths import Paths
from xraylab.shards import Part


def run(params: Params, paths: Paths) -> None:
    dataset = _read(params.data, paths.raw)
    store = ShardStore(paths.shards / "index", prune=paths.home == paths.root)
    audited = audit.audit(paths.raw, dataset, paths.salt(), params.data.keep_names, store)
    if audited.unreadable and params.data.on_bad_image == "fail":
        raise DataError(
            f"{len(audited.unreadable)} of {len(dataset.table)} images cannot be read; mend or remove them in the "
            "source, or set data.on_bad_image to skip:",
            audited.unreadable,
        )
    tables.write(audited.index, paths.index)
    tables.write(audited.near, paths.near_duplicates)
    files.write_json(audited.record.to_json(), paths.audit)
    for line in audit.lines(audited.record):
        print(line)


def run_part(params: Params, paths: Paths, part: Part) -> None:
    """Read a part of the images, and leave what they hold where `run` looks for it."""
    names = list(_read(params.data, paths.raw).table["path"])
    reading = Reading(paths.raw, names, paths.salt(), params.data.keep_names)
    shard_store.write_part(reading, ShardStore(paths.shards / "index"), len(names), part)


def _read(data: Data, raw: Path) -> Dataset:
    if configs := multi_source.source_configs(data):
        return multi_source.read({name: raw / name for name in configs}, configs, data.classes)
    return multi_source.read_one(raw, data)
