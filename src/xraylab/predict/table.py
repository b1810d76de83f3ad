"""Class probabilities as a table."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraylab.data.batches import load, scoring_batches
from xraylab.model import hardware, scoring
from xraylab.predict import kept


def probabilities(folder: Path, model: dict[str, Any], epoch: int, images: pd.DataFrame, cached: Path) -> pd.DataFrame:
    """`images` (id, label, ...) with one column p_<class> per class: the softmax after that epoch."""
    pixels, row_of = load(cached)
    rows = np.array([row_of[name] for name in images["id"]], np.int64)
    batches = scoring_batches(pixels, rows, model["channels"], model["pixels"])
    machine = hardware.choose(model["hardware"]["precision"])
    scores = scoring.probabilities(kept.network(folder, model, epoch), batches, machine)
    columns = [f"p_{label}" for label in model["classes"]]
    return images.assign(**dict(zip(columns, scores.numpy().T, strict=True)))
