"""Lookup tables, padding and 12-bit JPEG of a DICOM file, against readings of the standard of our own."""

import base64
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import dataset, decode, levels, look_up, problem, spread
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGExtended12Bit

from xraylab.data import dicom, pixels, prepare
from xraylab.data.prepare import Preparation


def by_the_standard(stored: NDArray, first: int, entries: list[int], slope: str = "1", intercept: str = "0") -> NDArray:
    """PS3.3 C.11.1.1 and C.11.2.1.1, level by level and in exact numbers: rescale, then the table."""

    def shown(level: int) -> int:
        value = int(level) * Fraction(slope) + Fraction(intercept)
        if value <= first:
            return entries[0]
        if value >= first + len(entries) - 1:
            return entries[-1]
        return entries[int(value - first + Fraction(1, 2))]

    known = {level: shown(level) for level in np.unique(stored).tolist()}
    return np.vectorize(known.__getitem__)(stored)


def sigmoid(count: int, bits: int) -> list[int]:
    """Entries that rise from 0 to the highest of `bits`, slowly at both ends."""
    return np.round((1 - np.cos(np.pi * np.arange(count) / (count - 1))) / 2 * (2**bits - 1)).astype(int).tolist()


def table(descriptor: list[int], data: Any, vr: str = "US", value: str = "US") -> Dataset:
    """`vr`: that of the descriptor; `value`: that of the data."""
    made = Dataset()
    made.add_new("LUTDescriptor", vr, descriptor)
    made.add_new("LUTData", value, data)
    made.ModalityLUTType = "US"
    return made


@pytest.mark.parametrize("sequence", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_entries_of_any_depth_are_looked_up_with_any_index(sequence: str, bits: int, tmp_path: Path) -> None:
    entries = sigmoid(4000, bits)  # fewer than there are levels: the highest take the last one
    made = dataset(levels(), **{sequence: [table([4000, 50, bits], entries)]})
    expected = spread(by_the_standard(levels(), 50, entries))
    np.testing.assert_allclose(decode(made, tmp_path / "x.dcm").levels, expected, atol=0.51)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("form", ["US", "OW", "packed US", "packed OW"])
def test_entries_are_found_however_they_are_packed(form: str, syntax: Any, tmp_path: Path) -> None:
    big = syntax == ExplicitVRBigEndian
    entries = sigmoid(4095, 8)  # an odd number: two to a word leave half a word
    packed = np.array([*entries, 0], np.uint8).view("<u2")
    words = packed if form.startswith("packed") else np.array(entries, "<u2")
    data = words.astype(">u2" if big else "<u2").tobytes() if form.endswith("OW") else words.tolist()
    stored = levels()
    made = dataset(stored, VOILUTSequence=[table([4095, 0, 8], data, value=form[-2:])])
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = stored.astype(">u2" if big else "<u2").tobytes()
    made["PixelData"].VR = "OW"
    expected = spread(by_the_standard(stored, 0, entries))
    np.testing.assert_allclose(decode(made, tmp_path / "x.dcm").levels, expected, atol=0.51)


@pytest.mark.parametrize(("descriptor", "vr"), [([4096, -2048], "SS"), ([4096, 65536 - 2048], "US")])
@pytest.mark.parametrize("bits", [8, 16])
def test_the_first_value_mapped_may_be_negative(descriptor: list[int], vr: str, bits: int, tmp_path: Path) -> None:
    entries, signed = sigmoid(4096, bits), levels().astype(np.int16) - 2048
    voi = [table([*descriptor, bits], entries, vr)]
    expected = spread(by_the_standard(signed, -2048, entries))
    made = dataset(signed, PixelRepresentation=1, VOILUTSequence=voi)
    np.testing.assert_allclose(decode(made, tmp_path / "x.dcm").levels, expected, atol=0.51)
    rescaled = dataset(levels(), RescaleSlope=1, RescaleIntercept=-2048, VOILUTSequence=voi)
    np.testing.assert_allclose(decode(rescaled, tmp_path / "x.dcm").levels, expected, atol=0.51)
    modality = dataset(signed, PixelRepresentation=1, ModalityLUTSequence=voi)
    np.testing.assert_allclose(decode(modality, tmp_path / "x.dcm").levels, expected, atol=0.51)


@pytest.mark.parametrize("sequence", ["ModalityLUTSequence", "VOILUTSequence"])
def test_no_entries_are_65536_and_a_first_value_above_32767_is_no_negative_one(sequence: str, tmp_path: Path) -> None:
    deep = levels(16)
    entries = np.roll(sigmoid(65536, 16), 7).tolist()
    made = dataset(deep, 16, **{sequence: [table([0, 0, 16], entries)]})
    expected = spread(by_the_standard(deep, 0, entries))
    np.testing.assert_allclose(decode(made, tmp_path / "x.dcm").levels, expected, atol=0.51)
    made = dataset(deep, 16, **{sequence: [table([20000, 40000, 16], sigmoid(20000, 16))]})
    expected = spread(by_the_standard(deep, 40000, sigmoid(20000, 16)))
    np.testing.assert_allclose(decode(made, tmp_path / "x.dcm").levels, expected, atol=0.51)
    made = dataset(levels(15).astype(np.int16), 16, PixelRepresentation=1)
    setattr(made, sequence, [table([40000, -5000, 16], sigmoid(40000, 16), "SS")])
    expected = spread(by_the_standard(levels(15), -5000, sigmoid(40000, 16)))
    np.testing.assert_allclose(decode(made, tmp_path / "x.dcm").levels, expected, atol=0.51)


@pytest.mark.parametrize(("slope", "intercept"), [("0.29", "0"), ("0.3", "-100.25"), ("-0.5", "300"), ("1.7", "-2048")])
def test_fractions_after_a_rescale_take_the_nearest_entry(slope: str, intercept: str, tmp_path: Path) -> None:
    entries = sigmoid(1000, 8)
    voi = [table([1000, -50, 8], entries, "SS")]
    made = dataset(levels(), RescaleSlope=slope, RescaleIntercept=intercept, VOILUTSequence=voi)
    expected = spread(by_the_standard(levels(), -50, entries, slope, intercept))
    np.testing.assert_allclose(decode(made, tmp_path / "x.dcm").levels, expected, atol=0.51)


def test_both_tables_are_applied_and_a_table_comes_before_a_window(tmp_path: Path) -> None:
    first, second = sigmoid(4096, 12), sigmoid(4096, 8)[::-1]
    made = dataset(
        levels(), ModalityLUTSequence=[look_up([4096, 0, 12], np.array(first))], WindowCenter=5, WindowWidth=2
    )
    made.VOILUTSequence = [table([4096, 0, 8], second)]
    expected = spread(by_the_standard(by_the_standard(levels(), 0, first), 0, second))
    np.testing.assert_allclose(decode(made, tmp_path / "x.dcm").levels, expected, atol=0.51)


def test_a_table_with_too_few_entries_is_an_error(tmp_path: Path) -> None:
    made = dataset(levels(), VOILUTSequence=[table([4096, 0, 8], sigmoid(2000, 8))])
    made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert problem(tmp_path / "x.dcm") == "its lookup tables or its window cannot be applied"


EMPTY = np.zeros((48, 64), dtype=bool)
EMPTY[:, :25] = True  # 39 % of the image
DISPLAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rescale": {"RescaleSlope": -1, "RescaleIntercept": 1000},
    "window": {"WindowCenter": 500, "WindowWidth": 600},
    "window after a rescale": {"RescaleSlope": 2, "RescaleIntercept": -9, "WindowCenter": 900, "WindowWidth": 800},
    "modality table": {"ModalityLUTSequence": [table([1024, 0, 16], sigmoid(1024, 16))]},
    "display table": {"VOILUTSequence": [table([1024, 0, 8], sigmoid(1024, 8))]},
    "falling table": {"VOILUTSequence": [table([1024, 0, 8], sigmoid(1024, 8)[::-1])]},
    "useless window": {"WindowCenter": -1990, "WindowWidth": 40},  # would tell padding from the rest, and nothing else
}


def padded(value: int, signed: bool) -> NDArray:
    """All levels from 0 to 1023 but `value`, and `value` where it is empty."""
    inside = np.linspace(0, 1023, 48 * 64).astype(np.int16 if signed else np.uint16).reshape(48, 64)
    inside[inside == value] = 7
    return np.where(EMPTY, value, inside).astype(inside.dtype)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("display", DISPLAYS)
@pytest.mark.parametrize(("value", "signed"), [(-2000, True), (0, False), (1023, False), (60000, False)])
def test_padding_is_black_and_does_not_stretch_the_levels(
    value: int, signed: bool, display: str, photometric: str, tmp_path: Path
) -> None:
    stored, tags = padded(value, signed), {"PhotometricInterpretation": photometric, **DISPLAYS[display]}
    made = dataset(stored, 16, PixelRepresentation=int(signed), **tags)
    made.add_new("PixelPaddingValue", "SS" if signed else "US", value)
    picture = decode(made, tmp_path / "x.dcm")
    # the same image without its empty part says what the rest must look like
    alone = dataset(np.ascontiguousarray(stored[:, 25:]), 16, PixelRepresentation=int(signed), **tags)
    expected = decode(alone, tmp_path / "y.dcm")
    assert (picture.levels[EMPTY] == 0).all()
    np.testing.assert_array_equal(picture.levels[:, 25:], expected.levels)
    assert (expected.levels.min(), expected.levels.max()) == (0, 65535)
    np.testing.assert_array_equal(picture.padding, EMPTY)
    assert picture.facts == expected.facts


@pytest.mark.parametrize(("value", "limit"), [(-2000, -1990), (-1990, -2000)])
def test_a_range_of_values_may_be_padding(value: int, limit: int, tmp_path: Path) -> None:
    stored = padded(-2000, signed=True)
    stored[EMPTY] = np.linspace(-2000, -1990, int(EMPTY.sum())).astype(np.int16)
    stored[0, -2:] = -1989, -2001  # on either side of the range
    made = dataset(stored, 16, PixelRepresentation=1)
    made.add_new("PixelPaddingValue", "SS", value)
    made.add_new("PixelPaddingRangeLimit", "SS", limit)
    picture = decode(made, tmp_path / "x.dcm")
    np.testing.assert_array_equal(picture.padding, EMPTY)
    np.testing.assert_allclose(picture.levels[~EMPTY], spread(stored[~EMPTY].astype(float)), atol=0.51)


def test_a_negative_padding_value_is_known_where_it_is_stored_as_unsigned(tmp_path: Path) -> None:
    made = dataset(padded(-2000, signed=True), 16, PixelRepresentation=1)
    made.add_new("PixelPaddingValue", "US", 65536 - 2000)
    np.testing.assert_array_equal(decode(made, tmp_path / "x.dcm").padding, EMPTY)


def test_a_value_that_no_pixel_has_and_one_that_is_empty_change_nothing(tmp_path: Path) -> None:
    plain = decode(dataset(levels()), tmp_path / "x.dcm")
    for value in (60000, None):
        made = dataset(levels())
        made.add_new("PixelPaddingValue", "US", value)
        picture = decode(made, tmp_path / "x.dcm")
        np.testing.assert_array_equal(picture.levels, plain.levels)
        assert picture.padding is None


def test_an_image_of_padding_alone_is_black(tmp_path: Path) -> None:
    made = dataset(np.full((48, 64), 7, np.uint16))
    made.add_new("PixelPaddingValue", "US", 7)
    picture = decode(made, tmp_path / "x.dcm")
    assert (picture.levels == 0).all()
    shown = prepare.prepare(picture.levels, Preparation(True, False, (1, 99), 2.0, 1.0), picture.padding)
    assert (shown == 0).all()


def test_several_padding_values_are_an_error(tmp_path: Path) -> None:
    made = dataset(levels())
    made.add_new("PixelPaddingValue", "US", [7, 8])
    made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert problem(tmp_path / "x.dcm") == "its padding value is not a number"


@pytest.mark.parametrize("photometric", ["RGB", "PALETTE COLOR"])
def test_colours_have_no_padding(photometric: str, tmp_path: Path) -> None:
    if photometric == "RGB":
        rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        made = dataset(rgb, 8, SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation=photometric)
    else:
        made = dataset(np.arange(256, dtype=np.uint8).reshape(8, 32), 8, PhotometricInterpretation=photometric)
        for colour in ("Red", "Green", "Blue"):
            setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
            values = np.arange(255, -1, -1, dtype=np.uint16) * 257
            setattr(made, f"{colour}PaletteColorLookupTableData", values.tobytes())
    plain = decode(made, tmp_path / "x.dcm")
    made.add_new("PixelPaddingValue", "US", 0)
    picture = decode(made, tmp_path / "x.dcm")
    np.testing.assert_array_equal(picture.levels, plain.levels)
    assert picture.padding is None


@pytest.mark.parametrize("crop", [True, False])
def test_padding_has_no_part_in_percentiles_and_stays_black(crop: bool, tmp_path: Path) -> None:
    inside = np.random.default_rng(0).integers(100, 900, (48, 39)).astype(np.int16)
    stored = np.full((48, 64), -2000, np.int16)
    stored[:, 25:] = inside
    stored[20:30, 40:50] = -2000  # and a hole, which no border is
    made = dataset(stored, 16, PixelRepresentation=1)
    made.add_new("PixelPaddingValue", "SS", -2000)
    made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    window, size = Preparation(crop, False, (10, 90), None, 0.0), pixels.decode(tmp_path / "x.dcm").levels.shape
    picture = pixels.decode(tmp_path / "x.dcm")
    shown = prepare.prepare(picture.levels, window, picture.padding)
    kept = np.s_[:, 25:] if crop else np.s_[:, :]
    seen = stored != -2000
    low, high = np.percentile(stored[seen], [10, 90])
    expected = np.where(seen, ((stored - low) / (high - low)).clip(0, 1) * 255, 0)[kept]
    assert (shown.shape == size) != crop
    np.testing.assert_allclose(shown, expected, atol=0.6)
    sharpened = prepare.prepare(picture.levels, Preparation(crop, False, (10, 90), 3.0, 2.0), picture.padding)
    assert (sharpened[~seen[kept]] == 0).all()


def test_the_cached_image_leaves_padding_out_too(tmp_path: Path) -> None:
    made = dataset(padded(-2000, signed=True), 16, PixelRepresentation=1)
    made.add_new("PixelPaddingValue", "SS", -2000)
    made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    plain, window = (Preparation(False, False, percentiles, None, 0.0) for percentiles in (None, (0, 100)))
    read = [prepare.read(tmp_path / "x.dcm", how, 64, "squash") for how in (plain, window)]
    np.testing.assert_array_equal(read[0], read[1])
    assert (read[0][:, :25] == 0).all()
    assert (
        prepare.read(tmp_path / "x.dcm", Preparation(False, False, (40, 60), None, 0.0), 64, "squash")[:, :25] == 0
    ).all()


# 16 x 16 levels of 10 bits with sharp edges, compressed by libjpeg-turbo 3 as 12 bits; and what it makes of them,
# overshoots cut off at 1023
STREAM = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBk"
    "eFxlZ2P/wQALDAAQABABAREA/8QAFgABAQEAAAAAAAAAAAAAAAAABgUK/8QAIhAAAQQCAgIDAQAAAAAAAAAAAgEDBAUGEQcSCBMAFCIW/9oACAEB"
    "AAA/AMc3g9Q3HEvKtrecnVM/CaiRROw2Z+Rxjro7sgn2DFoXH0EVNRbcJBRdqgEutIvxbm9TZXvl+zn9NXy7HCxuKuUWRRGSerkZZCOjziyRRW+j"
    "atuIRdtCoFvWl+JPIDOMc8psHgYXwjY/1OQwLNu3kw/Q5C9cQGnWic7yRbBdG+0nVCUv1vWkVUr4JlNNhXAB8F5HM+lyS5XzawaX1G5uTMJ0owe8"
    "EVn9i+0u++h7fpU0uv/Z"
)
DECOMPRESSED = "3a990c34ac9b78ccf6b398dfe6d5deae0e7f8b4751c05b1634e8a295fbc75b28"
MOST = 62


def jpeg12_file(**tags: Any) -> Dataset:
    made = dataset(np.zeros((16, 16), np.uint16), 10, **tags)
    made.PixelData = encapsulate([STREAM])
    made.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    made["PixelData"].VR = "OB"
    return made


def test_twelve_bit_jpeg_is_what_another_codec_makes_of_it(tmp_path: Path) -> None:
    decoded = dicom.decode_jpeg12(STREAM, 16, 16, 10)
    assert sha256(decoded.astype("<u2").tobytes()).hexdigest() == DECOMPRESSED
    y, x = np.mgrid[:16, :16]
    original = np.where((x // 5 + y // 7) % 2, 1023, 40 + 16 * x)
    assert np.abs(decoded.astype(int) - original).max() <= MOST
    picture = decode(jpeg12_file(PhotometricInterpretation="MONOCHROME1"), tmp_path / "x.dcm")
    np.testing.assert_allclose(picture.levels, 65535 - spread(decoded.astype(float)), atol=0.51)


@pytest.mark.parametrize("change", ["signed", "size", "stream"])
def test_another_twelve_bit_jpeg_is_an_error(change: str, tmp_path: Path) -> None:
    made = jpeg12_file(PixelRepresentation=int(change == "signed"), Rows=32 if change == "size" else 16)
    made.PixelData = encapsulate([STREAM[:100]]) if change == "stream" else made.PixelData
    made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    if change == "signed":
        expected = (
            "is compressed as JPEG Extended (Process 2 and 4) with 10 bits, which cannot be decoded here; "
            "decompress it elsewhere first, for example with DCMTK's dcmdjpeg"
        )
    else:
        expected = "its pixel data cannot be decoded; they should be JPEG Extended (Process 2 and 4)"
    assert problem(tmp_path / "x.dcm") == expected
