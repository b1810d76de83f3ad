"""Training targets of findings: labels as they are, and what the policy makes of uncertain ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xraylab import targets

Targets = NDArray[np.float32]
FIXED = {"ignore": np.nan, "positive": 1.0, "negative": 0.0}
SMOOTH = (0.55, 0.85)  # Pham et al. 2021, arXiv:1911.06475, smooth uncertain labels that count as positive so far


@dataclass(frozen=True)
class Uncertain:
    """The policy of each finding, of Irvin et al. 2019, arXiv:1901.07031, and the seed of `smooth`."""

    policy: Mapping[str, str]
    seed: int

    @classmethod
    def of(cls, policy: str | Mapping[str, str], findings: Sequence[str], seed: int) -> "Uncertain":
        """One policy for all findings, or one for each."""
        return cls({name: policy if isinstance(policy, str) else policy[name] for name in findings}, seed)

    def targets(self, table: pd.DataFrame) -> Targets:
        """Targets (images, findings) from 0 to 1, NaN where an entry must not count; `table` has ids and labels."""
        findings = list(self.policy)
        labels = targets.values(table, findings)
        ids = table["id"].to_numpy(str)
        for column, (name, policy) in enumerate(self.policy.items()):
            rows = np.flatnonzero(labels[:, column] == targets.UNCERTAIN)
            smooth = policy == "smooth"
            labels[rows, column] = [_draw(self.seed, ids[row], name) for row in rows] if smooth else FIXED[policy]
        return labels.astype(np.float32)


def known_labels(table: pd.DataFrame, findings: Sequence[str]) -> Targets:
    """The labels (images, findings) that are 0 or 1, NaN where they are uncertain or missing: what metrics count."""
    labels = targets.values(table, findings)
    return np.where(targets.known(labels), labels, np.nan).astype(np.float32)


def _draw(seed: int, name: str, finding: str) -> float:
    """The target of one uncertain label, which depends on nothing else: not on the images beside it."""
    digest = sha256(f"{seed}\n{name}\n{finding}".encode()).digest()
    lowest, highest = SMOOTH
    return lowest + (highest - lowest) * int.from_bytes(digest[:8]) / 2**64
