"""Convert the stored values of a DICOM file to displayed levels: padding, modality, VOI and inversion.

Lookup tables are those of PS3.3 C.11.1.1 and C.11.2.1.1. pydicom's own puts the indices into the type of the entries,
so that they wrap round in a table of 8-bit entries, and has no table of 12-bit entries.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_rescale, apply_windowing

from xraylab.data import pixels

INVERTED = "MONOCHROME1"
WORD = 1 << 16
DECIMALS = 6  # a rescaled level has no more that mean anything: 50 * 0.29 is 14.5, and floats make it less


def find_padding(dataset: Dataset, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Find the padding around the image (PS3.3 C.7.5.1.1.2); None where there is none."""
    if "PixelPaddingValue" not in dataset:
        return None
    tags = [tag for tag in ("PixelPaddingValue", "PixelPaddingRangeLimit") if tag in dataset]
    # some files write a negative value as an unsigned one, or the other way round
    word, signed = 1 << dataset.BitsAllocated, dataset.PixelRepresentation == 1
    wrapped = [int(dataset[tag].value) % word for tag in tags]
    bounds = [value - word if signed and value >= word // 2 else value for value in wrapped]
    padding = (stored >= min(bounds)) & (stored <= max(bounds))
    return padding if padding.any() else None


def display(dataset: Dataset, stored: NDArray[Any], little_endian: bool) -> tuple[NDArray[np.uint16], bool]:
    """A monochrome image as displayed, from 0 to 65535, its padding black, and whether its window could be used.

    A level depends on the stored value alone, so that each value of 8 or 16 bits is computed once, and not each pixel.
    """
    if stored.dtype.itemsize > 2:
        levels, usable = _displayed(dataset, stored, little_endian)
        return pixels.spread(levels), usable
    codes = np.ascontiguousarray(stored.astype(stored.dtype.newbyteorder("="), copy=False))
    codes = codes.view(f"u{stored.dtype.itemsize}")
    present = np.zeros(1 << 8 * stored.dtype.itemsize, dtype=bool)
    for part in pixels.row_blocks(codes):
        present[part] = True
    values = np.flatnonzero(present).astype(codes.dtype).view(stored.dtype.newbyteorder("="))
    levels, usable = _displayed(dataset, values, little_endian)
    table = np.zeros(len(present), np.uint16)
    table[present] = pixels.spread(levels)
    return pixels.look_up(codes, table), usable


def _displayed(dataset: Dataset, stored: NDArray[Any], little_endian: bool) -> tuple[NDArray[np.float64], bool]:
    """The displayed levels of stored values."""
    padding = find_padding(dataset, stored)
    inside = np.ones(stored.shape, dtype=bool) if padding is None or padding.all() else ~padding
    levels = _modality(dataset, stored, little_endian)
    windowed = _voi(dataset, levels, little_endian)
    usable = np.ptp(windowed[inside]) > 0 or np.ptp(levels[inside]) == 0
    displayed = (windowed if usable else levels).astype(np.float64)
    # both say the same thing: the standard asks for the shape INVERSE with MONOCHROME1
    if dataset.PhotometricInterpretation == INVERTED or dataset.get("PresentationLUTShape") == "INVERSE":
        displayed = -displayed
    return np.where(inside, displayed, displayed[inside].min()), bool(usable)


def _modality(dataset: Dataset, stored: NDArray[Any], little_endian: bool) -> NDArray[Any]:
    table = _table(dataset, "ModalityLUTSequence")
    if table is None:
        return apply_rescale(stored, dataset)
    return look_up(stored, table, little_endian)


def _voi(dataset: Dataset, levels: NDArray[Any], little_endian: bool) -> NDArray[Any]:
    table = _table(dataset, "VOILUTSequence")
    if table is None:
        return apply_windowing(levels, dataset, index=0)
    return look_up(levels, table, little_endian)


def _table(dataset: Dataset, sequence: str) -> Dataset | None:
    """The first table of a sequence; None where there is none, or where it lacks its descriptor or its data."""
    tables = dataset.get(sequence)
    if not tables or tables[0].get("LUTDescriptor") is None or tables[0].get("LUTData") is None:
        return None
    return Dataset(tables[0])


def look_up(levels: NDArray[Any], table: Dataset, little_endian: bool) -> NDArray[Any]:
    """The entry of every level, fractions rounded to the nearest; what lies beyond either end takes the entry there."""
    count, first = (int(number) for number in table.LUTDescriptor[:2])
    count = count % WORD or WORD  # 0 stands for 65536; as SS, more than 32767 are negative
    if first >= WORD // 2 and levels.max() < first:  # a negative number that is stored as unsigned
        first -= WORD
    entries = _entries(table.LUTData, count, little_endian)
    numbers = np.floor(np.round(levels.astype(np.float64), DECIMALS) + 0.5) - first
    return np.asarray(entries[numbers.clip(0, count - 1).astype(np.intp)])


def _entries(data: Any, count: int, little_endian: bool) -> NDArray[np.uint16]:
    """The entries, in a byte or a word each: their length says which, whatever number of bits the descriptor names.

    Two bytes share a word, the first one in its lower half. Errors: ValueError where there are too few.
    """
    order = "<u2" if little_endian else ">u2"
    words = np.frombuffer(data, order) if isinstance(data, bytes) else np.atleast_1d(np.asarray(data)) & (WORD - 1)
    if len(words) >= count:
        return words[:count].astype(np.uint16)
    halves = words.astype("<u2").view(np.uint8)
    if len(halves) < count:
        raise ValueError("fewer entries than its descriptor says")
    return halves[:count].astype(np.uint16)
