"""index: one row per image, and what is wrong with files, labels and patients."""

from pathlib import Path

from xraylab import files, tables
from xraylab.data import layouts
from xraylab.data.audit import folder
from xraylab.data.layouts import multi_source
from xraylab.errors import DataError
from xraylab.params.config import Params
from xraylab.params.data import Data
from xraylab.paths import Paths


def run(params: Params, paths: Paths) -> None:
    data = params.data
    found = _found(data, paths.raw)
    audited = folder.look(paths.raw, found, paths.salt(), data.keep_names)
    if audited.unreadable and data.on_bad_image == "fail":
        raise DataError(
            f"{len(audited.unreadable)} of {len(found.table)} images cannot be read; mend or remove them in the "
            "source, or set data.on_bad_image to skip:",
            audited.unreadable,
        )
    tables.write(audited.index, paths.index)
    tables.write(audited.near, paths.near_duplicates)
    files.write_json(audited.record, paths.audit)
    for line in folder.lines(audited.record):
        print(line)


def _found(data: Data, raw: Path) -> layouts.Dataset:
    how = multi_source.source_configs(data)
    if how:
        return multi_source.read({name: raw / name for name in how}, how, data.classes)
    tables = layouts.TableConfig.of(data.table, data.columns)
    return layouts.read(raw, data.layout, data.classes, data.labels, data.patient, tables)
