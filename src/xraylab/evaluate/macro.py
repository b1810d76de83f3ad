"""Metrics of several findings per image: of each finding over its known labels, and their means.

Training imports this module for its history, as `confusion` for single-label studies.
"""

import numpy as np
import numpy.typing as npt

from xraylab.evaluate.metrics import auroc_and_auprc, has_both

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
METRICS = ("auroc", "auprc", "f1", "accuracy")


def scores(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> dict[str, float]:
    """Macro AUROC, AUPRC and F1 (at 0.5) and the accuracy of all known labels; NaN where nothing defines one.

    `labels` (images, findings) are 0 or 1, and NaN where they are not known. AUROC and AUPRC are means over the
    findings with labels of both classes, F1 over those with a positive one.
    """
    truth, p = np.asarray(labels, float), np.asarray(probabilities, float)
    known = ~np.isnan(truth)
    pairs = [(truth[rows, n] == 1, p[rows, n]) for n, rows in enumerate(known.T)]
    both = [auroc_and_auprc(actual, scored) for actual, scored in pairs if has_both(actual)]
    return {
        "auroc": _mean([auroc for auroc, _ in both]),
        "auprc": _mean([auprc for _, auprc in both]),
        "f1": _mean([f1(actual, scored >= 0.5) for actual, scored in pairs if actual.any()]),
        "accuracy": _mean(((p >= 0.5) == (truth == 1))[known]),
    }


def f1(actual: Flags, predicted: Flags) -> float:
    """The harmonic mean of precision and recall; there is a positive image."""
    return float(2 * (actual & predicted).sum() / (actual.sum() + predicted.sum()))


def _mean(values: npt.ArrayLike) -> float:
    array = np.asarray(values, float)
    return float(array.mean()) if array.size else float("nan")
