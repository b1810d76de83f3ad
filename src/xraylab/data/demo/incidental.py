"""What healthy and diseased patients have equally often, so that a bright spot or a line alone says nothing."""

import math

import numpy as np

from xraylab.data.demo import anatomy as body
from xraylab.data.demo.anatomy import Anatomy
from xraylab.data.demo.geometry import Floats, Frame, Points, Stroke, smooth_step, strokes

Blob = tuple[float, float, float, float]
"""u, v, radius, and the peak in its middle."""


def blobs(frame: Frame, spots: list[Blob]) -> Floats:
    """The sum of round Gaussians whose radius is where they have fallen to 1/e: (pixels, pixels)."""
    drawn = np.zeros((frame.pixels, frame.pixels), np.float32)
    if not spots:
        return drawn
    centres = frame.place(np.array([spot[:2] for spot in spots])) * frame.pixels - 0.5
    for (x, y), (_, _, radius, peak) in zip(centres.tolist(), spots, strict=True):
        true = radius * frame.zoom * frame.pixels
        wide = max(true, 0.6)  # one finer than the pixels fades instead of growing
        height = peak * (true / wide) ** 2
        reach = math.ceil(2.5 * wide)
        left, top = max(0, round(x) - reach), max(0, round(y) - reach)
        part = drawn[top : max(0, round(y) + reach + 1), left : max(0, round(x) + reach + 1)]
        rows, columns = np.arange(top, top + part.shape[0]), np.arange(left, left + part.shape[1])
        part += np.outer(height * np.exp(-(((rows - y) / wide) ** 2)), np.exp(-(((columns - x) / wide) ** 2)))
    return drawn


def draw_spots(anatomy: Anatomy, rng: np.random.Generator) -> list[Blob]:
    """A patient's calcified granulomas, nipple shadows, calcified first ribs and full hila, each with some chance."""
    spots: list[Blob] = []
    if rng.random() < 0.2:
        spots += [(*place(anatomy, rng), rng.uniform(0.003, 0.006), 0.09) for _ in range(rng.integers(1, 4))]
    if rng.random() < 0.12:
        u, v = rng.uniform(0.2, 0.24), rng.uniform(0.6, 0.68)
        spots += [(side * u, v + rng.normal(0, 0.01), 0.011, 0.05) for side in (-1, 1)]
    if rng.random() < 0.2:
        height = rng.uniform(0.02, 0.07)
        ends = rng.normal((0.115, 0.26), 0.012, (6, 2)) * np.repeat([[-1, 1], [1, 1]], 3, axis=0)
        spots += [(u, v, 0.014, height) for u, v in ends.tolist()]
    for side in (-1, 1):
        hilum = rng.normal((side * 0.085 + anatomy.lean, 0.44 - 0.02 * (side > 0)), (0.015, 0.03), (6, 2))
        spots += [(u, v, 0.02, 0.025 * anatomy.hilum) for u, v in hilum.tolist()]
    return spots


def place(anatomy: Anatomy, rng: np.random.Generator, down: tuple[float, float] = (0.15, 0.75)) -> tuple[float, float]:
    """A point (u, v) in a lung, clear of the heart, between two depths (0 the apex, 1 the costophrenic angle)."""
    side = int(rng.choice([-1, 1]))
    t = np.array([rng.uniform(*down)], np.float32)
    near, far = float(body.inner(t)[0]), float(body.outer(anatomy, t)[0])
    clear = max(near, 0.1 + 0.1 * float(t[0]) * (side > 0))
    apex, angle = anatomy.apex[side > 0], anatomy.angle[side > 0]
    return float(side * rng.uniform(clear + 0.15 * (far - clear), 0.92 * far)), apex + float(t[0]) * (angle - apex)


def draw_objects(rng: np.random.Generator) -> list[Stroke]:
    """What lies on the skin during one exposure: leads of an electrocardiogram, or a necklace."""
    lines: list[Stroke] = []
    if rng.random() < 0.1:
        for _ in range(rng.integers(2, 5)):
            lines += _lead(rng)
    if rng.random() < 0.06:
        lines += _necklace(rng)
    return lines


def _lead(rng: np.random.Generator) -> list[Stroke]:
    start = np.array([rng.uniform(-0.33, 0.33), rng.uniform(0.2, 0.75)])
    end = np.array([rng.uniform(-0.5, 0.5), rng.choice([-0.05, 1.05])])
    x = np.linspace(0, 1, 24)[:, None]
    sag = rng.normal(0, 0.08, 2) * np.sin(math.pi * x) + rng.normal(0, 0.02, 2) * np.sin(2 * math.pi * x)
    turn = np.linspace(0, 2 * math.pi, 16)
    ring = start + 0.012 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return [(start + (end - start) * x + sag, 0.005, 0.5), (ring, 0.006, 0.8)]


def _necklace(rng: np.random.Generator) -> list[Stroke]:
    x = np.linspace(-1, 1, 60)
    curve = np.stack([0.09 * x, rng.uniform(0.14, 0.24) - 0.16 * x**2], axis=1)
    link: Points = np.array([[-0.5, 0.0], [0.5, 0.0]]) * 0.004
    return [(point + link, 0.004, 1.0) for point in curve]


def objects(lines: list[Stroke], frame: Frame) -> Floats:
    """Those objects as added tissue: (pixels, pixels)."""
    return 0.2 * strokes(frame, lines)


def draw_fold(rng: np.random.Generator) -> tuple[float, float, float]:
    """A fold of skin down one flank: where it crosses the middle, its slope, and how thick it is, mostly 0."""
    thick = rng.uniform(0.03, 0.08) * (rng.random() < 0.08)
    return float(rng.choice([-1, 1])) * rng.uniform(0.2, 0.3), rng.normal(0, 0.25), thick


def fold(line: tuple[float, float, float], frame: Frame) -> Floats:
    """That fold as added tissue: a sharp edge that fades towards the middle."""
    at, slope, thick = line
    if not thick:
        return np.zeros((frame.pixels, frame.pixels), np.float32)
    u, v = frame.grid()
    outward = (u - at - slope * (v - 0.5)) * math.copysign(1, at)
    edge = smooth_step(0.5 - outward / 0.004) * np.exp(np.minimum(outward, 0) / 0.05)
    return thick * edge * smooth_step((v - 0.2) / 0.2)
