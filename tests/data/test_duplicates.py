"""The same picture is found again, however it was stored; other pictures of the same kind are not."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from xraylab import demo
from xraylab.data import image_facts, index
from xraylab.data.audit import crops, duplicates, hashes

Change = Callable[[Image.Image], Image.Image]


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=quality)
    return Image.open(packed).convert("L")


def _cropped(image: Image.Image, left: float, top: float, share: float) -> Image.Image:
    width, height = image.size
    box = (left * width, top * height, (left + share) * width, (top + share) * height)
    return image.crop(tuple(round(edge) for edge in box))


def _lettered(image: Image.Image) -> Image.Image:
    """An R in the upper-left corner, a tenth as high as the film."""
    copy = image.copy()
    size = image.height // 10
    ImageDraw.Draw(copy).text((0.05 * image.width, 0.05 * image.height), "R", 255, ImageFont.load_default(size))
    return copy


COPIES: dict[str, Change] = {
    "jpeg at quality 50": lambda image: _jpeg(image, 50),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "half the size, jpeg": lambda image: _jpeg(image.resize((image.width // 2, image.height // 2)), 60),
    "larger": lambda image: image.resize((image.width * 3 // 2, image.height * 3 // 2)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "a burned-in letter": _lettered,
    "a black border": lambda image: ImageOps.expand(image, 12, 0),
    "a white border": lambda image: ImageOps.expand(image, 12, 255),
    "mirrored": ImageOps.mirror,
    "mirrored, half the size": lambda image: ImageOps.mirror(image.resize((image.width // 2, image.height // 2))),
    "inverted, jpeg": lambda image: _jpeg(ImageOps.invert(image), 75),
    "cropped evenly by 10 %": lambda image: _cropped(image, 0.05, 0.05, 0.9),
    "cropped in a corner, jpeg": lambda image: _jpeg(_cropped(image, 0.1, 0.02, 0.9), 75),
    "cropped by 10 % from each edge": lambda image: _cropped(image, 0.1, 0.1, 0.8),
}
LEAST = {"cropped by 10 % from each edge": 0.85}  # of copies that are found; of all others each one is
KINDS = {"mirrored": "mirrored", "inverted": "inverted", "cropped": "cropped", "a black": "border", "a white": "border"}


def measured(folder: Path) -> index.Measured:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    blank = {column: [""] * len(names) for column in ("patient", "split", "source", "sex", "age", "view")}
    found = pd.DataFrame({"id": names, "path": names, "label": "x", **blank})
    every = index.measure(folder, found)
    assert every.unreadable == []
    return every


def near_in(folder: Path) -> pd.DataFrame:
    every = measured(folder)
    return duplicates.near(every.table, every.thumbnails)


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dozen synthetic chest films, which are much alike."""
    drawn, folder = tmp_path_factory.mktemp("drawn"), tmp_path_factory.mktemp("films")
    demo.write(drawn, n_healthy=20, n_tb=5, size=128, seed=3)
    for path in [*drawn.glob("Healthy/*.png"), *drawn.glob("TB/*.png")]:
        path.rename(folder / path.name)
    return folder


def test_different_films_are_not_near(radiographs: Path) -> None:
    assert near_in(radiographs).empty


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_near_its_original_however_it_was_made(how: str, radiographs: Path, tmp_path: Path) -> None:
    originals = sorted(radiographs.glob("*.png"))
    for path in originals:
        image = Image.open(path)
        image.save(tmp_path / path.name)
        COPIES[how](image).save(tmp_path / f"{path.stem}-copy.png")
    near = near_in(tmp_path)
    found = {(min(pair), max(pair)) for pair in zip(near["id"], near["other"], strict=True)}
    copies = {(f"{path.stem}-copy.png", path.name) for path in originals}
    assert found <= copies
    assert len(found) >= LEAST.get(how, 1.0) * len(copies)
    kind = next((KINDS[word] for word in KINDS if how.startswith(word)), "encoded")
    assert near["change"].mode().tolist() == [kind]
    assert set(near["change"]) <= {kind, "border"}  # light edges that become white are taken for a border


def test_films_of_one_known_patient_are_not_called_parts_of_one_another(radiographs: Path, tmp_path: Path) -> None:
    image = Image.open(radiographs / "h0001.png")
    image.save(tmp_path / "film.png")
    _cropped(image, 0.05, 0.05, 0.9).save(tmp_path / "part.png")
    every = measured(tmp_path)
    assert list(duplicates.near(every.table, every.thumbnails)["change"]) == ["cropped"]
    assert duplicates.near(every.table.assign(patient="p"), every.thumbnails).empty


@pytest.mark.parametrize("change", ["mirrored", "inverted", "border"])
def test_an_image_from_elsewhere_is_recognised_though_changed(change: str, radiographs: Path, tmp_path: Path) -> None:
    how = {"mirrored": ImageOps.mirror, "inverted": ImageOps.invert, "border": lambda image: ImageOps.expand(image, 9)}
    for path in sorted(radiographs.glob("*.png")):
        how[change](Image.open(path)).save(tmp_path / f"new-{path.name}")
    theirs, ours = measured(tmp_path).table, measured(radiographs).table
    assert list("new-" + duplicates.find_copies(theirs, ours)) == list(theirs["id"])


@pytest.mark.parametrize("tile", [(3, 7), (512, 1024)])
def test_all_pairs_of_hashes_are_compared(tile: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "TILE", tile)
    rng = np.random.default_rng(0)
    kinds = rng.random((4, hashes.BITS)) < 0.5
    own = kinds[rng.integers(0, 4, 60)] ^ (rng.random((60, hashes.BITS)) < 0.045)  # about 12 bits from their kind
    other = own ^ hashes.MIRRORED
    pairs, differing = hashes.within(own, other, 140)
    every = (own[:, None] != other[None]).sum(axis=2)
    expected = {(a, b): every[a, b] for a, b in np.argwhere(np.triu(every <= 140, k=1))}
    assert {(int(a), int(b)): int(bits) for (a, b), bits in zip(pairs, differing, strict=True)} == expected
    assert 0 < len(expected) < 60 * 59 / 2


def test_bits_of_a_mirrored_and_of_an_inverted_picture_follow_from_its_own(radiographs: Path) -> None:
    for path in sorted(radiographs.glob("*.png"))[:5]:
        gray = np.asarray(Image.open(path))
        own, mirrored, inverted = (
            hashes.bits(pd.Series([image_facts.perceptual_hash(each)]))[0] for each in (gray, gray[:, ::-1], 255 - gray)
        )
        assert (own ^ hashes.MIRRORED ^ mirrored).sum() <= duplicates.NEAR
        assert (own ^ hashes.INVERTED ^ inverted).sum() <= 4


def test_a_second_look_has_no_more_candidates_than_it_is_given_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "most", lambda pictures: 7)
    monkeypatch.setattr(crops, "LIKELY", -1.0)
    thumbnails = np.random.default_rng(0).integers(0, 256, (120, 16, 16), dtype=np.uint8)
    candidates, windows = crops._candidates(thumbnails)
    assert len(candidates) == len(windows) == 7
    assert len({frozenset(pair) for pair in candidates.tolist()}) == 7


def test_identical_images_and_empty_ones_are_not_near_duplicates(tmp_path: Path) -> None:
    small.write_images(tmp_path, ["1.png"])
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes())
    for name, level in [("black.png", 0), ("white.png", 255), ("gray.png", 128)]:
        Image.new("L", (24, 24), level).save(tmp_path / name)
    table = measured(tmp_path).table
    assert near_in(tmp_path).empty
    assert duplicates.groups(table, "file_hash") == duplicates.groups(table, "pixel_hash") == [["1.png", "2.png"]]


def test_the_same_pixels_in_another_format_are_a_duplicate_by_pixels_alone(tmp_path: Path) -> None:
    small.write_images(tmp_path, ["1.png", "2.png"])
    Image.open(tmp_path / "1.png").save(tmp_path / "copy.png", compress_level=1)
    table = measured(tmp_path).table
    assert duplicates.groups(table, "pixel_hash") == [["1.png", "copy.png"]]
    assert duplicates.groups(table, "file_hash") == []
