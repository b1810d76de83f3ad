"""A DICOM file is decoded to what a viewer displays, and tells nothing of the person but the facts asked for."""

import logging
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import gdcm
import numpy as np
import pytest
from dicom_files import by_gdcm, dataset, decode, levels, look_up, problem, spread
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from xraylab.data import dicom, pixels
from xraylab.errors import DataError


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    picture = decode(dataset(levels(), PhotometricInterpretation="MONOCHROME1"), tmp_path / "x.dcm")
    assert (picture.mode, picture.format) == ("MONOCHROME1 12 bit", "DICOM")
    np.testing.assert_allclose(picture.levels, 65535 - spread(levels()), atol=0.51)
    picture = decode(dataset(levels()), tmp_path / "x.dcm")
    assert picture.mode == "MONOCHROME2 12 bit"
    np.testing.assert_allclose(picture.levels, spread(levels()), atol=0.51)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_presentation_lut_shape_inverts_and_never_twice(photometric: str, tmp_path: Path) -> None:
    made = dataset(levels(), PhotometricInterpretation=photometric, PresentationLUTShape="INVERSE")
    np.testing.assert_allclose(decode(made, tmp_path / "x.dcm").levels, 65535 - spread(levels()), atol=0.51)


def test_of_two_windows_the_first_is_used(tmp_path: Path) -> None:
    picture = decode(dataset(levels(), WindowCenter=[1000, 3000], WindowWidth=[501, 11]), tmp_path / "x.dcm")
    # PS3.3 C.11.2.1.2: linear from centre - 0.5 - (width - 1) / 2 to centre - 0.5 + (width - 1) / 2
    np.testing.assert_allclose(picture.levels, spread(np.clip(levels().astype(float), 749.5, 1249.5)), atol=0.51)
    assert "window" not in picture.facts


def test_rescaling_comes_before_the_window(tmp_path: Path) -> None:
    made = dataset(levels(), RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=1000.5, WindowWidth=2001)
    shown = np.clip(levels() * 2.0 - 1000, 0, 2000)
    np.testing.assert_allclose(decode(made, tmp_path / "x.dcm").levels, spread(shown), atol=0.51)


def test_lookup_tables_of_modality_and_display_are_applied(tmp_path: Path) -> None:
    root = np.round(np.sqrt(np.arange(4096)) * 63).astype(np.uint16)
    for name, bits in (("ModalityLUTSequence", 16), ("VOILUTSequence", 12)):
        made = dataset(levels(), **{name: [look_up([4096, 0, bits], root)]})
        np.testing.assert_allclose(decode(made, tmp_path / "x.dcm").levels, spread(root[levels()]), atol=0.51)


def test_a_window_that_leaves_one_level_is_not_used(tmp_path: Path) -> None:
    picture = decode(dataset(levels(), WindowCenter=-3000, WindowWidth=100), tmp_path / "x.dcm")
    assert picture.facts == {"window": "unused"}
    np.testing.assert_allclose(picture.levels, spread(levels()), atol=0.51)


def test_display_tags_without_a_value_are_as_if_absent(tmp_path: Path) -> None:
    empty = {"RescaleSlope": None, "RescaleIntercept": None, "VOILUTFunction": "", "VOILUTSequence": []}
    made = dataset(levels(), WindowCenter=1000.5, WindowWidth=2001, **empty)
    np.testing.assert_allclose(decode(made, tmp_path / "x.dcm").levels, spread(np.minimum(levels(), 2000)), atol=0.51)


def test_bits_that_are_not_stored_do_not_count(tmp_path: Path) -> None:
    made = dataset(levels(10) | 0xF000, bits=10)
    np.testing.assert_allclose(decode(made, tmp_path / "x.dcm").levels, spread(levels(10)), atol=0.51)


def test_signed_pixels_are_ordered(tmp_path: Path) -> None:
    signed = levels().astype(np.int16) - 2048
    made = dataset(signed, PixelRepresentation=1)
    np.testing.assert_allclose(decode(made, tmp_path / "x.dcm").levels, spread(signed.astype(float)), atol=0.51)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_colours_become_luma(photometric: str, tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    stored = rgb if photometric == "RGB" else np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    made = dataset(stored, 8, SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation=photometric)
    picture = decode(made, tmp_path / "x.dcm")
    assert picture.mode == f"{photometric} 8 bit"
    expected = spread(rgb @ np.array([0.299, 0.587, 0.114]))
    np.testing.assert_allclose(picture.levels, expected, atol=0.51 if photometric == "RGB" else 4 * 257)


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    made = dataset(np.arange(256, dtype=np.uint8).reshape(8, 32), 8, PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        values = np.arange(255, -1, -1, dtype=np.uint16) * 257
        setattr(made, f"{colour}PaletteColorLookupTableData", values.tobytes())
    expected = 65535 - np.arange(256).reshape(8, 32) * 257.0
    np.testing.assert_allclose(decode(made, tmp_path / "x.dcm").levels, expected, atol=0.51)


BY_GDCM = {"JPEG-LS": "JPEGLSLossless", "JPEG lossless": "JPEGLosslessProcess14_1"}


@pytest.mark.parametrize("syntax", ["RLE", "JPEG 2000", "JPEG-LS", "JPEG lossless"])
def test_lossless_compression_changes_nothing(syntax: str, tmp_path: Path) -> None:
    made, path = dataset(levels(), PhotometricInterpretation="MONOCHROME1"), tmp_path / "x"
    match syntax:
        case "RLE":
            made.compress(RLELossless, encoding_plugin="pydicom")
        case "JPEG 2000":
            made.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    made.save_as(path, enforce_file_format=True)
    if syntax in BY_GDCM:
        by_gdcm(path, getattr(gdcm.TransferSyntax, BY_GDCM[syntax]))
    assert dcmread(path).file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_allclose(pixels.decode(path).levels, 65535 - spread(levels()), atol=0.51)


def test_a_file_is_dicom_by_its_content_or_its_suffix(tmp_path: Path) -> None:
    made = dataset(levels())
    assert decode(made, tmp_path / "x.png").format == "DICOM"
    for implicit in (True, False):
        bare = dataset(levels())
        del bare.file_meta
        bare.save_as(tmp_path / "x.dicom", implicit_vr=implicit, little_endian=True)
        np.testing.assert_allclose(pixels.decode(tmp_path / "x.dicom").levels, spread(levels()), atol=0.51)


def test_facts_are_what_the_standard_allows_and_no_more(tmp_path: Path) -> None:
    tags = {"PatientSex": "F", "ViewPosition": "PA", "Modality": "DX", "BurnedInAnnotation": "NO"}
    tags |= {"BodyPartExamined": "CHEST"}
    plain = {"sex": "F", "view": "PA", "modality": "DX", "body_part": "CHEST", "burned_in": "NO"}
    ages = {"045Y": "45", "089Y": "89", "090Y": "90", "101Y": "90", "030M": "2", "020D": "0", "030W": "0"}
    for stored, told in ages.items():
        made = dataset(levels(), PatientAge=stored, **tags)
        assert decode(made, tmp_path / "x.dcm").facts == plain | {"age": told}
        with (tmp_path / "x.dcm").open("rb") as file:
            assert dicom.read_facts(file) == plain | {"age": told}
    other = {"PatientSex": "O", "ViewPosition": "DOE JANE", "Modality": "SMITH", "BurnedInAnnotation": "JANE"}
    other |= {"BodyPartExamined": "JANE DOE"}
    assert decode(dataset(levels(), **other), tmp_path / "x.dcm").facts == {}


def test_what_cannot_be_displayed_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = dataset(levels())
    del nothing.PixelData
    film = dataset(np.stack([levels(), levels()]), NumberOfFrames=2)
    strange = dataset(levels(), PhotometricInterpretation="SMITH")
    broken = dataset(levels(), WindowCenter=100, WindowWidth=0)
    short = dataset(levels()[:20], Rows=48)
    for made, message in (
        (nothing, "holds no pixel data, or is cut off before their end"),
        (film, "holds more than one frame; save the one to use as a file of its own"),
        (
            strange,
            "its photometric interpretation is none of MONOCHROME1, MONOCHROME2, RGB, YBR_FULL, YBR_FULL_422, YBR_ICT, "
            "YBR_RCT, PALETTE COLOR",
        ),
        (broken, "its lookup tables or its window cannot be applied"),
        (short, "its pixel data cannot be decoded; they should be Explicit VR Little Endian"),
    ):
        made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
        assert problem(tmp_path / "x.dcm") == message
    (tmp_path / "x.dcm").write_text("no picture")
    assert problem(tmp_path / "x.dcm") == "holds no pixel data, or is cut off before their end"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    dataset(levels()).save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert problem(tmp_path / "x.dcm") == "Image size (3072 pixels) exceeds limit of 1000 pixels"


def test_a_transfer_syntax_without_a_decoder_is_named(tmp_path: Path) -> None:
    made = dataset(levels(8).astype(np.uint8), 8)
    made.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    for uid, name in (
        (b"1.2.840.10008.1.2.4.94", "JPIP Referenced"),
        (b"1.2.840.99999.19500101", "a transfer syntax that is not in the standard"),
    ):
        made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
        replace(tmp_path / "x.dcm", {b"1.2.840.10008.1.2.4.90": uid})
        assert problem(tmp_path / "x.dcm") == (
            f"is compressed as {name} with 8 bits, which cannot be decoded here; "
            "decompress it elsewhere first, for example with DCMTK's dcmdjpeg"
        )


SECRETS = ("SMITH", "19500101", "1.2.840.99999", "Elm Street", "555-1234")
BREAKS: dict[str, dict[bytes, bytes]] = {
    "nothing": {},
    "dates": {b"20200102": b"SMITH^JO", b"101010.5": b"SMITH^JO"},
    "age and view": {b"045Y": b"SMIT", b"LATERAL ": b"SMITH JO"},
    "character set": {b"ISO_IR 100": b"SMITH^JOHN"},
    "frames": {b"\x28\x00\x08\x00IS\x02\x001 ": b"\x28\x00\x08\x00IS\x02\x00SM"},
    "window": {b"1234.5": b"SMITH^"},
    "photometric": {b"MONOCHROME2 ": b"SMITH^JOHN  "},
    "transfer syntax": {b"1.2.840.10008.1.2.4.90": b"1.2.840.99999.1.2.4.90"},
    "pixel stream": {b"\xff\x4f\xff\x51": b"\xff\x4f\xff\x00"},
    "pixel data": {b"\xff\x93": b"\x00\x00", b"\xff\x52": b"\x00\x00"},
}


@pytest.mark.parametrize("broken", BREAKS)
def test_no_name_id_or_date_leaves_a_file(
    broken: str,
    tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    made = dataset(levels(), PatientName="SMITH^JOHN", PatientID="SMITH-19500101", PatientBirthDate="19500101")
    made.StudyDate, made.StudyTime, made.SpecificCharacterSet = "20200102", "101010.5", "ISO_IR 100"
    made.AccessionNumber, made.InstitutionName, made.PatientAddress = "19500101", "SMITH", "Elm Street 19500101"
    made.PatientTelephoneNumbers, made.PatientAge, made.ViewPosition = "555-1234", "045Y", "LATERAL"
    made.StudyInstanceUID, made.ImageComments = UID("1.2.840.99999.19500101"), "SMITH 19500101"
    made.NumberOfFrames, made.WindowCenter, made.WindowWidth = 1, "1234.5", "1000"
    made.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    replace(tmp_path / "x.dcm", BREAKS[broken])
    recwarn.clear()
    caplog.set_level(logging.DEBUG)
    capfd.readouterr()
    told = everything_told(tmp_path / "x.dcm")
    written = capfd.readouterr()
    told += [written.out, written.err, caplog.text, *(str(warning.message) for warning in recwarn)]
    assert [secret for secret in SECRETS for text in told if secret in text] == []
    assert (written.out, written.err, caplog.text, len(recwarn)) == ("", "", "", 0)


def everything_told(path: Path) -> list[str]:
    """What decoding gives, or the error with all that clings to it."""
    try:
        picture = pixels.decode(path)
    except DataError as error:
        caught = error
    else:
        return [picture.mode, picture.format, *picture.facts.values()]
    assert (caught.__cause__, caught.__suppress_context__) == (None, True)
    assert caught.__context__ is not None
    assert (caught.__context__.__cause__, caught.__context__.__context__) == (None, None)
    return [str(caught), repr(caught.__context__), *traceback.format_exception(caught)]


def test_pydicom_is_silent_whatever_others_do_to_the_filters(tmp_path: Path) -> None:
    made = dataset(levels(), SpecificCharacterSet="ISO_IR 100", PatientAge="045Y")
    made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    replace(tmp_path / "x.dcm", {b"ISO_IR 100": b"SMITH^JOHN"})
    pixels.decode(tmp_path / "x.dcm")
    with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("always")
        list(pool.map(pixels.decode, [tmp_path / "x.dcm"] * 40))
    assert caught == []


def test_names_and_dates_are_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Dataset] = []
    monkeypatch.setattr(dicom, "pixel_array", lambda read, **_: (seen.append(read), levels())[1])
    decode(dataset(levels(), PatientName="SMITH^JOHN", StudyDate="20200102", PatientAge="045Y"), tmp_path / "x.dcm")
    assert {"PatientAge", "PixelData"} <= set(seen[0].dir())
    assert set(seen[0].dir()) <= {*dicom.TAGS, "SpecificCharacterSet"}


def test_a_cut_file_is_an_error_wherever_it_is_cut(tmp_path: Path) -> None:
    for compressed in (False, True):
        made = dataset(levels())
        if compressed:
            made.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
        made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
        whole = (tmp_path / "x.dcm").read_bytes()
        for share in (0.0, 0.02, 0.1, 0.3, 0.6, 0.9, 0.99):
            (tmp_path / "x.dcm").write_bytes(whole[: int(share * len(whole))])
            assert problem(tmp_path / "x.dcm")


@pytest.mark.real
def test_real_files_are_displayed_as_pydicom_computes_it(real_data: Path) -> None:
    paths = sorted(path for path in (real_data / "dicom").iterdir() if "RG3_JPLY" not in path.name)
    assert len(paths) == 8
    for path in paths:
        file = dcmread(path)
        shown = apply_modality_lut(file.pixel_array, file).astype(float)
        windowed = apply_voi_lut(shown, file).astype(float)
        unused = windowed.min() == windowed.max()
        gray = spread(shown if unused else windowed) / 257
        inverted = 255 - gray if file.PhotometricInterpretation == "MONOCHROME1" else gray
        picture = pixels.decode(path)
        assert np.abs(pixels.gray(picture.levels) - inverted).max() <= 1
        assert (picture.facts.get("window") == "unused") == unused == path.name.startswith("DX_")


@pytest.mark.real
def test_a_real_twelve_bit_jpeg_is_what_its_lossless_sister_shows(real_data: Path) -> None:
    lossy, lossless = (pixels.decode(real_data / f"dicom/CR_EXTREMITY_RG3_{name}.dcm") for name in ("JPLY", "RLE"))
    assert (lossy.mode, lossy.facts) == (lossless.mode, lossless.facts)
    difference = np.abs(lossy.levels / 65535 - lossless.levels / 65535)
    assert (difference.max() < 0.05, difference.mean() < 0.002) == (True, True)


def test_eight_bit_jpeg_is_decoded(tmp_path: Path) -> None:
    stream = BytesIO()
    gradient = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))
    Image.fromarray(gradient).save(stream, "JPEG", quality=95)
    made = dataset(gradient, 8)
    made.PixelData = encapsulate([stream.getvalue()])
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    made["PixelData"].VR = "OB"
    assert np.abs(decode(made, tmp_path / "x.dcm").levels / 257 - spread(gradient) / 257).max() < 4


def replace(path: Path, changes: dict[bytes, bytes]) -> None:
    """Change bytes of a file, as no library would let one."""
    data = path.read_bytes()
    for old, new in changes.items():
        assert len(old) == len(new)
        data = data.replace(old, new)
    path.write_bytes(data)
