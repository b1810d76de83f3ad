"""What params.yaml wants of every figure."""

import numpy as np

from xraylab.evaluate.values import Asked
from xraylab.params.config import Params


def of(params: Params) -> Asked:
    data, given = params.data, params.evaluate
    positive = None if data.positive is None else data.classes.index(data.positive)
    normal = None if given.normal is None else data.classes.index(given.normal)
    shares = given.prevalence
    if isinstance(shares, float):
        shares = [shares if label == data.positive else 1 - shares for label in data.classes]
    return Asked(
        classes=data.classes,
        positive=positive,
        normal=1 - positive if normal is None and positive is not None else normal,
        prevalence=None if shares is None else np.array(shares),
        confidence=given.confidence,
        primary=given.primary,
        margin=given.margin,
        n_permutations=given.n_permutations,
        seed=given.seed,
    )
