"""Find copies of the images that a network has seen, by their perceptual hashes."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xraylab.data.audit.duplicates import NEAR
from xraylab.data.audit.hashes import BITS, INVERTED, MIRRORED
from xraylab.data.image_facts import Look

Words = NDArray[np.uint64]
WORDS = BITS // 64


@dataclass(frozen=True)
class Copy:
    """The nearest image that a network has seen, where it is near enough to be the same picture."""

    split: str
    """train or valid."""
    bits: int
    """How many bits of the hash differ."""


@dataclass(frozen=True)
class SeenHashes:
    """Perceptual hashes of training and then validation images, uint64 (WORDS, n)."""

    whole: Words
    inside: Words
    """Of what lies inside the borders: where there is no border, of the whole."""
    n_train: int

    @classmethod
    def of(cls, train: pd.DataFrame, valid: pd.DataFrame) -> "SeenHashes":
        """From rows of data/index.csv; images without contrast have no hash worth comparing."""
        train, valid = (table[table["contrast"] > 0] for table in (train, valid))
        rows = pd.concat([train, valid])
        inside = rows["inside_hash"].where(rows["inside_hash"] != "", rows["perceptual_hash"])
        return cls(_words(rows["perceptual_hash"]), _words(inside), len(train))

    def find(self, look: Look) -> Copy | None:
        """The image that this is a copy of, as `duplicates.find_copies` defines it; of several the nearest.

        Every image is compared: as it is, inside the borders, mirrored and inverted.
        """
        if look.contrast == 0:
            return None
        whole, inside = (
            _words([text])[:, 0] for text in (look.perceptual_hash, look.inside_hash or look.perceptual_hash)
        )
        ways = (
            (whole, self.whole),
            (inside, self.inside),
            (whole ^ _MIRRORED, self.whole),
            (whole ^ _INVERTED, self.whole),
        )
        near = [match for query, seen in ways if (match := _nearest(query, seen))]
        if not near:
            return None
        bits, row = min(near, key=lambda match: match[0])
        return Copy("train" if row < self.n_train else "valid", bits)


def _nearest(query: Words, seen: Words) -> tuple[int, int] | None:
    """How many bits differ, and the first row where fewest do; None where more than NEAR do everywhere.

    The first half of the hash alone leaves few rows to look at.
    """
    half = WORDS // 2
    rows = np.flatnonzero(_differing(query[:half], seen[:half]) <= NEAR)
    bits = _differing(query, seen[:, rows])
    if not len(rows) or bits.min() > NEAR:
        return None
    best = int(bits.argmin())
    return int(bits[best]), int(rows[best])


def _differing(query: Words, seen: Words) -> NDArray[np.uint16]:
    count = np.zeros(seen.shape[1], np.uint16)
    for word, column in zip(query, seen, strict=True):
        count += np.bitwise_count(column ^ word)
    return count


def _words(hashes: Iterable[str]) -> Words:
    """Hashes in hex as (WORDS, n)."""
    packed = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(-1, WORDS)
    return np.ascontiguousarray(packed.T)


def _mask(bits: NDArray[np.bool_]) -> Words:
    return np.packbits(bits).view(np.uint64)


_MIRRORED, _INVERTED = _mask(MIRRORED), _mask(INVERTED)
