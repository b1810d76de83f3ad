"""The stratified bootstrap, all draws at once: Davison and Hinkley, Bootstrap Methods and their Application, 1997.

Within each stratum as many units are drawn as there are. Confusion matrices of independent images need no rows: each
stratum's cells are one multinomial draw. Everything else is weighted by how often each unit was drawn.
"""

from collections.abc import Iterator

import numpy as np

from xraylab.evaluate.counts import Floats, Ints
from xraylab.evaluate.units import Units

CELLS = (
    160_000  # draws times images at a time: their weights, and what is summed over them, stay in a processor's cache
)


def weights(units: Units, draws: int, seed: int) -> Iterator[Floats]:
    """How often each unit is drawn: some draws (rows) at a time, `draws` in all."""
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(units.strata == stratum) for stratum in np.unique(units.strata)]
    most = max(CELLS // len(units.of), 1)
    for start in range(0, draws, most):
        width = min(most, draws - start)
        found = np.empty((width, len(units.strata)))
        for members in groups:
            found[:, members] = _times(len(members), width, rng)
        yield found


def _times(size: int, width: int, rng: np.random.Generator) -> Ints:
    """(width, size): in each row, how often each of `size` was drawn in `size` draws."""
    drawn = rng.integers(0, size, (width, size), dtype=np.int64)
    drawn += np.arange(width)[:, None] * size
    return np.bincount(drawn.ravel(), minlength=width * size).reshape(width, size)


def tallies(cells: Ints, kinds: int, units: Units, draws: int, seed: int) -> Floats:
    """How many images of each kind are in each draw: (draws, kinds), from the kind of each image (n,).

    A kind must tell the actual class, as a cell of a confusion matrix does.
    """
    if not units.repeat:
        return _independent(cells, kinds, units, draws, seed)
    table = np.bincount(units.of * kinds + cells, minlength=len(units.strata) * kinds).reshape(-1, kinds).astype(float)
    return np.concatenate([chunk @ table for chunk in weights(units, draws, seed)])


def _independent(cells: Ints, kinds: int, units: Units, draws: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    strata = units.strata[units.of]
    found = np.zeros((draws, kinds))
    for stratum in np.unique(strata):
        images = np.bincount(cells[strata == stratum], minlength=kinds)
        there = np.flatnonzero(images)
        found[:, there] += rng.multinomial(images.sum(), images[there] / images.sum(), draws)
    return found


def matrices(actual: Ints, predicted: Ints, classes: int, units: Units, draws: int, seed: int) -> Floats:
    """The confusion matrix of each draw: (draws, classes, classes)."""
    found = tallies(actual * classes + predicted, classes**2, units, draws, seed)
    return found.reshape(draws, classes, classes)


def paired_matrices(
    actual: Ints, first: Ints, second: Ints, classes: int, units: Units, draws: int, seed: int
) -> tuple[Floats, Floats]:
    """The confusion matrices of two classifiers of the same images, in the same draws: (draws, C, C) each."""
    cells = (actual * classes + first) * classes + second
    cube = tallies(cells, classes**3, units, draws, seed).reshape(draws, classes, classes, classes)
    return cube.sum(axis=3), cube.sum(axis=2)
