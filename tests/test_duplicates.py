"""The same picture is found again, however it was stored; other pictures of the same kind are not."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small
from PIL import Image, ImageEnhance

from xraylab.data import demo, index
from xraylab.data.audit import duplicates

Change = Callable[[Image.Image], Image.Image]


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=quality)
    return Image.open(packed).convert("L")


COPIES: dict[str, Change] = {
    "jpeg at quality 50": lambda image: _jpeg(image, 50),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "half the size, jpeg": lambda image: _jpeg(image.resize((image.width // 2, image.height // 2)), 60),
    "larger": lambda image: image.resize((image.width * 3 // 2, image.height * 3 // 2)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
}


def measured(folder: Path) -> pd.DataFrame:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    blank = {column: [""] * len(names) for column in ("patient", "side", "source", "sex", "age", "view")}
    found = pd.DataFrame({"id": names, "path": names, "label": "x", **blank})
    table, unreadable = index.measure(folder, found)
    assert unreadable == []
    return table


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dozen synthetic chest films, which are much alike."""
    drawn, folder = tmp_path_factory.mktemp("drawn"), tmp_path_factory.mktemp("films")
    demo.write(drawn, healthy=20, tb=5, pixels=128, seed=3)
    for path in [*drawn.glob("Healthy/*.png"), *drawn.glob("TB/*.png")]:
        path.rename(folder / path.name)
    return folder


def test_different_films_are_not_near(radiographs: Path) -> None:
    assert duplicates.near(measured(radiographs)).empty


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_near_its_original_however_it_was_made(how: str, radiographs: Path, tmp_path: Path) -> None:
    originals = sorted(radiographs.glob("*.png"))
    for path in originals:
        image = Image.open(path)
        image.save(tmp_path / path.name)
        COPIES[how](image).save(tmp_path / f"{path.stem}-copy.png")
    near = duplicates.near(measured(tmp_path))
    assert {(min(pair), max(pair)) for pair in zip(near["id"], near["other"], strict=True)} == {
        (f"{path.stem}-copy.png", path.name) for path in originals
    }


def test_the_sorted_search_finds_what_comparing_all_pairs_finds() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.random((40, duplicates.BITS)) < 0.5
    bits = kinds[rng.integers(0, 40, 600)] ^ (
        rng.random((600, duplicates.BITS)) < 0.045
    )  # about 22 bits from their kind
    hashes = np.packbits(bits, axis=1)
    pairs, differing = duplicates._close(hashes)
    every = (bits[:, None] != bits[None]).sum(axis=2)
    expected = {(a, b): every[a, b] for a, b in np.argwhere(np.triu(every <= duplicates.NEAR, k=1))}
    found = {(int(a), int(b)): int(d) for (a, b), d in zip(pairs, differing, strict=True)}
    assert all(expected[pair] == bits for pair, bits in found.items())
    assert len(found) >= 0.97 * len(expected) > 100


def test_identical_images_and_empty_ones_are_not_near_duplicates(tmp_path: Path) -> None:
    small.write_images(tmp_path, ["1.png"])
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes())
    for name, level in [("black.png", 0), ("white.png", 255), ("gray.png", 128)]:
        Image.new("L", (24, 24), level).save(tmp_path / name)
    table = measured(tmp_path)
    assert duplicates.near(table).empty
    assert duplicates.groups(table, "file_hash") == duplicates.groups(table, "pixel_hash") == [["1.png", "2.png"]]


def test_the_same_pixels_in_another_format_are_a_duplicate_by_pixels_alone(tmp_path: Path) -> None:
    small.write_images(tmp_path, ["1.png", "2.png"])
    Image.open(tmp_path / "1.png").save(tmp_path / "copy.png", compress_level=1)
    table = measured(tmp_path)
    assert duplicates.groups(table, "pixel_hash") == [["1.png", "copy.png"]]
    assert duplicates.groups(table, "file_hash") == []
