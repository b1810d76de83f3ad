"""Preparation does what its parameters say, in their order, and nothing where they say nothing."""

import os
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import small
from numpy.typing import NDArray
from PIL import Image

from xraylab import shards
from xraylab.data import cache, pixels, prepare
from xraylab.data.cache import Decoding
from xraylab.data.prepare import Preparation
from xraylab.demo import radiograph
from xraylab.errors import DataError

NOTHING = Preparation(crop_border=False, crop_lungs=False, clip_percentiles=None, clahe=None, pyramid_sharpening=0.0)
ALL = Preparation(crop_border=True, crop_lungs=False, clip_percentiles=(1.0, 99.0), clahe=2.0, pyramid_sharpening=0.5)


def noise(height: int = 64, width: int = 48, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def framed(level: int, top: int, bottom: int, left: int, right: int) -> NDArray[np.uint8]:
    """Noise within a uniform border."""
    return np.pad(noise(), ((top, bottom), (left, right)), constant_values=level)


def test_nothing_asked_for_changes_nothing() -> None:
    np.testing.assert_array_equal(prepare.prepare(noise(), NOTHING), noise())
    deep = noise().astype(np.uint16) * 257 + 100
    np.testing.assert_array_equal(prepare.prepare(deep, NOTHING), np.round(deep / 257))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_border_is_measured_on_each_side(level: int) -> None:
    for sides in ((0, 0, 0, 0), (5, 0, 0, 0), (0, 6, 0, 0), (0, 0, 7, 0), (0, 0, 0, 8), (20, 3, 1, 30)):
        assert prepare.border(framed(level, *sides)) == sides


def test_borders_of_different_levels_may_frame_each_other() -> None:
    inner = framed(0, 3, 4, 5, 6)
    outer = np.pad(inner, ((7, 0), (0, 8)), constant_values=255)
    assert prepare.border(outer) == (10, 4, 5, 14)


def test_specks_and_slight_noise_do_not_end_a_border() -> None:
    picture = framed(20, 60, 50, 40, 30).astype(int)
    rng = np.random.default_rng(1)
    picture[:60] += rng.integers(-4, 5, picture[:60].shape)
    picture[10, 20] = picture[30, 100] = picture[-5, 50] = 255
    assert prepare.border(picture.clip(0, 255).astype(np.uint8)) == (60, 50, 40, 30)


def test_the_ringing_of_a_jpeg_costs_at_most_one_block() -> None:
    stream = BytesIO()
    Image.fromarray(framed(0, 60, 50, 40, 30)).save(stream, "JPEG", quality=75)
    found = prepare.border(np.asarray(Image.open(stream)))
    assert all(0 <= true - got <= 8 for true, got in zip((60, 50, 40, 30), found, strict=True))


def test_something_always_remains() -> None:
    speck = np.zeros((100, 100), np.uint8)
    speck[50, 50] = 255
    halves = np.repeat(np.array([0, 255], np.uint8), 50)[:, None].repeat(100, axis=1)
    for picture in (np.zeros((100, 100), np.uint8), speck, halves, halves.T, np.zeros((1, 1), np.uint8)):
        assert prepare.border(picture) == (0, 0, 0, 0)
        assert prepare.prepare(picture, ALL).shape == picture.shape
    line = np.zeros((100, 100), np.uint8)
    line[:, 50] = 255
    assert prepare.border(line) == (0, 0, 50, 49)


def test_a_border_is_cropped_from_deep_levels_too() -> None:
    crop = Preparation(crop_border=True, crop_lungs=False, clip_percentiles=None, clahe=None, pyramid_sharpening=0.0)
    picture = framed(0, 20, 3, 1, 30)
    np.testing.assert_array_equal(prepare.prepare(picture, crop), noise())
    np.testing.assert_array_equal(prepare.prepare(picture.astype(np.uint16) * 257, crop), noise())


def chest(pixels: int = 160, seed: int = 4) -> NDArray[np.uint8]:
    """A synthetic film of a healthy patient."""
    rng = np.random.default_rng(seed)
    return radiograph.expose(radiograph.draw_patient(rng, diseased=False), pixels, rng).gray


def test_lungs_are_cropped_after_the_border_and_before_everything_else() -> None:
    """Percentiles and tiles are those of the lungs alone, on deep levels too."""
    film, crop = np.pad(chest(), 40), replace(NOTHING, crop_lungs=True)
    kept = prepare.find_crop(film, crop)
    assert kept.lungs
    inside = prepare.prepare(film, crop)
    assert 60 < inside.shape[0] < 150
    np.testing.assert_array_equal(inside, film[kept.rows, kept.columns])
    np.testing.assert_array_equal(inside, prepare.prepare(film[40:-40, 40:-40], crop))
    np.testing.assert_array_equal(inside, prepare.prepare(film.astype(np.uint16) * 257, crop))
    later = replace(ALL, crop_border=False)
    expected = prepare.prepare(inside, later)
    for both in (True, False):
        np.testing.assert_array_equal(
            prepare.prepare(film, replace(later, crop_lungs=True, crop_border=both)), expected
        )


def test_without_lungs_the_whole_film_stays_but_for_its_border() -> None:
    for both in (True, False):
        kept = prepare.find_crop(framed(0, 20, 3, 1, 30), replace(NOTHING, crop_lungs=True, crop_border=both))
        assert (kept.rows, kept.columns, kept.lungs) == (slice(20, 84), slice(1, 49), False)
    assert prepare.find_crop(noise(), NOTHING).lungs is None


def test_padding_within_the_cropped_lungs_stays_black_and_has_no_part_in_percentiles() -> None:
    film, padding = chest().astype(np.uint16) * 200 + 5000, np.zeros((160, 160), bool)
    padding[60:70, 70:85] = True
    levels = np.where(padding, 0, film).astype(np.uint16)
    how = replace(NOTHING, crop_lungs=True, clip_percentiles=(1.0, 99.0))
    kept = prepare.find_crop(levels, how)
    shown, hidden = prepare.prepare(levels, how, padding), padding[kept.rows, kept.columns]
    assert (kept.lungs, hidden.sum()) == (True, 150)
    assert (shown[hidden] == 0).all()
    low, high = np.percentile(film[kept.rows, kept.columns][~hidden], [1, 99])
    expected = ((film[kept.rows, kept.columns] - low) / (high - low)).clip(0, 1) * 255
    np.testing.assert_allclose(shown[~hidden], expected[~hidden], atol=0.6)


def test_films_without_lungs_are_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, picture in (
        ("b.png", noise()),
        ("a10.png", noise(seed=1)),
        ("a9.png", noise(seed=2)),
        ("c.png", chest()),
    ):
        Image.fromarray(picture).save(tmp_path / name)
    cache.write(tmp_path, Decoding(tmp_path, index(tmp_path), 16, "squash", replace(NOTHING, crop_lungs=True)))
    assert capsys.readouterr().err == (
        "images.crop_lungs: no lungs were found in 3 of 4 images, which are whole, without their border: "
        "a9.png, a10.png, b.png\n"
    )
    cache.write(tmp_path, Decoding(tmp_path, index(tmp_path)[:2], 16, "squash", ALL))
    assert capsys.readouterr().err == ""


def test_a_window_is_taken_from_the_deep_levels() -> None:
    """A hundred levels of 65,536 would be one of 256."""
    levels = np.arange(30000, 30101, dtype=np.uint16).repeat(5).reshape(5, 101)
    window = Preparation(
        crop_border=False, crop_lungs=False, clip_percentiles=(10.0, 90.0), clahe=None, pyramid_sharpening=0.0
    )
    expected = np.round(np.clip((levels - 30010.0) / 80, 0, 1) * 255)
    np.testing.assert_array_equal(prepare.prepare(levels, window), expected)


def test_the_border_is_no_part_of_the_window() -> None:
    both = Preparation(
        crop_border=True, crop_lungs=False, clip_percentiles=(0.0, 100.0), clahe=None, pyramid_sharpening=0.0
    )
    inner = noise() // 4 + 100
    picture = np.pad(inner, 30)
    np.testing.assert_array_equal(prepare.prepare(picture, both), np.round((inner - 100) / 63 * 255))


def test_a_uniform_picture_stays_uniform() -> None:
    assert np.unique(prepare.prepare(np.full((40, 40), 77, np.uint8), ALL)).size == 1


def test_equalisation_raises_local_contrast_up_to_its_limit() -> None:
    faint = np.round(noise(128, 128) / 16 + 100).astype(np.uint8)
    weak, strong = (prepare.equalise(faint, limit) for limit in (1.0, 8.0))
    assert faint.std() < weak.std() < strong.std()
    np.testing.assert_array_equal(strong, cv2.createCLAHE(8.0, (8, 8)).apply(faint))


@pytest.mark.parametrize("shape", [(64, 48), (33, 7), (5, 3), (2, 1), (1, 1)])
def test_sharpening_raises_each_fine_level_of_the_pyramid(shape: tuple[int, int]) -> None:
    gray = (noise(*shape) // 2 + 64).astype(np.uint8)
    raised, below = [], gray.astype(np.float64)
    for _ in range(3):
        smaller = cv2.pyrDown(below)
        raised.append(1.25 * (below - cv2.pyrUp(smaller, dstsize=below.shape[::-1])))
        below = smaller
    for level in reversed(raised):
        below = cv2.pyrUp(below, dstsize=level.shape[::-1]) + level
    assert np.abs(prepare.sharpen(gray, 0.25) - np.clip(below, 0, 255)).max() < 0.51


def test_a_file_becomes_a_square_in_one_step(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "x.png")
    for how in ("squash", "crop", "pad"):
        expected = pixels.fit(prepare.prepare(noise(), ALL), 16, how)
        np.testing.assert_array_equal(prepare.read(tmp_path / "x.png", ALL, 16, how), expected)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    small.write_images(tmp_path / "raw", [f"{number}.png" for number in range(50)])
    return tmp_path / "raw"


def index(raw: Path) -> pd.DataFrame:
    names = sorted(path.name for path in raw.glob("*.png"))
    return pd.DataFrame({"id": [f"A/{name}" for name in names], "path": names})


def test_the_cache_is_the_same_whatever_the_number_of_workers(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, written = index(raw), []
    for workers in (1, 2, 7):
        folder = raw.parent / str(workers)
        folder.mkdir()
        monkeypatch.setattr(os, "cpu_count", lambda count=workers: count)
        cache.write(folder, Decoding(raw, table, 16, "squash", ALL))
        written.append((folder / "images.npy").read_bytes())
    assert len(set(written)) == 1
    images, row_of = shards.load(raw.parent / "7")
    assert images.shape == (50, 16, 16)
    for name, path in zip(table["id"], table["path"], strict=True):
        np.testing.assert_array_equal(images[row_of[name]], prepare.read(raw / path, ALL, 16, "squash"))


def test_the_cache_reads_each_file_once(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Path] = []
    decode = pixels.decode
    monkeypatch.setattr(pixels, "decode", lambda path, reserve: (decoded.append(path), decode(path))[1])
    cache.write(raw.parent, Decoding(raw, index(raw), 16, "squash", NOTHING))
    assert sorted(decoded) == sorted(raw.iterdir())


def test_the_first_file_that_the_cache_cannot_read_is_named(raw: Path) -> None:
    (raw / "31.png").write_text("no picture")
    (raw / "7.png").write_text("no picture")
    with pytest.raises(DataError) as caught:
        cache.write(raw.parent, Decoding(raw, index(raw), 16, "squash", NOTHING))
    assert str(caught.value) == f"{raw}/31.png: cannot identify image file"


def test_what_is_not_needed_is_not_imported() -> None:
    code = "import sys, xraylab.data.pixels, xraylab.data.prepare; print({'cv2', 'pydicom', 'gdcm'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
