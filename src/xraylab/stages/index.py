"""index: one row per image, and what is wrong with the files."""

import pandas as pd

from xraylab import files, tables
from xraylab.data import index, layout
from xraylab.params import Params
from xraylab.paths import Paths


def run(params: Params, paths: Paths) -> None:
    classes = params.data.classes
    found = layout.find(paths.raw, classes)
    top = layout.top_folder(paths.raw, classes)
    patients, known_by = layout.patients(found, top, params.data.patient)
    measured = index.measure(paths.raw, list(found["path"]))
    table = pd.concat([found.assign(patient=patients), measured], axis=1)
    duplicates = index.duplicates(table)
    audit = {
        "images": len(table),
        "patients": known_by,
        "duplicates": duplicates,
        "unused_folders": [name for name in layout.folders_of(top) if name not in classes],
    }
    tables.write(table, paths.index)
    files.write_json(audit, paths.audit)
    print(f"{len(table)} images of {len(classes)} classes; patients: {known_by}")
    if duplicates:
        print(f"warning: {len(duplicates)} groups of images have identical pixels; see {paths.audit.name}")
