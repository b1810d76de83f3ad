"""Do probabilities mean what they say? Reliability, ECE, and one temperature that is fitted on validation images.

Of two classes it is the positive one's probability that is looked at, of more the highest and whether it is right
(Guo et al., On Calibration of Modern Neural Networks, ICML 2017, for both this and the temperature).
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from xraylab.evaluate import figures, recalibration
from xraylab.evaluate.counts import Floats, Ints
from xraylab.evaluate.units import Sample
from xraylab.evaluate.values import Asked

TEMPERATURES = (0.05, 20.0)
CHANCE_DRAWS = 1000
CHANCE_PERCENTILE = 95


def stated(actual: Ints, probabilities: Floats, positive: int | None) -> tuple[Floats, Floats]:
    """The probability that is judged, and 1 where what it states is so, else 0: (n,) each."""
    if positive is not None:
        return probabilities[:, positive], (actual == positive).astype(float)
    return probabilities.max(axis=1), (probabilities.argmax(axis=1) == actual).astype(float)


def reliability(stated: Floats, true: Floats, bins: int) -> pd.DataFrame:
    """Bins of equal width, upper ends included: low, high, n, mean probability and observed share; NaN where empty."""
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], stated, "left")
    n = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(
            {
                "low": edges[:-1],
                "high": edges[1:],
                "n": n,
                "probability": np.bincount(place, stated, bins) / n,
                "observed": np.bincount(place, true, bins) / n,
            }
        )


def ece(table: pd.DataFrame) -> float:
    """The mean distance of probability and observed share, bins weighted by their images.

    It depends on the number of bins, and is above 0 by chance alone in small samples: `ece_by_chance`.
    """
    filled = table[table["n"] > 0]
    return float((filled["n"] * (filled["probability"] - filled["observed"]).abs()).sum() / filled["n"].sum())


def ece_by_chance(stated: Floats, bins: int, seed: int) -> tuple[float, float]:
    """The mean and the 95th percentile of ECE if every probability were right, over 1,000 draws of outcomes.

    Outcomes are drawn image by image, so where patients repeat chance gives somewhat more (consistency resampling:
    Bröcker and Smith, Weather and Forecasting 22 (2007) 651).
    """
    edges = np.linspace(0, 1, bins + 1)
    member = np.eye(bins)[np.searchsorted(edges[1:-1], stated, "left")]
    rng = np.random.default_rng(seed)
    off = [np.abs(((rng.random(len(stated)) < stated) - stated) @ member).sum() for _ in range(CHANCE_DRAWS)]
    eces = np.array(off) / len(stated)
    return float(eces.mean()), float(np.percentile(eces, CHANCE_PERCENTILE))


def temperature(actual: Ints, probabilities: Floats) -> float:
    """The T, of 0.05 to 20, at which softmax(log p / T) has the lowest log loss."""

    def loss(log_t: float) -> float:
        return figures.log_loss(actual, scaled(probabilities, float(np.exp(log_t))))

    bounds = (np.log(TEMPERATURES[0]), np.log(TEMPERATURES[1]))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x))


def scaled(probabilities: Floats, temperature: float) -> Floats:
    """softmax(log p / T), row by row."""
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax: Floats = raised / raised.sum(axis=1, keepdims=True)
    return softmax


def judged(sample: Sample, probabilities: Floats, asked: Asked, bins: int) -> dict[str, Any]:
    """ECE with its bins, n and what chance gives; slope and intercept; log loss and Brier score.

    All but the log loss are of the judged probability.
    """
    said, true = stated(sample.actual, probabilities, asked.positive)
    expected, percentile = ece_by_chance(said, bins, asked.seed)
    return {
        "ece": ece(reliability(said, true, bins)),
        "ece_by_chance": expected,
        "ece_by_chance_p95": percentile,
        "bins": bins,
        "n": len(said),
        "log_loss": figures.log_loss(sample.actual, probabilities),
        "brier": float(((said - true) ** 2).mean()),
    } | recalibration.slope_and_intercept(said, true, sample.units.of, asked.confidence)


def report(valid: Sample | None, test: Sample, asked: Asked, bins: int) -> dict[str, Any]:
    """The test images before, and after the temperature of the validation images; without these only before."""
    before = judged(test, test.probabilities, asked, bins)
    if valid is None:
        return {"temperature": None, "before": before, "after": None}
    fitted = temperature(valid.actual, valid.probabilities)
    after = judged(test, scaled(test.probabilities, fitted), asked, bins)
    return {"temperature": fitted, "before": before, "after": after}
