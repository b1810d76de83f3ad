"""Iterative stratification: share out whole groups of images so that every split has its share of every label."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def iterative(
    groups: pd.Series, labels: pd.DataFrame, shares: Sequence[float], rng: np.random.Generator
) -> NDArray[np.int64]:
    """The number of each image's split, a group's images in one of them.

    Sechidis, Tsoumakas and Vlahavas: On the stratification of multi-label data (ECML PKDD 2011), with groups in the
    place of single images: the label with the fewest images still to place comes first, and each group that shows it,
    in random order, goes where most images of that label are due; a tie is settled by the images due at all, then at
    random. Groups that show no label fill up the rest.

    `groups`: the name of each image's group, whose order alone decides, not that of the rows. `labels`: (images,
    labels) bool. `shares`: of each split, with the sum 1.
    """
    sizes = groups.groupby(groups).size()
    counts = labels.groupby(groups).sum().loc[sizes.index].to_numpy(np.int64)
    split_of = _assign(counts, np.asarray(sizes), np.asarray(shares), rng)
    return split_of[sizes.index.get_indexer(pd.Index(groups))]


def _assign(
    counts: NDArray[np.int64], sizes: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """The split of each group. `counts`: (groups, labels) images; `sizes`: (groups,) images."""
    split_of = np.full(len(sizes), -1, np.int64)
    due = np.outer(shares, counts.sum(axis=0))  # images of each label that a split still lacks
    due_at_all = shares * sizes.sum()

    def assign(order: NDArray[np.int64], lacking: NDArray[np.float64]) -> None:
        for group in rng.permutation(order):
            split = np.lexsort((rng.random(len(shares)), due_at_all, lacking))[-1]
            split_of[group] = split
            due[split] -= counts[group]
            due_at_all[split] -= sizes[group]

    while (left := counts[split_of < 0].sum(axis=0)).any():
        rarest = int(np.where(left > 0, left, left.max() + 1).argmin())
        assign(np.flatnonzero((split_of < 0) & (counts[:, rarest] > 0)), due[:, rarest])
    assign(np.flatnonzero(split_of < 0), due_at_all)
    return split_of
