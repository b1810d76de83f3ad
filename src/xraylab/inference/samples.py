"""Generated radiographs with the probabilities that a classifier gives them, so that others can check theirs.

They are drawings, no patients' images: see `demo`.
"""

import io
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from xraylab.data import pixels
from xraylab.demo import dataset
from xraylab.errors import DataError
from xraylab.inference.classifier import Classifier

EXPECTED = "expected_outputs.json"
FILE = re.compile(r"samples/[a-z0-9]+\.png")
PRECISION = "float32"
TOLERANCE = 1e-4
DECIMALS = 6  # of a probability: what other machines round otherwise lies behind them
SEED = 1
PIXELS, MARGIN = 320, 24  # drawn square, and cut on both sides so that the way of resizing matters
EACH = 2  # of a class of the demo


def make(classifier: Classifier) -> dict[str, bytes]:
    """The samples as PNG by file name, and `EXPECTED` with the classifier's probabilities, which computes in float32.

    The probabilities are those of the files: decoding, preparation and resizing are checked too.
    """
    images = _draw()
    rows = [
        {"file": name, "probabilities": {label: round(p, DECIMALS) for label, p in _predict(classifier, name, data)}}
        for name, data in images.items()
    ]
    tree = {"precision": PRECISION, "tolerance": TOLERANCE, "images": rows}
    return {EXPECTED: (json.dumps(tree, indent=2, ensure_ascii=False) + "\n").encode(), **images}


def reproduce(classifier: Classifier, members: Mapping[str, bytes], name: str) -> float:
    """The largest deviation from the expected probabilities; `name` begins errors. Errors: DataError beyond 1e-4."""
    deviations: list[float] = []
    for row in _expected(members, name):
        for label, p in _predict(classifier, row["file"], members[row["file"]]):
            deviations.append(abs(p - row["probabilities"][label]))
            if not deviations[-1] <= TOLERANCE:
                raise DataError(
                    f"{name} does not reproduce its expected outputs here: {row['file']} has {p:.6f} for {label}, "
                    f"expected {row['probabilities'][label]:.6f}. Install the versions that its card.json names"
                )
    return max(deviations)


def _expected(members: Mapping[str, bytes], name: str) -> list[dict[str, Any]]:
    """Errors: DataError where it is not as `make` wrote it."""
    try:
        rows: list[dict[str, Any]] = json.loads(members[EXPECTED])["images"]
        numbers = [p for row in rows for p in row["probabilities"].values() if row["file"] in members]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        numbers = []
    if not numbers or not all(isinstance(p, float) for p in numbers):
        raise DataError(f"{name}: {EXPECTED} lists no images of the bundle with their probabilities")
    return rows


def _predict(classifier: Classifier, name: str, data: bytes) -> list[tuple[str, float]]:
    image = classifier.prepare(pixels.decode_stream(io.BytesIO(data), name))
    (p,) = classifier.predict_proba(np.stack([image]))
    return list(zip(classifier.classes, p.tolist(), strict=True))


def _draw() -> dict[str, bytes]:
    shots = [shot for label in dataset.PREFIXES for shot in dataset.plan(label, EACH, SEED)]
    return {f"samples/{shot.name}": _png(shot) for shot in shots}


def _png(shot: dataset.Shot) -> bytes:
    film = dataset.film(shot, dataset.person(shot.label, shot.person, SEED), PIXELS, SEED)
    stream = io.BytesIO()
    Image.fromarray(film.gray[:, MARGIN:-MARGIN]).save(stream, "PNG")
    return stream.getvalue()
