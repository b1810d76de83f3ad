"""Targets of bench/fuzz.py: images of all formats, DICOM, and all that is done to a film before the network sees it."""

import io
from dataclasses import fields

import cv2
import fuzz_mutations as mutations
import numpy as np
from fuzz_mutations import Target
from PIL import Image
from pydicom import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from xraylab.data import dicom, headers, image_facts, pixels, prepare
from xraylab.inference.warnings import ImageFacts
from xraylab.predict import dicom_header

SIDES = (12, 16)
EVERYTHING = prepare.Preparation(True, True, (0.5, 99.5), 2.0, 0.5)
assert len(fields(prepare.Preparation)) == 5  # a new step of preparation is to be tried, too


def decode(data: bytes) -> pixels.Picture:
    return pixels.decode_stream(io.BytesIO(data), "film")


def decode_dicom(data: bytes) -> pixels.Picture:
    """As DICOM, whatever the first bytes say, as the suffix makes it."""
    return pixels.decode_stream(io.BytesIO(data), "film.dcm")


def read_headers(data: bytes) -> object:
    """Who and what a film is, as the index and predict-images read it."""
    file = io.BytesIO(data)
    person = headers.read_stream(file, "film.dcm", b"salt", False)
    file.seek(0)
    header = dicom_header.read(file, True)
    return person, dicom_header.sop_instance_uid(header)


def film(data: bytes) -> object:
    """Everything that index, cache, predict-images and the server do to a film."""
    picture = decode(data)
    image_facts.thumbnail(pixels.gray(picture.levels))
    return ImageFacts.of(picture), prepare.from_picture(picture, EVERYTHING, 64, "squash")


def gray_levels(shape: tuple[int, int] = SIDES) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def saved(mode: str, format_: str, **options: object) -> bytes:
    """A small picture of a mode in a format."""
    image = Image.fromarray(gray_levels())
    if mode in ("I;16", "I", "F"):
        image = Image.fromarray(gray_levels().astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]) * 200)
    elif mode != "L":
        image = image.convert(mode)
    written = io.BytesIO()
    image.save(written, format_, **options)
    return written.getvalue()


def png_seeds() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = [saved(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    return [*plain, saved("L", "PNG", exif=exif), saved("P", "PNG", transparency=3)]


def jpeg_seeds() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 3
    return [*(saved(mode, "JPEG", progressive=way) for mode in ("L", "RGB", "CMYK") for way in (False, True)),
            saved("L", "JPEG", exif=exif)]  # fmt: skip


def tiff_seeds() -> list[bytes]:
    compressions = (None, "tiff_lzw", "tiff_adobe_deflate", "packbits")
    plain = [saved(mode, "TIFF", compression=each) for mode in ("L", "RGB", "I;16", "P") for each in compressions]
    others = [saved(mode, "TIFF") for mode in ("F", "I", "CMYK")]
    return [*plain, *others, saved("1", "TIFF", compression="group4"), saved("L", "TIFF", compression="jpeg")]


def webp_seeds() -> list[bytes]:
    return [saved(mode, "WEBP", lossless=way) for mode in ("L", "RGB", "RGBA") for way in (False, True)]


def bmp_seeds() -> list[bytes]:
    return [saved(mode, "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")]


def dicom_seeds() -> list[bytes]:
    """Gray and coloured films of most transfer syntaxes, with windows, lookup tables, padding and a palette."""
    deep = gray_levels().astype(np.uint16) * 16
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 16], bytes(512)
    table["LUTData"].VR = "OW"
    window = {"WindowCenter": "1000", "WindowWidth": "500", "RescaleSlope": "2", "RescaleIntercept": "-100"}
    rgb = np.stack([gray_levels()] * 3, axis=-1)
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    palette: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name in ("Red", "Green", "Blue"):
        palette |= {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16]}
        palette |= {f"{name}PaletteColorLookupTableData": bytes(512)}
    return [
        dicom_file(deep, 12, **window),
        dicom_file(deep, 12, VOILUTSequence=[table], PixelPaddingValue=0, PixelPaddingRangeLimit=9),
        dicom_file(deep.astype(np.int16), 16, PixelRepresentation=1, PhotometricInterpretation="MONOCHROME1"),
        dicom_file(deep, 12, ImplicitVRLittleEndian),
        dicom_file(deep.byteswap(), 12, ExplicitVRBigEndian),
        dicom_file(deep, 12, DeflatedExplicitVRLittleEndian),
        dicom_file(rgb, 8, **colour),
        dicom_file(gray_levels(), 8, **palette),
        dicom_file(gray_levels(), 8, JPEGBaseline8Bit, PixelData=encapsulate([jpeg_seeds()[0]])),
        dicom_file(gray_levels(), 8, JPEG2000Lossless, PixelData=encapsulate([_jpeg2000()])),
        *(_compressed(deep, 12, syntax) for syntax in (RLELossless, JPEGLSLossless)),
    ]


def dicom_file(stored: np.ndarray, bits: int, syntax: UID = ExplicitVRLittleEndian, **tags: object) -> bytes:
    written = io.BytesIO()
    dicom_dataset(stored, bits, syntax, **tags).save_as(written, enforce_file_format=True)
    return written.getvalue()


def dicom_dataset(stored: np.ndarray, bits: int, syntax: UID, **tags: object) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.SOPClassUID, made.SOPInstanceUID = UID("1.2.840.10008.5.1.4.1.1.1.1"), UID("1.2.3")
    made.PatientID, made.PatientSex, made.PatientAge, made.Modality = "7", "F", "040Y", "DX"
    made.Rows, made.Columns = stored.shape[:2]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit = stored.dtype.itemsize * 8, bits, bits - 1
    made.PixelData = stored.tobytes()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def _compressed(stored: np.ndarray, bits: int, syntax: UID) -> bytes:
    made, written = dicom_dataset(stored, bits, ExplicitVRLittleEndian), io.BytesIO()
    made.compress(syntax, generate_instance_uid=False)
    made.save_as(written, enforce_file_format=True)
    return written.getvalue()


def _jpeg2000() -> bytes:
    written = io.BytesIO()
    Image.fromarray(gray_levels()).save(written, "JPEG2000", no_jp2=True)
    return written.getvalue()


def film_seeds() -> list[bytes]:
    """A film of each kind, large enough for borders and lungs."""
    large = gray_levels((64, 80))
    large[:9] = 0
    return [*(_encoded(large, suffix) for suffix in (".png", ".jpg", ".bmp")), dicom_file(large.astype(np.uint16), 8)]


def _encoded(levels: np.ndarray, suffix: str) -> bytes:
    return cv2.imencode(suffix, levels)[1].tobytes()


PNG = (mutations.change_chunk, mutations.change_png_header, mutations.add_png_chunk)
DICOM = (
    mutations.change_element, mutations.set_element, mutations.set_element, mutations.nest_sequences,
    mutations.change_fragments,
)  # fmt: skip
TARGETS = {
    "png": Target(decode, png_seeds, PNG),
    "jpeg": Target(decode, jpeg_seeds, (mutations.change_segment,)),
    "tiff": Target(decode, tiff_seeds, (mutations.change_tiff_tag,)),
    "webp": Target(decode, webp_seeds),
    "bmp": Target(decode, bmp_seeds),
    "dicom": Target(decode_dicom, dicom_seeds, DICOM),
    "dicom_header": Target(read_headers, dicom_seeds, DICOM),
    "film": Target(film, film_seeds, (*PNG, mutations.change_segment, *DICOM)),
}
dicom.silence_pydicom()
