"""The lungs are found where the demo's anatomy has them, and nowhere in what is no chest."""

from functools import cache

import numpy as np
import pytest

from xraylab.data import lungs
from xraylab.demo import anatomy, projection, radiograph
from xraylab.demo.geometry import Frame

FILMS = 12
Box = tuple[float, float, float, float]


@cache
def exposed(number: int, pixels: int = 160) -> tuple[np.ndarray, Box]:
    """A film of the demo, and top, bottom, left and right of the air in its lungs."""
    patient = radiograph.draw_patient(np.random.default_rng(number), diseased=number % 2 == 1)
    gray = radiograph.expose(patient, pixels, np.random.default_rng([number, 1])).gray
    frame = radiograph.draw_view(np.random.default_rng([number, 1])).frame(pixels)
    return gray, box(projection.lungs(patient.anatomy, *frame.grid()) > 0.1)


def box(inside: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def overlap(one: Box, other: Box) -> float:
    """The shared area over the area of both together."""

    def area(top: float, bottom: float, left: float, right: float) -> float:
        return max(bottom - top, 0) * max(right - left, 0)

    shared = area(max(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), min(one[3], other[3]))
    return shared / (area(*one) + area(*other) - shared)


def kept(gray: np.ndarray) -> Box:
    found = lungs.borders(gray)
    assert found is not None
    top, bottom, left, right = found
    return top, gray.shape[0] - bottom, left, gray.shape[1] - right


def test_the_lungs_of_synthetic_films_are_kept_and_little_else() -> None:
    overlaps = [overlap(kept(gray), there) for gray, there in map(exposed, range(FILMS))]
    assert min(overlaps) > 0.6
    assert np.mean(overlaps) > 0.75


@pytest.mark.parametrize("number", range(4))
def test_lungs_are_found_wherever_and_however_large_they_are(number: int) -> None:
    gray, there = exposed(number)
    room = np.pad(gray, ((10, 50), (60, 20)), mode="edge")
    moved = (there[0] + 10, there[1] + 10, there[2] + 60, there[3] + 60)
    assert overlap(kept(room), moved) > 0.6
    squeezed = gray[:, ::2]
    assert overlap(kept(squeezed), (there[0], there[1], there[2] / 2, there[3] / 2)) > 0.5


@pytest.mark.parametrize("number", range(4))
def test_exposure_does_not_move_the_lungs(number: int) -> None:
    gray, _ = exposed(number)
    dark = np.round(gray * 0.5 + 20).astype(np.uint8)
    assert overlap(kept(gray), kept(dark)) > 0.9


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (64, 64), (200, 90)])
def test_what_is_no_chest_has_no_lungs(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for picture in (np.zeros(shape, np.uint8), rng.integers(0, 256, shape, np.uint8), np.full(shape, 255, np.uint8)):
        assert lungs.borders(picture) is None


def test_the_atlas_is_the_mean_of_the_demos_healthy_lungs() -> None:
    """SampledAugmentation anew from other patients it differs by rounding and chance alone."""
    rng, size = np.random.default_rng(99), 96
    grid = Frame(size, 0.0, 1.0, (0.0, 0.0)).grid()
    air = np.mean([projection.lungs(anatomy.draw(rng), *grid) for _ in range(40)], axis=0)
    top, bottom, left, right = box(air > air.max() / 4)
    high, wide = bottom - top, right - left
    rows = np.round(top + high * (np.arange(30) / 24 - 0.125 + 1 / 48)).astype(int)
    columns = np.round(left + wide * (np.arange(30) / 24 - 0.125 + 1 / 48)).astype(int)
    expected = 9 * air[np.ix_(rows.clip(0, size - 1), columns.clip(0, size - 1))] / air.max()
    atlas = np.array([[int(digit) for digit in row] for row in lungs.ATLAS])
    assert np.corrcoef(atlas.ravel(), expected.ravel())[0, 1] > 0.97


def test_a_film_looks_more_like_lungs_than_its_negative_or_noise() -> None:
    rng = np.random.default_rng(0)
    for number in range(FILMS):
        gray, _ = exposed(number)
        others = [255 - gray, np.rot90(gray).copy(), rng.integers(0, 256, gray.shape, dtype=np.uint8)]
        assert lungs.plausibility(gray) > max(map(lungs.plausibility, others)) + 0.05


@pytest.mark.parametrize("number", range(FILMS))
def test_a_search_that_ends_early_is_on_the_same_side_of_its_limit(number: int) -> None:
    for gray in (exposed(number)[0], 255 - exposed(number)[0]):
        score = lungs.plausibility(gray)
        for limit in (0.1, score, score + 1e-9, 0.6):
            assert (lungs.plausibility(gray, limit) >= limit) == (score >= limit)
        assert lungs.plausibility(gray, score + 1e-9) == score
