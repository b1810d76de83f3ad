"""Distances of vectors from those of the training images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf_shrinkage

Floats = NDArray[np.float32]
MOST_COMPONENTS = 64


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution whose covariance is a low-rank part and, in all other directions, one variance.

    Its Mahalanobis distance is that of Lee et al. (2018) with one class, for few images: the eigenvalues are shrunk as
    Ledoit and Wolf (2004) shrink a covariance, and beyond the first ones they are their mean (Tipping and Bishop 1999).
    """

    mean: Floats
    components: Floats
    """(k, width): directions of the largest variances, orthonormal."""
    variances: Floats
    """(k,)."""
    rest: float
    """The variance in every other direction."""

    @classmethod
    def fit(cls, vectors: Floats) -> "Gaussian":
        """From vectors (n, width) of the training images, at least two."""
        centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
        n, width = centred.shape
        _, singular, components = np.linalg.svd(centred, full_matrices=False)
        variances = np.zeros(width)
        variances[: len(singular)] = singular**2 / n
        shrinkage, mean = ledoit_wolf_shrinkage(centred, assume_centered=True), float(variances.mean())
        shrunk = (1 - shrinkage) * variances + shrinkage * mean
        k = min(MOST_COMPONENTS, len(singular), width)
        rest = float(shrunk[k:].mean()) if k < width else mean
        return cls(
            vectors.mean(axis=0, dtype=np.float64).astype(np.float32),
            components[:k].astype(np.float32),
            np.maximum(shrunk[:k], TINY).astype(np.float32),
            max(rest, TINY),
        )

    def distance(self, vectors: Floats) -> NDArray[np.float64]:
        """The Mahalanobis distance of each of (n, width), per root of the width."""
        centred = (vectors - self.mean).astype(np.float64)
        along = centred @ self.components.T.astype(np.float64)
        beside = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        squares = (along**2 / self.variances).sum(axis=1) + beside / self.rest
        return np.asarray(np.sqrt(squares / len(self.mean)))


TINY = 1e-12
