"""Files that say one thing and hold another, or would cost much memory or time, are refused by name in one line."""

import io
import resource
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dicom_files import dataset, levels, problem
from numpy.typing import NDArray
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from xraylab.data import codestreams, dicom, headers, image_facts, index, lungs, pixels, prepare
from xraylab.errors import DataError
from xraylab.inference.warnings import ImageFacts
from xraylab.predict import dicom_header

BOMB = zlib.compress(bytes(50 << 20), 1)
TWO_FRAMES = "holds more than one frame; save the one to use as a file of its own"
UNDESCRIBED = "does not describe its pixels as DICOM asks"


def compressed(picture: NDArray[np.uint8], kind: str) -> bytes:
    written = io.BytesIO()
    Image.fromarray(picture).save(written, kind, **({"no_jp2": True} if kind == "JPEG2000" else {}))
    return written.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_more_frames_than_the_file_says_are_named(kind: str, tmp_path: Path) -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    made = dataset(gray, 8, PixelData=encapsulate([compressed(gray, kind)] * 2))
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if kind == "JPEG" else JPEG2000Lossless
    made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert problem(tmp_path / "x.dcm") == TWO_FRAMES


@pytest.mark.parametrize("tags", [{"PhotometricInterpretation": "RGB"}, {"PhotometricInterpretation": "YBR_FULL"}])
def test_colours_of_one_sample_are_no_picture(tags: dict[str, str], tmp_path: Path) -> None:
    dataset(levels(8).astype(np.uint8), 8, **tags).save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert problem(tmp_path / "x.dcm") == UNDESCRIBED


def test_gray_of_three_samples_is_no_picture(tmp_path: Path) -> None:
    made = dataset(np.zeros((16, 16, 3), np.uint8), 8, SamplesPerPixel=3, PlanarConfiguration=0)
    made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert problem(tmp_path / "x.dcm") == UNDESCRIBED


def test_a_file_that_pydicom_stumbles_over_is_left_out_of_the_index(tmp_path: Path) -> None:
    """Its pixels can be read, and the elements before them cannot, or the other way round."""
    dataset(levels()).save_as(tmp_path / "good.dcm", enforce_file_format=True)
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    made = dataset(gray, 8, PixelData=encapsulate([compressed(gray, "JPEG")] * 2))
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    made.save_as(tmp_path / "two.dcm", enforce_file_format=True)
    table = pd.DataFrame({"path": ["two.dcm", "good.dcm"], **dict.fromkeys(index.HEADER, "")})
    measured = index.measure(tmp_path, table)
    assert list(measured.table["path"]) == ["good.dcm"]
    assert measured.unreadable == [f"{tmp_path / 'two.dcm'}: {TWO_FRAMES}"]


def test_a_header_that_cannot_be_read_is_an_error_with_the_name(tmp_path: Path) -> None:
    made = dataset(levels(), PatientID="7")
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    (tmp_path / "x.dcm").write_bytes((tmp_path / "x.dcm").read_bytes()[:-50])
    with pytest.raises(DataError, match=r"x\.dcm: is not a complete DICOM file$"):
        headers.read(tmp_path / "x.dcm", b"", False)


def test_a_deflated_file_is_inflated_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataset(np.zeros((1500, 1500), np.uint16))
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert (tmp_path / "x.dcm").stat().st_size < 10_000
    assert pixels.decode(tmp_path / "x.dcm").levels.shape == (1500, 1500)
    monkeypatch.setattr(dicom, "MOST_INFLATED", 4 << 20)
    assert problem(tmp_path / "x.dcm") == "inflates to more than 4 MiB"
    with pytest.raises(DataError, match="inflates to more than 4 MiB"):
        headers.read(tmp_path / "x.dcm", b"", False)


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_a_compressed_picture_that_is_larger_than_said_is_not_decoded(kind: str, tmp_path: Path) -> None:
    made = dataset(np.zeros((16, 16), np.uint8), 8)
    made.PixelData = encapsulate([compressed(np.zeros((900, 800), np.uint8), kind)])
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if kind == "JPEG" else JPEG2000Lossless
    made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert problem(tmp_path / "x.dcm") == "holds a compressed picture that is larger than the file says"


def test_run_lengths_that_become_more_than_the_picture_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom, "RLE_FEW", 0)
    made = dataset(np.zeros((16, 16), np.uint8), 8)
    runs = struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\0" * 100
    made.PixelData = encapsulate([runs])
    made.file_meta.TransferSyntaxUID = RLELossless
    made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert codestreams.rle_size(runs) == 128 * 100
    assert problem(tmp_path / "x.dcm") == "holds a compressed picture that is larger than the file says"


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_the_size_of_a_stream_is_what_the_decoder_makes_of_it(kind: str) -> None:
    assert codestreams.pixels(compressed(np.zeros((31, 17), np.uint8), kind)) == 31 * 17


def test_colours_and_long_numbers_have_a_lower_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2560)
    Image.fromarray(np.zeros((20, 20), np.float32)).save(tmp_path / "x.tif")
    assert problem(tmp_path / "x.tif") == "Image size (400 pixels) exceeds limit of 320 pixels"
    Image.fromarray(np.zeros((20, 20), np.uint16)).save(tmp_path / "x.tif")
    assert pixels.decode(tmp_path / "x.tif").levels.shape == (20, 20)
    dataset(np.zeros((20, 20), np.uint32), 32).save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert problem(tmp_path / "x.dcm") == "Image size (400 pixels) exceeds limit of 320 pixels"


def test_a_picture_that_is_long_and_thin_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((1, 31), np.uint8)).save(tmp_path / "x.png")
    assert problem(tmp_path / "x.png") == "is 31 x 1 pixels: no X-ray is 30 times as long as wide"
    dataset(np.zeros((62, 2), np.uint16)).save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert problem(tmp_path / "x.dcm") == "is 2 x 62 pixels: no X-ray is 30 times as long as wide"
    Image.fromarray(np.zeros((1, 30), np.uint8)).save(tmp_path / "x.png")
    everything = prepare.Preparation(True, True, (1, 99), 2.0, 0.5)
    for fit in ("squash", "crop", "pad"):
        assert prepare.read(tmp_path / "x.png", everything, 16, fit).shape == (16, 16)


def test_stripes_are_no_borders_without_end() -> None:
    """Each line of another level would be taken off one by one."""
    stripes = np.tile(np.array([0, 255], np.uint8), 20_000)[:, None].repeat(4, axis=1)
    stripes[:, 0] = 128
    stripes[:, 1:] = stripes[:, 1:2]
    start = time.process_time()
    top, bottom, _, _ = prepare.border(np.tile(np.array([[0], [255], [90]], np.uint8), (9_000, 600)))
    assert top + bottom <= 2 * prepare.MOST_FRAMES
    ImageFacts.of(pixels.Picture(stripes, "L", "PNG"))
    lungs.borders(stripes)
    assert time.process_time() - start < 3


def test_rows_behind_a_border_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    film = np.random.default_rng(0).integers(0, 256, (3000, 500), dtype=np.uint8)
    film[:70] = 0
    looked, outlying = list[int](), prepare._outlying
    monkeypatch.setattr(
        prepare, "_outlying", lambda rows, middle: (looked.append(len(rows)), outlying(rows, middle))[1]
    )
    assert prepare.border(film) == (70, 0, 0, 0)
    assert sum(looked) < 500


def test_of_many_pages_only_some_are_counted(tmp_path: Path) -> None:
    """An empty directory takes 6 bytes: millions of pages fit into a small file."""
    first, page = io.BytesIO(), struct.pack("<H", 0)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(first, "TIFF")
    data = bytearray(first.getvalue() + bytes(len(first.getvalue()) % 2))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    struct.pack_into("<I", data, start + 2 + 12 * count, len(data))
    for _ in range(20_000):
        data += page + struct.pack("<I", len(data) + 6)
    (tmp_path / "x.tif").write_bytes(data)
    start_time = time.process_time()
    assert problem(tmp_path / "x.tif") == "holds more than 100 pages; save the one to use as a file of its own"
    assert time.process_time() - start_time < 1


def test_tiles_that_are_larger_than_the_picture_are_refused(tmp_path: Path) -> None:
    written = io.BytesIO()
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(written, "TIFF")
    data = bytearray(written.getvalue())
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    renamed = {273: 324, 279: 325, 277: 322, 278: 323}  # strips become tiles
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, entry)
        struct.pack_into("<H", data, entry, renamed.get(tag, tag))
        if tag in {277, 278}:
            struct.pack_into("<HII", data, entry + 2, 4, 1, 30_000)
    (tmp_path / "x.tif").write_bytes(data)
    assert problem(tmp_path / "x.tif") == "Invalid tile dimensions"


@pytest.mark.parametrize("chunk", [b"zTXtkey\0\0", b"iCCPname\0\0", b"iTXtkey\0\1\0\0\0"])
def test_a_chunk_beside_the_picture_inflates_little(chunk: bytes, tmp_path: Path) -> None:
    written = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(written, "PNG")
    bomb = chunk + BOMB
    packed = struct.pack(">I", len(bomb) - 4) + bomb + struct.pack(">I", zlib.crc32(bomb))
    (tmp_path / "x.png").write_bytes(written.getvalue()[:33] + packed + written.getvalue()[33:])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(DataError):  # some are passed over, and some refused
        assert pixels.decode(tmp_path / "x.png").levels.shape == (8, 8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 << 10


def test_large_pictures_take_turns_and_small_ones_need_not() -> None:
    budget, at_once, most, lock = pixels.PixelBudget(100), [0], [0], threading.Lock()

    def work(count: int) -> None:
        with budget.lease() as reserve:
            reserve(count)
            with lock:
                at_once[0] += count
                most[0] = max(most[0], at_once[0])
            time.sleep(0.002)
            with lock:
                at_once[0] -= count

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [60, 30, 70, 20, 40, 10] * 5))
        assert 60 < most[0] <= 100
        list(pool.map(work, [1000]))  # alone, however large
    assert (most[0], budget.used) == (1000, 0)


def test_pixels_are_free_again_after_an_error(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes((tmp_path / "x.png").read_bytes()[:-20])
    with pytest.raises(DataError):
        prepare.read(tmp_path / "x.png", prepare.Preparation(False, False, None, None, 0.0), 16, "squash")
    assert pixels.BUDGET.used == 0


def test_reading_reserves_the_pixels_before_it_decodes(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "x.png")
    dataset(levels()).save_as(tmp_path / "x.dcm", enforce_file_format=True)
    reserved: list[int] = []
    for name in ("x.png", "x.dcm"):
        pixels.decode(tmp_path / name, reserved.append)
    assert reserved == [600, 48 * 64]


@pytest.mark.parametrize("shape", [(7, 5), (300, 400), (1, 30)])
def test_mean_and_deviation_are_numpys(shape: tuple[int, int]) -> None:
    film = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)[:, ::2]
    mean, std = image_facts._mean_and_std(film)
    assert mean == film.mean()
    assert std == pytest.approx(film.std(), rel=1e-13)


def test_an_identifier_of_an_unknown_kind_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_item(*_: object) -> object:
        raise NotImplementedError("Unknown Value Representation")

    made = dataset(levels())
    assert dicom_header.sop_instance_uid(made) == "1.2.3"
    monkeypatch.setattr(type(made), "get_item", get_item)
    assert dicom_header.sop_instance_uid(made) == ""
