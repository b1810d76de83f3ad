"""Decode DICOM files: the levels that a viewer would display, and the few facts that may be kept.

Of a file's tags only those named here are read at all. No value but the facts' own, each checked against what the
standard allows it to say, enters a result, a warning, a log or an error.
"""

import logging
import re
import threading
import warnings
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

import gdcm
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.filereader import read_dataset, read_preamble
from pydicom.pixels.processing import apply_color_lut
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

from xraylab.data import codestreams, dicom_display, pixels

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
MONOCHROME, PALETTE = ("MONOCHROME1", "MONOCHROME2"), "PALETTE COLOR"
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
LUMA = (0.299, 0.587, 0.114)
JPEG12_BITS = 12
META = 0x0002  # the group of the elements before the data set
MOST_INFLATED = 192 << 20  # bytes: the largest film of 16 bits, and some more
PIECE = 1 << 20
RLE_FEW = 8 << 20  # bytes, which can become 64 times as many

# of the defined terms of PS3.16, annex L, those of adults' and children's radiographs
BODY_PARTS = (
    "CHEST", "ABDOMEN", "ABDOMENPELVIS", "ANKLE", "ARM", "BREAST", "CALCANEUS", "CHESTABDOMEN", "CHESTABDPELVIS",
    "CLAVICLE", "COCCYX", "CSPINE", "CTSPINE", "ELBOW", "EXTREMITY", "FACIALBONES", "FEMUR", "FINGER", "FOOT",
    "FOREARM", "HAND", "HEAD", "HEADNECK", "HIP", "HUMERUS", "JAW", "KNEE", "LEG", "LSPINE", "LSSPINE", "MANDIBLE",
    "NECK", "ORBIT", "PATELLA", "PELVIS", "RIB", "SCAPULA", "SHOULDER", "SINUS", "SKULL", "SPINE", "SSPINE", "STERNUM",
    "TEETH", "TIBIA", "TLSPINE", "TMJ", "TOE", "TSPINE", "WHOLEBODY", "WRIST", "ZYGOMA",
)  # fmt: skip

# fact -> the tag that holds it, and what may leave of it
FACTS = {
    "sex": ("PatientSex", "M|F"),
    "age": ("PatientAge", r"\d{1,3}[YMWD]"),
    "view": ("ViewPosition", "PA|AP|LL|RL|LLD|RLD|LLO|RLO|LAT|LATERAL|MLO|CC|ML|LM"),
    "modality": ("Modality", "[A-Z]{2}"),
    "body_part": ("BodyPartExamined", "|".join(BODY_PARTS)),
    "burned_in": ("BurnedInAnnotation", "YES|NO"),
}
UNUSED_WINDOW = {"window": "unused"}
UNITS_A_YEAR = {"Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}
OLDEST = 90  # ages above 89 identify people (US 45 CFR 164.514)

DESCRIPTION = ["Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "BitsAllocated"]
DESCRIPTION += ["BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration", "PixelData"]
DESCRIPTION += ["ExtendedOffsetTable", "ExtendedOffsetTableLengths"]
DISPLAY = ["ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "VOILUTSequence", "VOILUTFunction"]
DISPLAY += ["WindowCenter", "WindowWidth", "PresentationLUTShape", "PixelPaddingValue", "PixelPaddingRangeLimit"]
DISPLAY += [f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue")]
DISPLAY += [f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")]
DISPLAY += [f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")]
TAGS = [*DESCRIPTION, *DISPLAY, *(tag for tag, _ in FACTS.values())]

NO_WARNINGS = ("ignore", None, Warning, re.compile("pydicom"), 0)
FILTERS = threading.Lock()
LOGGERS = ("pydicom", "pylibjpeg", "openjpeg")


@dataclass(frozen=True)
class Radiograph:
    """A decoded file: displayed levels, storage mode, facts, and padding."""

    levels: NDArray[np.uint16]
    """(height, width), white high, from 0 to 65535; those of padding are black."""
    mode: str
    facts: dict[str, str]
    padding: NDArray[np.bool_] | None
    """(height, width), true where the file says that there is no image; None where that is nowhere."""


def read(file: BinaryIO, most_pixels: int | None, reserve: pixels.Reserve = pixels.unbounded) -> Radiograph:
    """Read a file as a viewer displays it, its levels spread from the lowest to the highest.

    The levels have passed the modality LUT, the first VOI LUT or window, and the inversion that the file asks for. A
    window that leaves a single level is not used; then the fact `window` is `unused`. `reserve` is called with the
    number of pixels before they are decoded.
    Errors: ValueError that says what is wrong, without values from the file.
    """
    dataset = parse(file, TAGS)
    photometric, bits = _check(dataset, most_pixels)
    reserve(dataset.Rows * dataset.Columns)
    stored = _stored(dataset, bits)
    facts = _facts(dataset)
    mode = f"{photometric} {bits} bit"
    if photometric not in MONOCHROME:
        return Radiograph(_luma(dataset, stored, photometric), mode, facts, None)
    problem = "its lookup tables or its window cannot be applied"
    _or(problem, lambda: _drop_empty(dataset))
    padding = _or("its padding value is not a number", lambda: dicom_display.find_padding(dataset, stored))
    little_endian = _syntax(dataset) != ExplicitVRBigEndian
    levels, windowed = _or(problem, lambda: dicom_display.display(dataset, stored, little_endian))
    return Radiograph(levels, mode, facts | ({} if windowed else UNUSED_WINDOW), padding)


def read_facts(file: BinaryIO) -> dict[str, str]:
    """The facts of `Radiograph.facts`, but for `window`, without decoding the pixels. Errors: ValueError."""
    tags = [tag for tag, _ in FACTS.values()]
    return _facts(parse(file, tags, stop_before_pixels=True))


def parse(file: BinaryIO, tags: Sequence[str], stop_before_pixels: bool = False) -> Dataset:
    """Read these tags of a file. Errors: ValueError."""
    silence_pydicom()
    problem = "is not a complete DICOM file"
    start = file.tell()
    if _or(problem, lambda: _inflates_too_much(file)):
        raise ValueError(f"inflates to more than {MOST_INFLATED >> 20} MiB")
    file.seek(start)
    return _or(
        problem,
        lambda: dcmread(file, force=True, stop_before_pixels=stop_before_pixels, specific_tags=list(tags)),
    )


def _inflates_too_much(file: BinaryIO) -> bool:
    """Inflate a deflated file piece by piece, up to the limit, and forget it: pydicom has none."""
    if read_preamble(file, force=True) is None:
        return False
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != META)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return False
    inflate, size, packed = zlib.decompressobj(-zlib.MAX_WBITS), 0, file.read(PIECE)
    while packed and not inflate.eof and size <= MOST_INFLATED:
        size += len(inflate.decompress(packed, PIECE))
        packed = inflate.unconsumed_tail or file.read(PIECE)
    return size > MOST_INFLATED


def silence_pydicom() -> None:
    """Silence pydicom, whose warnings and logs quote values; filters and loggers are global, so this stays in force."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with FILTERS:
        if list(warnings.filters[:1]) != [NO_WARNINGS]:
            warnings.filterwarnings("ignore", module="pydicom")


def _or(problem: str, step: Callable[[], T]) -> T:
    """Return `step()`. Errors: ValueError(problem), without the step's own error as its context."""
    with suppress(Exception):
        return step()
    raise ValueError(problem)


def _check(dataset: Dataset, most_pixels: int | None) -> tuple[str, int]:
    """The photometric interpretation and the bits stored, where the file is one that can be read."""
    if "PixelData" not in dataset:
        raise ValueError("holds no pixel data, or is cut off before their end")
    photometric, bits, frames = _or("does not describe its pixels as DICOM asks", lambda: _description(dataset))
    if frames > 1:
        raise ValueError("holds more than one frame; save the one to use as a file of its own")
    most = most_pixels if _is_plain(dataset, photometric) else most_pixels and most_pixels // pixels.LONGER
    pixels.refuse_size(dataset.Columns, dataset.Rows, most)
    if photometric not in (*MONOCHROME, *COLOURS, PALETTE):
        raise ValueError(f"its photometric interpretation is none of {', '.join((*MONOCHROME, *COLOURS, PALETTE))}")
    if dataset.get("SamplesPerPixel") != (3 if photometric in COLOURS else 1):
        raise ValueError("does not describe its pixels as DICOM asks")
    return photometric, bits


def _is_plain(dataset: Dataset, photometric: str) -> bool:
    """Return whether pixels take few bytes to decode: gray of at most 16 bits, not colours or longer numbers."""
    return photometric in MONOCHROME and bool(dataset.get("BitsAllocated") in {8, 16})


def _description(dataset: Dataset) -> tuple[str, int, int]:
    frames = int(dataset.get("NumberOfFrames") or 1)
    if not dataset.Rows * dataset.Columns > 0:
        raise ValueError("no pixels")
    return str(dataset.PhotometricInterpretation), int(dataset.BitsStored), frames


def _stored(dataset: Dataset, bits: int) -> NDArray[Any]:
    """The levels as they are stored, decompressed; colours as RGB unless by palette."""
    syntax = _or("does not describe its pixels as DICOM asks", lambda: _syntax(dataset))
    name = syntax.name if syntax.name != str(syntax) else "a transfer syntax that is not in the standard"
    problem = f"its pixel data cannot be decoded; they should be {name}"
    if syntax == JPEGExtended12Bit and _is_jpeg12(dataset, bits):
        return _or(problem, lambda: _jpeg12(dataset, bits))
    if syntax not in DECODERS or (syntax == JPEGExtended12Bit and bits > 8):
        raise ValueError(
            f"is compressed as {name} with {bits} bits, which cannot be decoded here; "
            "decompress it elsewhere first, for example with DCMTK's dcmdjpeg"
        )
    if syntax.is_encapsulated and _or(problem, lambda: _expands(dataset, syntax)):
        raise ValueError("holds a compressed picture that is larger than the file says")
    stored = _or(problem, lambda: pixel_array(dataset, decoding_plugin=DECODERS[syntax]))
    colours = () if dataset.SamplesPerPixel == 1 else (dataset.SamplesPerPixel,)
    if stored.shape != (
        dataset.Rows,
        dataset.Columns,
        *colours,
    ):  # more data than one frame has, which pydicom returns, too
        raise ValueError("holds more than one frame; save the one to use as a file of its own")
    return stored


def _expands(dataset: Dataset, syntax: UID) -> bool:
    """Return whether decoding takes more than the pixels that the file says it has: decoders believe the stream."""
    stream, size = next(generate_frames(dataset.PixelData, number_of_frames=1)), dataset.Rows * dataset.Columns
    if syntax == RLELossless:
        return bool(len(stream) > RLE_FEW and codestreams.rle_size(stream) > size * dataset.BitsAllocated // 4)
    return bool(codestreams.pixels(stream) > size)


def _is_jpeg12(dataset: Dataset, bits: int) -> bool:
    """Gray levels without a sign, as JPEG knows none: what encoders make of negative levels differs."""
    gray = dataset.get("SamplesPerPixel") == 1 and dataset.get("PixelRepresentation") == 0
    return 8 < bits <= JPEG12_BITS and gray


def _jpeg12(dataset: Dataset, bits: int) -> NDArray[Any]:
    stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    return decode_jpeg12(stream, dataset.Rows, dataset.Columns, bits)


def decode_jpeg12(stream: bytes, rows: int, columns: int, bits: int) -> NDArray[np.uint16]:
    """Decode JPEG Extended of 12 bits to gray levels (rows, columns) of `bits` bits: pydicom does not ask GDCM to.

    The codec has 12 bits, of which fewer may be stored: what the compression lets overshoot is cut off, as GDCM would
    wrap it round. Errors: ValueError where the stream is another one.
    """
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, JPEG12_BITS, JPEG12_BITS, JPEG12_BITS - 1, 0))
    image.SetDataElement(_pixel_data(stream))
    decoded = image.GetBuffer().encode("utf-8", "surrogateescape")  # GDCM's bytes come as text
    levels = np.frombuffer(decoded, "<u2").reshape(rows, columns)
    return levels.clip(0, (1 << bits) - 1)


def _pixel_data(stream: bytes) -> Any:
    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(stream)
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    return element


def _syntax(dataset: Dataset) -> UID:
    """The transfer syntax; of a file without a header, the one that pydicom found out."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit = dataset.original_encoding[0]
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return UID(dataset.file_meta.TransferSyntaxUID)


def _drop_empty(dataset: Dataset) -> None:
    """Take out what has no value, as the standard allows some tags to have none: pydicom would trip over it."""
    for tag in DISPLAY:
        if tag in dataset and dataset[tag].is_empty:
            del dataset[tag]


def _luma(dataset: Dataset, stored: NDArray[Any], photometric: str) -> NDArray[np.uint16]:
    if photometric == PALETTE:
        stored = _or("its colour palette cannot be applied", lambda: apply_color_lut(stored, dataset))
    return pixels.spread(np.asarray(stored[..., :3] @ np.array(LUMA)))


def _facts(dataset: Dataset) -> dict[str, str]:
    """The facts that are there, and that say what the standard allows."""
    texts = {fact: _text(dataset, tag) for fact, (tag, _) in FACTS.items()}
    facts = {fact: text for fact, text in texts.items() if re.fullmatch(FACTS[fact][1], text, re.ASCII)}
    return facts | {"age": _years(facts["age"])} if "age" in facts else facts


def _text(dataset: Dataset, tag: str) -> str:
    """The bytes of a tag as text, without pydicom's validation, whose complaints quote them."""
    value = dataset.get_item(tag).value if tag in dataset else b""
    return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else ""


def _years(age: str) -> str:
    return str(min(int(int(age[:-1]) / UNITS_A_YEAR[age[-1]]), OLDEST))
