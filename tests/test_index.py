"""Classes, patients and pixels are read as they are, and what cannot be read is named."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small
from PIL import Image

from xraylab.data import index, layout, pixels
from xraylab.errors import DataError


def test_names_sort_as_numbers() -> None:
    names = ["h10", "h2", "h1", "h02", "tb1", "h2b10", "h2b9", "10", "9"]
    assert sorted(names, key=layout.natural) == ["9", "10", "h1", "h02", "h2", "h2b9", "h2b10", "h10", "tb1"]


def test_class_folders_are_found_below_a_chain_of_single_folders(tmp_path: Path) -> None:
    small.write_images(tmp_path / "archive/data", ["B/2.png", "B/10.png", "B/deep/1.JPG", "A/1.png", "masks/1.png"])
    found = layout.find(tmp_path, ["A", "B"])
    assert list(found["id"]) == ["A/1.png", "B/2.png", "B/10.png", "B/deep/1.JPG"]
    assert list(found["path"]) == [f"archive/data/{name}" for name in found["id"]]
    assert list(found["label"]) == ["A", "B", "B", "B"]


def test_missing_and_empty_class_folders_are_named_together(tmp_path: Path) -> None:
    small.write_images(tmp_path, ["A/1.png", "Extra/1.png"])
    (tmp_path / "B").mkdir()
    (tmp_path / "B/notes.txt").touch()
    with pytest.raises(DataError) as caught:
        layout.find(tmp_path, ["A", "B", "C"])
    assert str(caught.value) == (
        "data.classes names A, B, C; the source has A, B, Extra. Rename the folders or set data.classes:\n"
        "  - B/ holds no image (.png .jpg .jpeg .webp .tif .tiff .bmp)\n"
        "  - C/ does not exist"
    )


def test_every_unreadable_image_is_named(tmp_path: Path) -> None:
    small.write_images(tmp_path, ["A/good.png", "A/cut.png"])
    (tmp_path / "A/cut.png").write_bytes((tmp_path / "A/cut.png").read_bytes()[:200])
    (tmp_path / "A/text.png").write_text("no picture")
    (tmp_path / "A/empty.png").touch()
    with pytest.raises(DataError) as caught:
        index.measure(tmp_path, ["A/good.png", "A/cut.png", "A/text.png", "A/empty.png"])
    assert caught.value.headline == "3 of 4 images cannot be read; mend or remove them in the source:"
    assert caught.value.problems == (
        f"{tmp_path}/A/cut.png: image file is truncated",
        f"{tmp_path}/A/text.png: cannot identify image file",
        f"{tmp_path}/A/empty.png: cannot identify image file",
    )


def test_the_same_pixels_in_another_format_are_a_duplicate(tmp_path: Path) -> None:
    small.write_images(tmp_path, ["1.png", "2.png"])
    Image.open(tmp_path / "1.png").save(tmp_path / "copy.bmp")
    table = index.measure(tmp_path, ["1.png", "2.png", "copy.bmp"]).assign(id=["1", "2", "copy"])
    assert index.duplicates(table) == [["1", "copy"]]
    assert table["file_hash"].nunique() == 3


def test_patients_come_from_a_pattern_a_file_or_nowhere(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["A/p1_0.png", "A/p1_1.png", "B/p2_0.png"]})
    assert layout.patients(table, tmp_path, None) == (["", "", ""], "unknown")
    (tmp_path / "patients.csv").write_text("image,patient\nB/p2_0.png,z\nA/p1_0.png,007\nA/p1_1.png,007\n")
    assert layout.patients(table, tmp_path, None) == (["007", "007", "z"], "patients.csv")
    assert layout.patients(table, tmp_path, r"^(?P<patient>p\d+)_") == (["p1", "p1", "p2"], "pattern")


def test_images_without_a_patient_are_named(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["A/1.png", "A/p2.png"]})
    with pytest.raises(DataError) as caught:
        layout.patients(table, tmp_path, r"(?P<patient>p\d+)")
    assert str(caught.value) == r"data.patient: '(?P<patient>p\\d+)' finds no patient in the name of A/1.png"
    (tmp_path / "patients.csv").write_text("image,patient\nA/1.png,x\n")
    with pytest.raises(DataError) as caught:
        layout.patients(table, tmp_path, None)
    assert str(caught.value) == "patients.csv: says nothing about A/p2.png"
    (tmp_path / "patients.csv").write_text("image,patient\nA/1.png,x\nA/1.png,y\nA/p2.png,y\n")
    with pytest.raises(DataError, match=r"patients.csv: lists A/1.png twice"):
        layout.patients(table, tmp_path, None)


def ramp() -> np.ndarray:
    return np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_gray_levels_survive_every_way_of_storing_them(mode: str, tmp_path: Path) -> None:
    Image.fromarray(ramp()).convert(mode).save(tmp_path / "x.png")
    gray, stored = pixels.read(tmp_path / "x.png")
    assert stored == mode
    np.testing.assert_array_equal(gray, ramp())


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(ramp().astype(np.uint16) * 257).save(tmp_path / "x.png")
    np.testing.assert_array_equal(pixels.read(tmp_path / "x.png")[0], ramp())


def test_an_image_lies_as_its_orientation_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: turn by 90 degrees clockwise
    Image.fromarray(ramp()[:, :8]).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(pixels.read(tmp_path / "x.png")[0], np.rot90(ramp()[:, :8], -1))


def test_a_decompression_bomb_is_an_unreadable_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    with pytest.raises(DataError, match=r"x.png: Image size \(10000 pixels\) exceeds limit"):
        pixels.read(tmp_path / "x.png")


def test_an_image_is_squashed_cropped_or_padded() -> None:
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 200
    squashed, cropped, padded = (pixels.fit(wide, 10, how) for how in ("squash", "crop", "pad"))
    assert squashed.shape == cropped.shape == padded.shape == (10, 10)
    assert (cropped == 200).all()
    assert (padded[0] == 0).all()
    assert padded[5].max() == 200
    assert 60 < squashed.mean() < 74
