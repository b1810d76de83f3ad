"""Decision curves: what acting on a network's probabilities is worth, beside acting on everybody or on nobody."""

import numpy as np
import pandas as pd

from xraylab.evaluate.counts import Floats
from xraylab.evaluate.units import Sample

THRESHOLDS: Floats = np.arange(1, 100) / 100


def net_benefit(sample: Sample, positive: int, prevalence: Floats | None) -> pd.DataFrame:
    """Columns threshold, net_benefit and treat_all, for thresholds of 0.01 to 0.99; treating nobody is worth 0.

    The net benefit at a threshold t is TP / n - FP / n * t / (1 - t): t is the probability from which one acts, and so
    says how many needless actions one needed action is worth (Vickers and Elkin, Med Decis Making 26 (2006) 565).
    With `prevalence` (classes,) the positives have that share instead of the sample's. Without positives, or without
    negatives, there are no rows.
    """
    is_positive = sample.actual == positive
    columns = ["threshold", "net_benefit", "treat_all"]
    if is_positive.all() or not is_positive.any():
        return pd.DataFrame(columns=columns)
    share = is_positive.mean() if prevalence is None else prevalence[positive]
    probability = sample.probabilities[:, positive]
    sensitivity = _at_least(probability[is_positive])
    false_positive_rate = _at_least(probability[~is_positive])
    odds = THRESHOLDS / (1 - THRESHOLDS)
    values = (
        THRESHOLDS,
        share * sensitivity - (1 - share) * false_positive_rate * odds,
        share - (1 - share) * odds,
    )
    return pd.DataFrame(dict(zip(columns, values, strict=True)))


def _at_least(probability: Floats) -> Floats:
    """(thresholds,): the share of these probabilities at or above each threshold."""
    below: Floats = np.searchsorted(np.sort(probability), THRESHOLDS, "left") / len(probability)
    return 1 - below
