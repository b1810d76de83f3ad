"""What an image file shows is what is decoded: upright, at full depth, and never a guess."""

import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import png
import pytest
from numpy.typing import NDArray
from PIL import Image

from xraylab.data import pixels
from xraylab.errors import DataError

ORIENTATION = 0x0112
# how a stored array is turned for each value of EXIF's tag
TURNS: dict[int, Callable[[NDArray], NDArray]] = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).T,
    8: np.rot90,
}


def ramp() -> NDArray[np.uint8]:
    return np.arange(256, dtype=np.uint8).reshape(16, 16)


def deep() -> NDArray[np.uint16]:
    return np.arange(0, 65536, 64, dtype=np.uint16).reshape(16, 64)


def luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """ITU-R BT.601 with coefficients of 16 bits."""
    return ((rgb.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32) + 32768) >> 16).astype(np.uint8)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA"])
def test_gray_levels_survive_every_way_of_storing_them(mode: str, tmp_path: Path) -> None:
    Image.fromarray(ramp()).convert(mode).save(tmp_path / "x.png")
    picture = pixels.decode(tmp_path / "x.png")
    assert (picture.mode, picture.format, picture.facts) == (mode, "PNG", {})
    np.testing.assert_array_equal(picture.levels, ramp())


@pytest.mark.parametrize(("suffix", "name"), [("png", "PNG"), ("webp", "WEBP"), ("tif", "TIFF"), ("bmp", "BMP")])
def test_the_format_is_what_the_content_is(suffix: str, name: str, tmp_path: Path) -> None:
    Image.fromarray(ramp()).save(tmp_path / f"x.{suffix}", lossless=True)
    (tmp_path / f"x.{suffix}").rename(tmp_path / "x.jpeg")
    picture = pixels.decode(tmp_path / "x.jpeg")
    assert picture.format == name
    np.testing.assert_array_equal(picture.levels, ramp())


def test_cmyk_and_bilevel_images_are_gray(tmp_path: Path) -> None:
    Image.merge("CMYK", [Image.new("L", (16, 16))] * 3 + [Image.fromarray(255 - ramp())]).save(tmp_path / "x.tif")
    np.testing.assert_array_equal(pixels.decode(tmp_path / "x.tif").levels, ramp())
    Image.fromarray(ramp() > 99).save(tmp_path / "x.png")
    np.testing.assert_array_equal(pixels.decode(tmp_path / "x.png").levels, np.where(ramp() > 99, 255, 0))


def test_transparency_does_not_change_the_levels(tmp_path: Path) -> None:
    alpha = Image.fromarray(ramp().T)
    Image.merge("LA", [Image.fromarray(ramp()), alpha]).save(tmp_path / "x.png")
    np.testing.assert_array_equal(pixels.decode(tmp_path / "x.png").levels, ramp())
    Image.fromarray(ramp()).convert("P").save(tmp_path / "p.png", transparency=bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(pixels.decode(tmp_path / "p.png").levels, ramp())


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_kept_not_clipped(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(deep()).save(tmp_path / f"x.{suffix}")
    picture = pixels.decode(tmp_path / f"x.{suffix}")
    assert picture.mode == "I;16"
    np.testing.assert_array_equal(picture.levels, deep())
    np.testing.assert_array_equal(pixels.gray(picture.levels), np.round(deep() / 257))


def test_big_endian_tiff_is_the_same_picture(tmp_path: Path) -> None:
    write_tiff(tmp_path / "x.tif", deep(), 16, photometric=1, order=">")
    assert pixels.decode(tmp_path / "x.tif").mode == "I;16B"
    np.testing.assert_array_equal(pixels.decode(tmp_path / "x.tif").levels, deep())


def test_sixteen_bit_colours_and_gray_with_alpha_are_right_within_one_gray_level(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, planes in (("RGB", 3), ("LA", 2)):
        values = rng.integers(0, 65536, (16, 16, planes), dtype=np.uint16)
        png.from_array(values.reshape(16, -1), f"{name};16").save(tmp_path / "x.png")
        expected = values @ np.array([0.299, 0.587, 0.114]) if planes == 3 else values[..., 0].astype(float)
        assert np.abs(expected / 257 - pixels.read(tmp_path / "x.png")[0]).max() <= 1.5


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_thirty_two_bits_are_spread_from_their_own_minimum_to_maximum(kind: type, tmp_path: Path) -> None:
    Image.fromarray(ramp().astype(kind) * 3 - 500).save(tmp_path / "x.tif")
    np.testing.assert_array_equal(pixels.decode(tmp_path / "x.tif").levels, ramp().astype(np.uint16) * 257)


def test_values_that_are_not_numbers_are_an_error(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "x.tif")
    assert problem(tmp_path / "x.tif") == "holds values that are not numbers"


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_whose_zero_is_white_is_inverted(bits: int, tmp_path: Path) -> None:
    levels = ramp() if bits == 8 else deep()
    write_tiff(tmp_path / "x.tif", levels, bits, photometric=0)
    np.testing.assert_array_equal(pixels.decode(tmp_path / "x.tif").levels, np.iinfo(levels.dtype).max - levels)
    write_tiff(tmp_path / "x.tif", levels, bits, photometric=1)
    np.testing.assert_array_equal(pixels.decode(tmp_path / "x.tif").levels, levels)


def test_a_tiff_of_twelve_bits_reaches_full_scale(tmp_path: Path) -> None:
    levels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    write_tiff(tmp_path / "x.tif", levels, 12, photometric=1)
    np.testing.assert_array_equal(pixels.decode(tmp_path / "x.tif").levels, np.round(levels / 4095 * 65535))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("kind", ["8 bit", "RGB", "16 bit"])
@pytest.mark.parametrize("orientation", TURNS)
def test_an_image_lies_as_its_orientation_says(orientation: int, kind: str, suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(orientation)
    stored = {
        "8 bit": rng.integers(0, 256, (9, 5), dtype=np.uint8),
        "RGB": rng.integers(0, 256, (9, 5, 3), dtype=np.uint8),
        "16 bit": rng.integers(0, 65536, (9, 5), dtype=np.uint16),
    }[kind]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(stored).save(tmp_path / f"x.{suffix}", exif=exif)
    upright = TURNS[orientation](luma(stored) if kind == "RGB" else stored)
    np.testing.assert_array_equal(pixels.decode(tmp_path / f"x.{suffix}").levels, upright)


def test_several_pages_or_frames_are_an_error(tmp_path: Path) -> None:
    first, *others = (Image.new("L", (8, 8), level) for level in (0, 100, 200))
    for name, message in (
        ("x.tif", "holds 3 pages; save the one to use as a file of its own"),
        ("x.png", "holds 3 frames; save the one to use as a file of its own"),
        ("x.webp", "holds 3 frames; save the one to use as a file of its own"),
    ):
        first.save(tmp_path / name, save_all=True, append_images=others)
        assert problem(tmp_path / name) == message


def test_of_a_jpeg_with_previews_the_picture_counts(tmp_path: Path) -> None:
    picture, preview = Image.new("L", (16, 16), 200), Image.new("L", (8, 8), 10)
    picture.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[preview])
    decoded = pixels.decode(tmp_path / "x.jpg")
    assert (decoded.format, decoded.levels.shape) == ("JPEG", (16, 16))
    assert (decoded.levels == 200).all()


def test_a_decompression_bomb_is_an_unreadable_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10000)
    assert pixels.decode(tmp_path / "x.png").levels.shape == (100, 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9999)
    with pytest.warns(Image.DecompressionBombWarning):
        assert problem(tmp_path / "x.png") == "Image size (10000 pixels) exceeds limit of 9999 pixels"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert problem(tmp_path / "x.png").startswith("Image size (10000 pixels) exceeds limit of 200 pixels")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
def test_an_image_cut_anywhere_is_an_error(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    for share in (0.0, 0.05, 0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        assert problem(path)


def test_what_cannot_be_opened_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("no picture")
    Image.new("L", (8, 8)).save(tmp_path / "y.png", "GIF")
    (tmp_path / "folder.png").mkdir()
    for name, message in (
        ("x.png", "cannot identify image file"),
        ("y.png", "cannot identify image file"),
        ("folder.png", "Is a directory"),
        ("none.png", "No such file or directory"),
    ):
        assert problem(tmp_path / name) == message


def test_an_image_is_squashed_cropped_or_padded() -> None:
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 200
    squashed, cropped, padded = (pixels.fit(wide, 10, how) for how in ("squash", "crop", "pad"))
    assert squashed.shape == cropped.shape == padded.shape == (10, 10)
    assert (cropped == 200).all()
    assert (padded[0] == 0).all()
    assert padded[5].max() == 200
    assert 60 < squashed.mean() < 74


@pytest.mark.real
@pytest.mark.parametrize("name", ["Landscape", "Portrait"])
def test_photographs_in_all_orientations_are_the_same_picture(name: str, real_data: Path) -> None:
    folder = real_data / "nasty/exif"
    upright = pixels.read(folder / f"{name}_1.jpg")[0].astype(float)
    for orientation in range(9):
        other = pixels.read(folder / f"{name}_{orientation}.jpg")[0]
        assert other.shape == upright.shape
        assert np.abs(other - upright).mean() < 5


@pytest.mark.real
def test_every_picture_of_pngsuite_is_as_another_decoder_reads_it(real_data: Path) -> None:
    good = sorted((real_data / "nasty/pngsuite").glob("[!x]*.png"))
    assert len(good) == 161
    for path in good:
        difference = np.abs(np.round(by_pypng(path)) - pixels.read(path)[0])
        assert difference.max() <= 1, path.name


@pytest.mark.real
def test_every_broken_picture_of_pngsuite_is_refused(real_data: Path) -> None:
    broken = sorted((real_data / "nasty/pngsuite").glob("x*.png"))
    assert len(broken) == 14
    for path in broken:
        assert problem(path)


def problem(path: Path) -> str:
    """Why `path` cannot be decoded: the error's text behind the path."""
    with pytest.raises(DataError) as caught:
        pixels.decode(path)
    where, _, reason = str(caught.value).partition(": ")
    assert where == str(path)
    assert where not in reason
    assert caught.value.__cause__ is None
    return reason


def by_pypng(path: Path) -> NDArray[np.float64]:
    """Gray levels from 0 to 255 as pypng decodes them, transparency left out."""
    reader = png.Reader(filename=str(path))
    width, height, rows, info = reader.read()
    values = np.array([list(row) for row in rows]).reshape(height, width, -1)
    if info["planes"] == 1 and "palette" in info:
        values, full = np.array(info["palette"])[values[..., 0]], 255
    else:
        full = 2 ** info["bitdepth"] - 1
    weights = [0.299, 0.587, 0.114] if values.shape[-1] > 2 else [1.0]
    return values[..., : len(weights)] @ np.array(weights) / full * 255


def write_tiff(path: Path, levels: NDArray, bits: int, photometric: int, order: str = "<") -> None:
    """A TIFF of one strip, by hand: what Pillow writes it might also read wrongly."""
    if bits == 12:
        pairs = levels.reshape(-1, 2).astype(np.uint32)
        three = (pairs[:, 0] << 12 | pairs[:, 1])[:, None] >> np.array([16, 8, 0])
        data = (three & 255).astype(np.uint8).tobytes()
    else:
        data = levels.astype(levels.dtype.newbyteorder(order)).tobytes()
    height, width = levels.shape
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height}
    header = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(data))
    table = b"".join(struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in entries.items())
    table += struct.pack(f"{order}HHII", 279, 4, 1, len(data))
    path.write_bytes(header + data + struct.pack(f"{order}H", len(entries) + 1) + table + bytes(4))
