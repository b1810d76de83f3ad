"""From a DICOM file to the levels that a viewer would display, and the few facts that may leave it.

Of a file's tags only those named here are read at all. No value but the facts' own, each checked against what the
standard allows it to say, enters a result, a warning, a log or an error.
"""

import logging
import re
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

T = TypeVar("T")

# which of pydicom's plugins decodes a transfer syntax: one each, so that the levels are the same on every machine
DECODERS = {
    ImplicitVRLittleEndian: "",
    ExplicitVRLittleEndian: "",
    ExplicitVRBigEndian: "",
    DeflatedExplicitVRLittleEndian: "",
    RLELossless: "pydicom",
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "pillow",
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "gdcm",
    JPEGLSNearLossless: "gdcm",
    JPEG2000: "pylibjpeg",
    JPEG2000Lossless: "pylibjpeg",
    HTJ2K: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
}
INVERTED, MONOCHROME, PALETTE = "MONOCHROME1", ("MONOCHROME1", "MONOCHROME2"), "PALETTE COLOR"
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
LUMA = (0.299, 0.587, 0.114)

# fact -> the tag that holds it, and what may leave of it
FACTS = {
    "sex": ("PatientSex", "M|F"),
    "age": ("PatientAge", r"\d{1,3}[YMWD]"),
    "view": ("ViewPosition", "PA|AP|LL|RL|LLD|RLD|LLO|RLO|LAT|LATERAL|MLO|CC|ML|LM"),
    "modality": ("Modality", "[A-Z]{2}"),
    "burned_in": ("BurnedInAnnotation", "YES|NO"),
}
UNUSED_WINDOW = {"window": "unused"}
UNITS_A_YEAR = {"Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}
OLDEST = 90  # ages above 89 identify people (US 45 CFR 164.514)

DESCRIPTION = ["Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "BitsAllocated"]
DESCRIPTION += ["BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration", "PixelData"]
DESCRIPTION += ["ExtendedOffsetTable", "ExtendedOffsetTableLengths"]
DISPLAY = ["ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "VOILUTSequence", "VOILUTFunction"]
DISPLAY += ["WindowCenter", "WindowWidth", "PresentationLUTShape"]
DISPLAY += [f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue")]
DISPLAY += [f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")]
DISPLAY += [f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")]
TAGS = [*DESCRIPTION, *DISPLAY, *(tag for tag, _ in FACTS.values())]

NO_WARNINGS = ("ignore", None, Warning, re.compile("pydicom"), 0)
FILTERS = threading.Lock()
LOGGERS = ("pydicom", "pylibjpeg", "openjpeg")


def read(file: BinaryIO, most_pixels: int | None) -> tuple[NDArray[Any], str, dict[str, str]]:
    """The levels (height, width) as displayed, white high; how they are stored; and the facts.

    They have passed the modality LUT, the first VOI LUT or window, and the inversion that the file asks for. A window
    that leaves a single level is not used; then the fact `window` is `unused`.
    Errors: ValueError that says what is wrong, without values from the file.
    """
    _silence_pydicom()
    dataset = _or("is not a complete DICOM file", lambda: dcmread(file, force=True, specific_tags=list(TAGS)))
    photometric, bits = _check(dataset, most_pixels)
    stored = _stored(dataset, bits)
    facts = _facts(dataset)
    if photometric in MONOCHROME:
        levels, windowed = _displayed(dataset, stored)
        facts |= {} if windowed else UNUSED_WINDOW
    else:
        levels = _luma(dataset, stored, photometric)
    return levels, f"{photometric} {bits} bit", facts


def _silence_pydicom() -> None:
    """Its warnings and logs quote values. Filters and loggers belong to the whole process, so this stays in force."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with FILTERS:
        if list(warnings.filters[:1]) != [NO_WARNINGS]:
            warnings.filterwarnings("ignore", module="pydicom")


def _or(problem: str, step: Callable[[], T]) -> T:
    """What `step` returns. Errors: ValueError(problem), to which the step's own error does not cling."""
    with suppress(Exception):
        return step()
    raise ValueError(problem)


def _check(dataset: Dataset, most_pixels: int | None) -> tuple[str, int]:
    """The photometric interpretation and the bits stored, where the file is one that can be read."""
    if "PixelData" not in dataset:
        raise ValueError("holds no pixel data, or is cut off before their end")
    photometric, bits, pixels, frames = _or("does not describe its pixels as DICOM asks", lambda: _description(dataset))
    if frames > 1:
        raise ValueError("holds more than one frame; save the one to use as a file of its own")
    if most_pixels is not None and pixels > most_pixels:
        raise ValueError(f"Image size ({pixels} pixels) exceeds limit of {most_pixels} pixels")
    if photometric not in (*MONOCHROME, *COLOURS, PALETTE):
        raise ValueError(f"its photometric interpretation is none of {', '.join((*MONOCHROME, *COLOURS, PALETTE))}")
    return photometric, bits


def _description(dataset: Dataset) -> tuple[str, int, int, int]:
    frames = int(dataset.get("NumberOfFrames") or 1)
    return str(dataset.PhotometricInterpretation), int(dataset.BitsStored), dataset.Rows * dataset.Columns, frames


def _stored(dataset: Dataset, bits: int) -> NDArray[Any]:
    """The levels as they are stored, decompressed; colours as RGB unless by palette."""
    syntax = _or("does not describe its pixels as DICOM asks", lambda: _syntax(dataset))
    name = syntax.name if syntax.name != str(syntax) else "a transfer syntax that is not in the standard"
    if syntax not in DECODERS or (syntax == JPEGExtended12Bit and bits > 8):
        raise ValueError(
            f"is compressed as {name} with {bits} bits, which cannot be decoded here; "
            "decompress it elsewhere first, for example with DCMTK's dcmdjpeg"
        )
    return _or(
        f"its pixel data cannot be decoded; they should be {name}",
        lambda: pixel_array(dataset, decoding_plugin=DECODERS[syntax]),
    )


def _syntax(dataset: Dataset) -> UID:
    """The transfer syntax; of a file without a header, the one that pydicom found out."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit = dataset.original_encoding[0]
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return UID(dataset.file_meta.TransferSyntaxUID)


def _displayed(dataset: Dataset, stored: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """A monochrome image as displayed, and whether its window could be used."""
    problem = "its lookup tables or its window cannot be applied"
    _or(problem, lambda: _drop_empty(dataset))
    levels = _or(problem, lambda: apply_modality_lut(stored, dataset))
    windowed = _or(problem, lambda: apply_voi_lut(levels, dataset, index=0))
    usable = windowed.min() < windowed.max() or levels.min() == levels.max()
    shown = (windowed if usable else levels).astype(np.float64)
    # both say the same thing: the standard asks for the shape INVERSE with MONOCHROME1
    inverse = dataset.PhotometricInterpretation == INVERTED or dataset.get("PresentationLUTShape") == "INVERSE"
    return (-shown if inverse else shown), bool(usable)


def _drop_empty(dataset: Dataset) -> None:
    """Take out what has no value, as the standard allows some tags to have none: pydicom would trip over it."""
    for tag in DISPLAY:
        if tag in dataset and dataset[tag].is_empty:
            del dataset[tag]


def _luma(dataset: Dataset, stored: NDArray[Any], photometric: str) -> NDArray[Any]:
    if photometric == PALETTE:
        stored = _or("its colour palette cannot be applied", lambda: apply_color_lut(stored, dataset))
    return np.asarray(stored[..., :3] @ np.array(LUMA))


def _facts(dataset: Dataset) -> dict[str, str]:
    """The facts that are there, and that say what the standard allows."""
    texts = {fact: _text(dataset, tag) for fact, (tag, _) in FACTS.items()}
    known = {fact: text for fact, text in texts.items() if re.fullmatch(FACTS[fact][1], text, re.ASCII)}
    return known | {"age": _years(known["age"])} if "age" in known else known


def _text(dataset: Dataset, tag: str) -> str:
    """The bytes of a tag as text, without pydicom's validation, whose complaints quote them."""
    value = dataset.get_item(tag).value if tag in dataset else b""
    return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else ""


def _years(age: str) -> str:
    return str(min(int(int(age[:-1]) / UNITS_A_YEAR[age[-1]]), OLDEST))
