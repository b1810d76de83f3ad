"""Perceptual hashes of changed pictures, and all pairs of hashes that differ in few bits."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SIDE = 16  # a hash says of SIDE x SIDE frequencies whether each is above their median, the lowest first
BITS = SIDE * SIDE
TILE = (512, 1024)  # rows and columns of a product that stay in the processor's cache

Floats = NDArray[np.float32]
Bits = NDArray[np.bool_]
Pairs = NDArray[np.int64]

# A mirrored picture has the opposite sign at each frequency that is odd from left to right, an inverted one at every
# frequency but the mean. The median is nearly 0, so the bits follow the signs, save a few.
MIRRORED = np.tile(np.arange(SIDE) % 2 == 1, SIDE)
INVERTED = np.arange(BITS) > 0


def bits(column: pd.Series) -> Bits:
    """Hashes in hex as (n, BITS)."""
    packed = np.frombuffer(bytes.fromhex("".join(column)), np.uint8).reshape(len(column), BITS // 8)
    return np.unpackbits(packed, axis=1).astype(bool)


def within(one: Bits, other: Bits, most: int) -> tuple[Pairs, NDArray[np.int64]]:
    """Two rows, the smaller first, of which `one` has the one and `other` the other hash, and how many bits differ.

    All pairs are compared; (n, 2) are those that differ in at most `most` bits. `one` and `other` are (n, BITS), and
    it does not matter which of two rows stands in which.
    """
    parts = [(np.empty((0, 2), np.int64), np.empty(0, np.int64))]
    # as signs, two hashes have the product BITS less twice the bits that differ: exact in float32
    for row, column, product in tiles(_signs(one), _signs(other), upper=True):
        if product.max() >= BITS - 2 * most:
            at = np.argwhere(product >= BITS - 2 * most)
            differing = (BITS - product[at[:, 0], at[:, 1]].astype(np.int64)) // 2
            at += (row, column)
            above = at[:, 0] < at[:, 1]
            parts.append((at[above], differing[above]))
    return np.concatenate([pairs for pairs, _ in parts]), np.concatenate([values for _, values in parts])


def nearest(one: Bits, other: Bits) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each row of `one` the nearest of `other`, the first of equals, and in how many bits it differs."""
    signs, against = _signs(one), _signs(other).T
    products = [signs[start : start + TILE[0]] @ against for start in range(0, len(one), TILE[0])]
    rows = np.concatenate([product.argmax(axis=1) for product in products])
    greatest = np.concatenate([product.max(axis=1) for product in products]).astype(np.int64)
    return rows, (BITS - greatest) // 2


def tiles(one: Floats, other: Floats, upper: bool = False) -> Iterator[tuple[int, int, Floats]]:
    """The product of `one` (n, k) and `other` (m, k) by tiles, with each one's first row and column.

    `upper`: only tiles that hold something above the diagonal.
    """
    rows, columns = TILE
    for row in range(0, len(one), rows):
        for column in range(0, len(other), columns):
            if not upper or column + columns > row:
                yield row, column, one[row : row + rows] @ other[column : column + columns].T


def _signs(bits: Bits) -> Floats:
    return np.where(bits, np.float32(1), np.float32(-1))
