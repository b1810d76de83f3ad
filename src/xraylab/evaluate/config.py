"""Which classes metrics are computed of, and how sure they are to be."""

from dataclasses import dataclass

import numpy as np

from xraylab.evaluate.confusion import Floats
from xraylab.params.config import Params

OVERALL, MACRO, WEIGHTED = "overall", "macro", "weighted"
"""What a metric is of where it is of no single class: of all images, or a mean over classes, plain or by images."""


@dataclass(frozen=True)
class EvalConfig:
    classes: list[str]
    positive: int | None  # of two classes; None: each class against the rest, and their means
    negative_class: int | None  # the class of healthy images
    prevalence: Floats | None  # (classes,), summing to 1
    confidence: float
    primary: str  # the metric that the sentences are about, of the positive class or the mean over classes
    margin: float  # the smallest difference in it that matters; 0: none was stated
    n_permutations: int
    seed: int

    @classmethod
    def from_params(cls, params: Params) -> "EvalConfig":
        data, evaluate = params.data, params.evaluate
        positive = None if data.positive is None else data.classes.index(data.positive)
        negative_class = None if evaluate.negative_class is None else data.classes.index(evaluate.negative_class)
        shares = evaluate.prevalence
        if isinstance(shares, float):
            shares = [shares if label == data.positive else 1 - shares for label in data.classes]
        return cls(
            classes=data.classes,
            positive=positive,
            negative_class=1 - positive if negative_class is None and positive is not None else negative_class,
            prevalence=None if shares is None else np.array(shares),
            confidence=evaluate.confidence,
            primary=evaluate.primary,
            margin=evaluate.margin,
            n_permutations=evaluate.n_permutations,
            seed=evaluate.seed,
        )

    @property
    def reported(self) -> list[int]:
        """The classes that have metrics of their own."""
        return list(range(len(self.classes))) if self.positive is None else [self.positive]

    @property
    def main_class(self) -> str:
        """The positive class, or MACRO."""
        return MACRO if self.positive is None else self.classes[self.positive]
