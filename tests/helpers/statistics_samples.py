"""Generated predictions for the tests of metrics, and how these are configured."""

from typing import Any

import numpy as np

from xraylab.evaluate.config import EvalConfig
from xraylab.evaluate.samples import Sample


def config(classes: int, **changes: Any) -> EvalConfig:
    """Of the classes A, B, C ...; of two, B is the positive one and A the normal."""
    binary = classes == 2
    plain = {
        "classes": list("ABCDE"[:classes]),
        "positive": 1 if binary else None,
        "negative_class": 0 if binary else None,
        "prevalence": None,
        "confidence": 0.95,
        "primary": "auroc",
        "margin": 0.0,
        "n_permutations": 10_000,
        "seed": 0,
    }
    return EvalConfig(**(plain | changes))


def drawn(seed: int, classes: int, images: int = 60, patients: int | None = None, skill: float = 1.0) -> Sample:
    """Softmax of normal logits, the true class's raised by `skill`; with ties; `patients`: so many, else unknown."""
    rng = np.random.default_rng(seed)
    actual = rng.permutation(np.arange(images) % classes)
    logits = rng.normal(size=(images, classes)).round(1) + skill * np.eye(classes)[actual]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = [""] * images if patients is None else [f"p{number}" for number in rng.integers(0, patients, images)]
    return Sample(actual, probabilities, np.array(names))


def matrix_of(actual: Any, predicted: Any, classes: int) -> Any:
    """The confusion matrix, counted one by one."""
    found = np.zeros((classes, classes), int)
    for row, column in zip(actual, predicted, strict=True):
        found[row, column] += 1
    return found
