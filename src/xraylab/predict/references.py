"""The references of finished runs, computed once from the study's images."""

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open
from safetensors.numpy import save_file

from xraylab import files, progress, shards, tables
from xraylab.data.image_cache import SCORING_BATCH
from xraylab.inference import appearance
from xraylab.inference.appearance import Appearance, Measurements
from xraylab.inference.classifier import Classifier
from xraylab.inference.copies import SeenHashes
from xraylab.inference.reference import Reference
from xraylab.inference.warnings import Expected
from xraylab.paths import Paths, parse_run
from xraylab.shards import Images

MOST = 5000
"""Images of a split, evenly spread over it, that distances are computed from."""
MOST_HEADERS = 200
COMMON = 0.01  # the share of training images of which a fact is said, so that it is one of theirs and no mistake
RECORD = "xraylab.reference"
CODE = (
    "data/audit/hashes.py",
    "data/lungs.py",
    "inference/appearance.py",
    "inference/copies.py",
    "inference/distances.py",
    "inference/reference.py",
    "predict/references.py",
)


def of_run(paths: Paths, name: str, classifier: Classifier) -> Reference | None:
    """The reference of experiment/repeat, kept below `.xraylab/reference/`; None where the study's images are not here.

    It is computed again where the weights, the split, the image cache or the code have changed.
    """
    experiment, repeat = parse_run(name)
    lists = paths.split_of(repeat or 0)
    needed = (paths.index, paths.cache / shards.ROWS, lists / "train_data.csv", lists / "valid_data.csv")
    if not all(path.is_file() for path in needed):
        return None
    weights = sorted(paths.model(experiment, repeat or 0).glob("*.safetensors"))
    hashes = [files.sha256(path) for path in (*weights, *needed)] + shards.hashes(paths.cache)
    code = [files.sha256(Path(files.__file__).parent / name) for name in CODE]
    key = sha256(json.dumps([classifier.hardware.precision, *hashes, *code]).encode()).hexdigest()[:16]
    kept = paths.state / "reference" / f"{key}.safetensors"
    if not kept.is_file():
        write(_compute(paths, lists, classifier), kept)
    return read(kept)


def write(reference: Reference, path: Path) -> None:
    """Write a reference, whole or not at all."""
    tensors, record = reference.to_tensors()
    with files.replacing(path) as temporary:
        save_file(tensors, temporary, {RECORD: json.dumps(record)})


def read(path: Path) -> Reference:
    """Read what `write` wrote."""
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        return Reference.from_tensors(tensors, json.loads(file.metadata()[RECORD]))


def _compute(paths: Paths, lists: Path, classifier: Classifier) -> Reference:
    images, row_of = shards.load(paths.cache)
    index = tables.read(paths.index).set_index("id")
    train, valid = (index.loc[tables.read(lists / f"{split}_data.csv")["id"]] for split in ("train", "valid"))
    looks = _appearance(images, row_of, train, valid, classifier)
    chest = looks is not None and looks.lungs is not None
    return Reference(looks, _expected(paths.raw, train, chest), SeenHashes.of(train, valid))


def _appearance(
    images: Images, row_of: dict[str, int], train: pd.DataFrame, valid: pd.DataFrame, classifier: Classifier
) -> Appearance | None:
    if len(valid) < appearance.MIN_VALID:
        return None
    train_rows, valid_rows = (
        np.array([row_of[name] for name in _spread(list(each.index), MOST)]) for each in (train, valid)
    )
    of_train = _measure(shards.take(images, train_rows), classifier, search_lungs=False)
    valid_images = shards.take(images, valid_rows)
    of_valid = _measure(valid_images, classifier, search_lungs=True)
    excess = appearance.excess_of_negatives(valid_images, of_valid.lungs, appearance.doubtful(of_valid.lungs))
    return Appearance.fit(of_train, of_valid, excess)


def _measure(images: Images, classifier: Classifier, search_lungs: bool) -> Measurements:
    parts = []
    for start in progress.bar(
        range(0, len(images), SCORING_BATCH), -(-len(images) // SCORING_BATCH), "measuring training images"
    ):
        batch = np.asarray(images[start : start + SCORING_BATCH])
        parts.append(Measurements.of(batch, classifier.score(batch).features, search_lungs))
    return Measurements.join(parts)


def _expected(raw: Path, train: pd.DataFrame, chest: bool) -> Expected:
    """Read the training images' modalities, views and body parts from the table and some DICOM headers."""
    names = [train["path"][name] for name in train.index[train["format"] == "DICOM"]]
    facts = [_header(raw / name) for name in _spread(names, MOST_HEADERS)]
    common = {fact: _common([each.get(fact, "") for each in facts]) for fact in ("modality", "body_part")}
    return Expected(common["modality"], _common(list(train["view"])), common["body_part"], chest)


def _header(path: Path) -> dict[str, str]:
    from xraylab.data import dicom  # noqa: PLC0415 - pydicom takes time to import, and most images are no DICOM

    try:
        with path.open("rb") as file:
            return dicom.read_facts(file)
    except (OSError, ValueError):
        return {}


def _common(values: list[str]) -> tuple[str, ...]:
    """The values that at least COMMON of the images have, of those that have one."""
    counts = Counter(value for value in values if value)
    return tuple(sorted(value for value, count in counts.items() if count >= COMMON * counts.total()))


def _spread(names: list[str], most: int) -> list[str]:
    """At most so many of them, at equal distances."""
    return [names[number * len(names) // most] for number in range(most)] if len(names) > most else names
