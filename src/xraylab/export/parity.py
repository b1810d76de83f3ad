"""An exported file is kept only where its runtime gives the probabilities of the network that it was made from."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xraylab import progress
from xraylab.data.pixels import Gray
from xraylab.errors import DataError
from xraylab.export.samples import Samples
from xraylab.inference.classifier import Classifier
from xraylab.inference.thresholds import Floats

TOLERANCE = 1e-4
BATCHES = (1, 7)
"""Numbers of images in the first batch and in the others: the file takes any."""
Run = Callable[[Gray], list[NDArray[np.float32]]]
"""From prepared images (n, size, size) to the outputs of `ClassifierGraph`, computed by a runtime."""


@dataclass(frozen=True)
class Difference:
    """The largest absolute differences between the runtime and the network in float32."""

    probabilities: float
    calibrated: float | None
    """Between the runtime's and those of `Classifier.calibrate` for the same probabilities."""


def outputs(run: Run, images: Gray) -> list[Floats]:
    """The runtime's outputs for images in batches of `BATCHES`."""
    first, size = BATCHES
    starts = [0, *range(first, len(images), size)]
    ends = [*starts[1:], len(images)]
    batches = progress.bar(zip(starts, ends, strict=True), len(starts), "running the exported file")
    parts = [run(images[start:stop]) for start, stop in batches]
    return [np.concatenate(each).astype(np.float64) for each in zip(*parts, strict=True)]


def measure(run: Run, classifier: Classifier, images: Gray) -> Difference:
    """Compare the runtime with the network in float32."""
    p, *more = outputs(run, images)
    expected = classifier.calibrate(p)
    calibrated = None if expected is None else float(np.abs(more[0] - expected).max())
    return Difference(float(np.abs(p - classifier.predict_proba(images)).max()), calibrated)


def check(run: Run, classifier: Classifier, samples: Samples, what: str) -> str:
    """Say how far the runtime is from the network. Errors: DataError where it is farther than `TOLERANCE`."""
    difference = measure(run, classifier, samples.images)
    largest = max(difference.probabilities, difference.calibrated or 0.0)
    if not largest <= TOLERANCE:  # NaN too
        raise DataError(
            f"{what} gives other probabilities than the network: they differ by up to {largest:.2g} on {samples.what}, "
            f"and {TOLERANCE:g} is allowed. Nothing was written"
        )
    return (
        f"{what} on {samples.what}: probabilities differ from the network's in float32 by at most "
        f"{difference.probabilities:.1e} ({TOLERANCE:g} is allowed)"
    )
