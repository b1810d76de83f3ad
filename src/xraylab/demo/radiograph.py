"""Synthetic films: how one is taken and developed, and what all those of one patient share.

From path lengths to gray levels: position, scatter, quantum noise, tone curve, borders and the side marker.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from xraylab.demo import anatomy, findings, projection
from xraylab.demo.anatomy import Anatomy
from xraylab.demo.findings import Blob, Finding
from xraylab.demo.geometry import Floats, Frame, Stroke, clouds, smooth_step, strokes

Box = tuple[int, int, int, int]
"""left, top, width, height in pixels."""
DrawFindings = Callable[[Anatomy, np.random.Generator], list[Finding]]

WATER = 2.6  # the attenuation of a whole chest of tissue
LUNG = 0.75  # how much less a lung attenuates than tissue


@dataclass(frozen=True)
class Patient:
    """The parts that all images of one patient share."""

    anatomy: Anatomy
    vessels: list[Stroke]
    spots: list[Blob]
    findings: list[Finding]


@dataclass(frozen=True)
class Radiograph:
    """A film, and where its findings are."""

    gray: NDArray[np.uint8]  # (pixels, pixels)
    mask: NDArray[np.uint8]  # (pixels, pixels): 0, or the code of the finding
    boxes: list[tuple[Finding, Box]]


def draw_patient(
    rng: np.random.Generator,
    diseased: bool,
    draw: DrawFindings = findings.draw,
) -> Patient:
    """Sample one patient; the findings come last, so that the rest cannot depend on the class."""
    body = anatomy.draw(rng)
    vessels, spots = projection.draw_vessels(body, rng), findings.draw_spots(body, rng)
    return Patient(body, vessels, spots, draw(body, rng) if diseased else [])


def expose(patient: Patient, pixels: int, rng: np.random.Generator) -> Radiograph:
    """Take one film; what is drawn from `rng` is the same whatever the patient has."""
    view, worn, line = draw_view(rng), findings.draw_objects(rng), findings.draw_fold(rng)
    frame = view.frame(pixels)
    healthy = projection.project(patient.anatomy, patient.vessels, frame)
    effects = [(each, findings.filled(each, patient.anatomy, frame) * healthy.air) for each in patient.findings]
    air = np.maximum(healthy.air - sum(effect for _, effect in effects), 0)
    dense = healthy.dense + findings.blobs(frame, patient.spots) * np.sqrt(healthy.air)
    dense += findings.objects(worn, frame) + findings.fold(line, frame)
    gray = develop(healthy.tissue - LUNG * air - healthy.gas + dense, view, rng)
    return Radiograph(gray, *_marked(effects, pixels))


def _marked(
    effects: Sequence[tuple[Finding, Floats]], pixels: int
) -> tuple[NDArray[np.uint8], list[tuple[Finding, Box]]]:
    """The mask and the boxes; smaller findings lie on top of larger ones, so that none hides another."""
    areas = [(finding, findings.visible(effect)) for finding, effect in effects]
    mask = np.zeros((pixels, pixels), np.uint8)
    for finding, area in sorted(areas, key=lambda marked: -int(marked[1].sum())):
        mask[area] = finding.code
    return mask, [(finding, _box(area)) for finding, area in areas]


def _box(area: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    return int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


@dataclass(frozen=True)
class View:
    """Geometry and development of one film."""

    angle: float  # radians
    zoom: float
    shift: tuple[float, float]
    scatter: float  # the part of the rays that has lost its way
    blur: float  # in fractions of the film
    noise: float  # of the logarithm, where nothing is in the way
    level: float  # the attenuation that becomes middle gray
    latitude: float
    flatten: float  # how much of the slow variation the processing takes out
    gamma: float
    borders: tuple[float, float, float, float]  # left, top, right, bottom, in fractions of the film
    tilt: float  # of the borders, radians
    marker: str | None
    marker_at: tuple[float, float]
    marker_tilt: float

    def frame(self, pixels: int) -> Frame:
        """The patient's position on the film."""
        return Frame(pixels, self.angle, self.zoom, self.shift)


def draw_view(rng: np.random.Generator) -> View:
    """Sample one film, independent of the patient and the class."""
    marker = str(rng.choice(["L", "R"]))
    side = 1 if marker == "L" else -1
    has_marker = rng.random() < 0.85
    borders = np.where(rng.random(4) < 0.25, rng.uniform(0.01, 0.06, 4), -0.1).tolist()
    return View(
        angle=math.radians(rng.normal(0, 1.8)),
        zoom=rng.normal(1.04, 0.045),
        shift=(rng.normal(0, 0.014), rng.normal(0.005, 0.018)),
        scatter=rng.uniform(0.04, 0.16),
        blur=rng.uniform(0.0018, 0.0032),
        noise=rng.uniform(0.006, 0.026),
        level=rng.normal(1.2, 0.13),
        latitude=rng.uniform(0.38, 0.58),
        flatten=rng.uniform(0.0, 0.45),
        gamma=rng.uniform(0.85, 1.2),
        borders=(borders[0], borders[1], borders[2], borders[3]),
        tilt=math.radians(rng.normal(0, 1.2)),
        marker=marker if has_marker else None,
        marker_at=(side * rng.uniform(0.36, 0.43), rng.uniform(0.07, 0.2)),
        marker_tilt=rng.normal(0, 0.15),
    )


def develop(tissue: Floats, view: View, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn paths, as a part of a chest full of tissue, into gray values, dark where much gets through: uint8."""
    pixels = len(tissue)
    rays = np.exp(-WATER * tissue * (1 + 0.02 * clouds(rng, pixels, 14) + 0.012 * clouds(rng, pixels, 50)))
    rays = (1 - view.scatter) * rays + view.scatter * np.minimum(_slow(rays), 0.3)
    grain = rng.standard_normal(rays.shape, dtype=np.float32)
    dark: Floats = ndimage.gaussian_filter(view.noise * grain / np.sqrt(rays) - np.log(rays), view.blur * pixels)
    dark = dark - view.flatten * (_slow(dark) - view.level) + 6 * _marker(view, pixels)
    gray: Floats = np.power(1 / (1 + np.exp((view.level - dark) / view.latitude)), view.gamma)
    return np.round(255 * gray * _opening(view, pixels)).astype(np.uint8)


def _slow(image: Floats) -> Floats:
    """The image without its details, a tenth of its width wide: worked out on 32 by 32 points."""
    small = Image.fromarray(image).resize((32, 32), Image.Resampling.BOX)
    smooth = ndimage.gaussian_filter(np.asarray(small), 2.5)
    return np.asarray(Image.fromarray(smooth).resize(image.shape, Image.Resampling.BICUBIC))


def _opening(view: View, pixels: int) -> Floats:
    """Transmission of the collimator: 1 inside, near 0 at the borders, with rounded corners."""
    if max(view.borders) < 0:
        return np.ones((pixels, pixels), np.float32)
    x, y = Frame(pixels, view.tilt, 1, (0, 0)).grid()
    left, top, right, bottom = view.borders
    across = np.abs(x - (left - right) / 2) - (1 - left - right) / 2
    down = np.abs(y - 0.5 - (top - bottom) / 2) - (1 - top - bottom) / 2
    corner = 0.03
    outside = np.hypot(np.clip(across + corner, 0, None), np.clip(down + corner, 0, None)) - corner
    return 0.03 + 0.97 * smooth_step(-outside / 0.006 + 0.5)


def _marker(view: View, pixels: int) -> Floats:
    """A letter of lead on the film's edge, on the patient's side that it names."""
    if view.marker is None:
        return np.zeros((pixels, pixels), np.float32)
    cos, sin = math.cos(view.marker_tilt), math.sin(view.marker_tilt)
    turned = np.array([[cos, sin], [-sin, cos]])
    lines: list[Stroke] = [
        (0.045 * np.array(line) @ turned + view.marker_at, 0.01, 1.0) for line in LETTERS[view.marker]
    ]
    return strokes(Frame(pixels, 0, 1, (0, 0)), lines)


LETTERS: dict[str, list[list[tuple[float, float]]]] = {
    "L": [[(-0.3, -0.5), (-0.3, 0.5), (0.35, 0.5)]],
    "R": [
        [(-0.3, 0.5), (-0.3, -0.5), (0.1, -0.5), (0.3, -0.38), (0.33, -0.22), (0.28, -0.06), (0.1, 0.03), (-0.3, 0.03)],
        [(0.02, 0.03), (0.36, 0.5)],
    ],
}
