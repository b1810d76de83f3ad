"""Find copies of the images that a network has seen, by their perceptual hashes."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from xraylab.data import prepare
from xraylab.data.audit.duplicates import NEAR
from xraylab.data.audit.hashes import BITS, INVERTED, MIRRORED
from xraylab.data.image_facts import HASH_SIZE, Look, perceptual_hash
from xraylab.data.pixels import Gray

Words = NDArray[np.uint64]
WORDS = BITS // 64
HASHED = 64  # pixels square, whose lowest frequencies a perceptual hash is of
COSINES = np.cos(np.pi / HASHED * np.outer(np.arange(HASH_SIZE), np.arange(HASHED) + 0.5)).astype(np.float32)
ROUGHLY_NEAR = NEAR + 30
"""Where rough hashes differ in more bits, exact ones are not near: of real films they differ from these by at most 10,
and no more than one film in a hundred is as near to another."""


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
        ways = self._ways(look.perceptual_hash, look.inside_hash or look.perceptual_hash)
        near = [match for query, seen in ways if (match := _nearest(query, seen))]
        if not near:
            return None
        bits, row = min(near, key=lambda match: match[0])
        return Copy("train" if row < self.n_train else "valid", bits)

    def may_hold(self, gray: Gray) -> bool:
        """Return False for images that `find` finds no copy of, which is nearly all that are none: by rough hashes."""
        top, bottom, left, right = prepare.border(gray)
        inside = gray[top : gray.shape[0] - bottom, left : gray.shape[1] - right]
        rough = rough_hash(gray)
        ways = self._ways(rough, rough_hash(inside) if inside.size < gray.size else rough)
        return any(len(seen.T) and _differing(query, seen).min() <= ROUGHLY_NEAR for query, seen in ways)

    def _ways(self, whole: str, inside: str) -> tuple[tuple[Words, Words], ...]:
        """Hashes that an image may have here, and those to compare each with."""
        whole_words, inside_words = (_words([text])[:, 0] for text in (whole, inside))
        return (
            (whole_words, self.whole),
            (inside_words, self.inside),
            (whole_words ^ _MIRRORED, self.whole),
            (whole_words ^ _INVERTED, self.whole),
        )


def rough_hash(gray: Gray) -> str:
    """`perceptual_hash` but for at most ten bits of a film, or thirty of noise, in a tenth of the time.

    The picture is shrunk by whole blocks of pixels before it is resized; a small one has its own hash.
    """
    if min(gray.shape) < 2 * HASHED:
        return perceptual_hash(gray)
    small = Image.fromarray(gray).resize((HASHED, HASHED), Image.Resampling.BILINEAR, reducing_gap=1.0)
    low = COSINES @ np.asarray(small, np.float32) @ COSINES.T
    return np.packbits(low > np.median(low)).tobytes().hex()


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
