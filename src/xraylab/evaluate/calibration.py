"""Do probabilities mean what they say? Reliability, ECE, and one temperature that is fitted on validation images.

Of two classes it is the positive one's probability that is looked at, of more the highest and whether it is right
(Guo et al., On Calibration of Modern Neural Networks, ICML 2017, for both this and the temperature).
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from xraylab.evaluate import figures
from xraylab.evaluate.counts import Floats, Ints
from xraylab.evaluate.units import Sample

TEMPERATURES = (0.05, 20.0)


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

    It depends on the number of bins, and is above 0 by chance alone in small samples.
    """
    filled = table[table["n"] > 0]
    return float((filled["n"] * (filled["probability"] - filled["observed"]).abs()).sum() / filled["n"].sum())


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


def judged(sample: Sample, probabilities: Floats, positive: int | None, bins: int) -> dict[str, Any]:
    """ECE with its bins and n, log loss and Brier score (of the judged probability)."""
    said, true = stated(sample.actual, probabilities, positive)
    return {
        "ece": ece(reliability(said, true, bins)),
        "bins": bins,
        "n": len(said),
        "log_loss": figures.log_loss(sample.actual, probabilities),
        "brier": float(((said - true) ** 2).mean()),
    }


def report(valid: Sample | None, test: Sample, positive: int | None, bins: int) -> dict[str, Any]:
    """The test images before, and after the temperature of the validation images; without these only before."""
    before = judged(test, test.probabilities, positive, bins)
    if valid is None:
        return {"temperature": None, "before": before, "after": None}
    fitted = temperature(valid.actual, valid.probabilities)
    after = judged(test, scaled(test.probabilities, fitted), positive, bins)
    return {"temperature": fitted, "before": before, "after": after}
