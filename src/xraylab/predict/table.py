"""Class probabilities as a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraylab.data.batches import Normalise, load, scoring_batches
from xraylab.model import hardware, scoring
from xraylab.predict import kept


def probabilities(
    folder: Path, model: dict[str, Any], epochs: Sequence[int], images: pd.DataFrame, cached: Path
) -> tuple[list[pd.DataFrame], list[str]]:
    """For each epoch `images` (id, label, ...) with one column p_<class> per class; and how they were computed.

    The epochs' networks share one pass over the images.
    """
    pixels, row_of = load(cached)
    rows = np.array([row_of[name] for name in images["id"]], np.int64)
    machine = hardware.choose(model["hardware"]["precision"])
    shape = (model["channels"], model["pixels"], model["pixels"])
    ready = [
        scoring.prepared(kept.network(folder, model, epoch), machine, len(rows), shape, model["multiply_adds"])
        for epoch in epochs
    ]
    normalise = Normalise(tuple(model["normalise"]["mean"]), tuple(model["normalise"]["std"]))
    batches = scoring_batches(pixels, rows, model["channels"], model["pixels"], normalise)
    scores = scoring.probabilities([network for network, _ in ready], batches, machine)
    columns = [f"p_{label}" for label in model["classes"]]
    tables = [images.assign(**dict(zip(columns, each.numpy().T, strict=True))) for each in scores]
    return tables, list(dict.fromkeys(note for _, notes in ready for note in notes))
