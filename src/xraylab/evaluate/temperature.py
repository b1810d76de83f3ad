"""Temperature scaling of probabilities, with numpy alone."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def scale(probabilities: Floats, temperature: float) -> Floats:
    """softmax(log p / T), row by row (Guo et al., ICML 2017)."""
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scaled: Floats = powers / powers.sum(axis=1, keepdims=True)
    return scaled
