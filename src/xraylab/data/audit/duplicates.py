"""Find images that are the same picture: byte for byte, pixel for pixel, or changed as copies are."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xraylab import shards
from xraylab.data.audit import hashes
from xraylab.data.audit.hashes import INVERTED, MIRRORED, Bits, Pairs
from xraylab.shards import Images

Change = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]  # of one picture

NEAR = 26
"""Pictures whose perceptual hashes differ in at most so many of their 256 bits are one picture. Of 9,231 real chest
radiographs, no two different ones do, nor does one and the mirror image or the negative of another."""
DOUBTFUL = 50
"""Up to so many, a second look decides: a burned-in letter changes up to so many bits, and a few films are as near."""
SAME = 0.97
"""Least correlation of the fine structure of doubtful pairs that count as one picture."""
ENCODED, BORDER, MIRROR, NEGATIVE, CROP = "encoded", "border", "mirrored", "inverted", "cropped"


def groups(index: pd.DataFrame, column: str) -> list[list[str]]:
    """The ids that share a value of `column` (file_hash or pixel_hash), group by group."""
    ids_of = index.groupby(column, sort=False)["id"].agg(list)
    return [ids for ids in ids_of if len(ids) > 1]


def near(index: pd.DataFrame, thumbnails: Images) -> pd.DataFrame:
    """Pairs of pictures that are alike but not pixel for pixel the same: columns id, other, change, bits (that differ).

    `change`: encoded (or resized, brightened, annotated) anew, border (one has another border), mirrored, inverted, or
    cropped, for which there are no bits; films of one known patient, which may look like parts of one another, are not
    called so. Of pixel-identical images only the first is compared. Images without contrast have no hash worth
    comparing. `thumbnails`: as `index.measure` has them, a row each.
    """
    from xraylab.data.audit import crops  # noqa: PLC0415 - OpenCV takes time to import, and `split` does without

    compared = ((index["contrast"] > 0) & ~index["pixel_hash"].duplicated()).to_numpy()
    ids = index["id"].to_numpy()[compared]
    small = thumbnails if compared.all() else shards.take(thumbnails, compared)
    parts = crops.pairs(small)
    patient = index["patient"].to_numpy()[compared]
    followed_up = (patient[parts[:, 0]] == patient[parts[:, 1]]) & (patient[parts[:, 0]] != "")
    parts = parts[~followed_up]
    pairs = [*_by_hash(index[compared], small), _table(CROP, parts, None)]
    table = pd.concat(pairs, ignore_index=True).drop_duplicates(["id", "other"])  # by the first change that explains it
    table = table.sort_values(["id", "other"], ignore_index=True)
    return table.assign(id=ids[table["id"]], other=ids[table["other"]])


def find_copies(pictures: pd.DataFrame, reference: pd.DataFrame) -> pd.Series:
    """For each of `pictures`, the id of the picture among `reference` that it is a copy of, or ''.

    Copies have perceptual hashes within NEAR bits, as they are, mirrored, inverted, or without their borders; of
    several, the nearest is named, the first of equals. Every pair is compared, so none is missed. Both tables have
    the columns id, perceptual_hash, inside_hash and contrast; images without contrast are copies of nothing.
    """
    queried, earlier = pictures[pictures["contrast"] > 0], reference[reference["contrast"] > 0]
    names = pd.Series("", index=pictures.index, dtype=object)
    if len(queried) and len(earlier):
        old_bits, new_bits = hashes.bits(earlier["perceptual_hash"]), hashes.bits(queried["perceptual_hash"])
        ways = [
            hashes.nearest(new_bits, old_bits),
            hashes.nearest(_inside(queried), _inside(earlier)),
            hashes.nearest(new_bits ^ MIRRORED, old_bits),
            hashes.nearest(new_bits ^ INVERTED, old_bits),
        ]
        rows, bits = (np.stack(parts) for parts in zip(*ways, strict=True))
        least, every = bits.argmin(axis=0), np.arange(len(queried))
        ids = earlier["id"].to_numpy()[rows[least, every]]
        names[queried.index] = np.where(bits[least, every] <= NEAR, ids, "")
    return names


def _by_hash(index: pd.DataFrame, thumbnails: Images) -> list[pd.DataFrame]:
    """Rows and changes of the pairs whose hashes, or those of what lies inside their borders, are near."""
    plain, inside = hashes.bits(index["perceptual_hash"]), _inside(index)
    bordered = (index["inside_hash"] != "").to_numpy()
    ways: dict[str, tuple[Bits, Change]] = {
        ENCODED: (plain, lambda picture: picture),
        MIRROR: (plain ^ MIRRORED, lambda picture: picture[:, ::-1]),
        NEGATIVE: (plain ^ INVERTED, lambda picture: 255 - picture),
    }
    tables = {}
    for change, (bits, transform) in ways.items():
        pairs, differing = hashes.within(plain, bits, DOUBTFUL)
        sure = (differing <= NEAR) & ~bordered[pairs].all(axis=1)  # equal borders make different pictures alike
        same = sure | _same(thumbnails, transform, pairs, differing, ~sure)
        tables[change] = _table(change, pairs[same], differing[same])
    unframed = _table(BORDER, *hashes.within(inside, inside, NEAR))
    return [tables.pop(ENCODED), unframed, *tables.values()]


def _same(
    thumbnails: Images, transform: Change, pairs: Pairs, bits: NDArray[np.int64], doubtful: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Compare doubtful pairs, the second one transformed; of very many, those with the fewest differing bits."""
    from xraylab.data.audit import crops  # noqa: PLC0415 - as above

    same = np.zeros(len(pairs), dtype=bool)
    rows = np.flatnonzero(doubtful)
    for row in rows[np.argsort(bits[rows], kind="stable")][: crops.most(len(thumbnails))]:
        same[row] = crops.alike(thumbnails[pairs[row, 0]], transform(thumbnails[pairs[row, 1]])) >= SAME
    return same


def _table(change: str, pairs: Pairs, bits: NDArray[np.int64] | None) -> pd.DataFrame:
    table = pd.DataFrame({"id": pairs[:, 0], "other": pairs[:, 1], "change": change, "bits": bits})
    return table.astype({"bits": "Int64"})


def _inside(index: pd.DataFrame) -> Bits:
    """The hashes of what lies inside the borders: where there is no border, of the whole."""
    return hashes.bits(index["inside_hash"].where(index["inside_hash"] != "", index["perceptual_hash"]))
