"""Draw findings: signs of tuberculosis, and the spots and lines that everybody may have.

Findings are the part of the lung's air that they fill. What healthy and diseased patients have equally often keeps a
bright spot or a line from telling the class. Synthetic, and of no medical value.

| code in the mask | finding | drawn as |
|---|---|---|
| 1 | infiltrate | a patchy cloud in an upper lung |
| 2 | cavity | a ring with a darker middle, and a little haze around it |
| 3 | nodule | one to three round spots |
| 4 | miliary | hundreds of dots over both lungs |
| 5 | effusion | fluid in one costophrenic angle, its upper edge rising towards the flank |
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xraylab.demo import anatomy as body
from xraylab.demo.anatomy import Anatomy
from xraylab.demo.geometry import Floats, Frame, Points, Stroke, smooth_step, strokes

Blob = tuple[float, float, float, float]
"""u, v, radius, and the peak in its middle."""

SHARES = {"infiltrate": 0.44, "cavity": 0.17, "nodule": 0.11, "miliary": 0.11, "effusion": 0.17}
SUBTLETY = (0.0, 0.75)
RATES = {"infiltrate": 0.45, "cavity": 0.1, "nodule": 0.3, "miliary": 0.12, "effusion": 0.4}
WITH_INFILTRATE = {"cavity": 0.4, "effusion": 0.5}
"""The chance of each finding where a film may have any of them; some go together."""
MORE = 0.5  # the chance of a second finding, and then of a third
VISIBLE = 0.25  # A finding's mask is where it has at least this part of its greatest effect.


@dataclass(frozen=True)
class Finding:
    """One sign of disease; `subtlety` runs from 0 (plain) to 1 (hardly there)."""

    kind: str
    subtlety: float
    spots: list[Blob]
    level: tuple[int, float] | None = None  # an effusion's side, and its height in fractions of the film

    @property
    def code(self) -> int:
        """Its gray value in a mask."""
        return list(DRAW).index(self.kind) + 1


def draw(anatomy: Anatomy, rng: np.random.Generator) -> list[Finding]:
    """A diseased patient's findings: one or more, of different kinds."""
    count = 1 + (rng.random() < MORE) * (1 + (rng.random() < MORE))
    kinds = rng.choice(list(SHARES), size=count, replace=False, p=list(SHARES.values()))
    return [DRAW[kind](anatomy, rng, float(rng.uniform(*SUBTLETY))) for kind in kinds]


def draw_any(anatomy: Anatomy, rng: np.random.Generator) -> list[Finding]:
    """One or more findings, each kind with a chance of its own, as data sets of several findings have them."""
    kinds: list[str] = []
    while not kinds:
        for kind, rate in RATES.items():
            chance = WITH_INFILTRATE.get(kind, rate) if "infiltrate" in kinds else rate
            kinds += [kind] * int(rng.random() < chance)
    return [DRAW[kind](anatomy, rng, float(rng.uniform(*SUBTLETY))) for kind in kinds]


def _infiltrate(anatomy: Anatomy, rng: np.random.Generator, subtlety: float) -> Finding:
    centre = np.array(point_in_lung(anatomy, rng, (0.1, 0.36)))
    size = rng.uniform(0.04, 0.085)
    spots: list[Blob] = []
    for _ in range(round(700 * size)):
        u, v = (centre + size * rng.normal(0, 0.75, 2)).tolist()
        spots.append((u, v, rng.uniform(0.008, 0.034), (1.05 - subtlety) * rng.uniform(0.05, 0.4)))
    return Finding("infiltrate", subtlety, spots)


def _cavity(anatomy: Anatomy, rng: np.random.Generator, subtlety: float) -> Finding:
    u, v = point_in_lung(anatomy, rng, (0.15, 0.45))
    radius, strength = rng.uniform(0.028, 0.055), 1.05 - subtlety
    turn = np.linspace(0, 2 * math.pi, 30, endpoint=False)
    bumps = radius * (1 + 0.12 * np.cos(2 * turn + rng.uniform(0, 6)) + 0.06 * np.cos(3 * turn + rng.uniform(0, 6)))
    wall = radius * rng.uniform(0.16, 0.3)
    spots: list[Blob] = [
        (u + r * math.cos(a), v + r * math.sin(a), wall * rng.uniform(0.8, 1.3), 0.38 * strength)
        for r, a in zip(bumps.tolist(), turn.tolist(), strict=True)
    ]
    spots += [(u, v, 0.7 * radius, -0.15 * strength), (u, v, 2 * radius, 0.2 * strength)]
    return Finding("cavity", subtlety, spots)


def _nodule(anatomy: Anatomy, rng: np.random.Generator, subtlety: float) -> Finding:
    spots: list[Blob] = []
    for _ in range(rng.integers(1, 4)):
        u, v = point_in_lung(anatomy, rng)
        radius = rng.uniform(0.012, 0.025)
        for du, dv in rng.normal(0, 0.35 * radius, (3, 2)).tolist():
            spots.append((u + du, v + dv, radius, (1.05 - subtlety) * 0.26))
    return Finding("nodule", subtlety, spots)


def _miliary(anatomy: Anatomy, rng: np.random.Generator, subtlety: float) -> Finding:
    heights = (1.05 - subtlety) * rng.uniform(0.1, 0.32, 550)
    spots = [
        (*point_in_lung(anatomy, rng, (0.04, 0.85)), rng.uniform(0.0025, 0.0045), float(height)) for height in heights
    ]
    return Finding("miliary", subtlety, spots)


def _effusion(anatomy: Anatomy, rng: np.random.Generator, subtlety: float) -> Finding:
    height = 0.06 + 0.32 * (1 - subtlety) * rng.uniform(0.5, 1)
    return Finding("effusion", subtlety, [], (int(rng.choice([-1, 1])), height))


DRAW: dict[str, Callable[[Anatomy, np.random.Generator, float], Finding]] = {
    "infiltrate": _infiltrate,
    "cavity": _cavity,
    "nodule": _nodule,
    "miliary": _miliary,
    "effusion": _effusion,
}


def filled(finding: Finding, anatomy: Anatomy, frame: Frame) -> Floats:
    """The part of the air in the lung that the finding replaces; below 0 where there is more air: (pixels, pixels)."""
    if finding.level is None:
        return blobs(frame, finding.spots).clip(-0.3, 1)
    u, v = frame.grid()
    side, height = finding.level
    lateral: Floats = np.clip((np.abs(u) - 0.1) / (anatomy.chest - 0.1), 0, 1)
    surface = anatomy.angle[side > 0] - height * (0.35 + 0.65 * lateral**3)
    return np.where(np.sign(u) == side, smooth_step((v - surface) / 0.03 + 0.5), 0)


def visible(effect: Floats) -> NDArray[np.bool_]:
    """The visible part of a finding, given as the air that it replaces."""
    strength: Floats = np.abs(effect)
    marked: NDArray[np.bool_] = strength > VISIBLE * strength.max()
    return marked


def blobs(frame: Frame, spots: list[Blob]) -> Floats:
    """The sum of round Gaussians whose radius is where they have fallen to 1/e: (pixels, pixels)."""
    total = np.zeros((frame.pixels, frame.pixels), np.float32)
    if not spots:
        return total
    centres = frame.to_film(np.array([spot[:2] for spot in spots])) * frame.pixels - 0.5
    for (x, y), (_, _, radius, peak) in zip(centres.tolist(), spots, strict=True):
        true = radius * frame.zoom * frame.pixels
        wide = max(true, 0.6)  # one finer than the pixels fades instead of growing
        height = peak * (true / wide) ** 2
        reach = math.ceil(2.5 * wide)
        left, top = max(0, round(x) - reach), max(0, round(y) - reach)
        part = total[top : max(0, round(y) + reach + 1), left : max(0, round(x) + reach + 1)]
        rows, columns = np.arange(top, top + part.shape[0]), np.arange(left, left + part.shape[1])
        part += np.outer(height * np.exp(-(((rows - y) / wide) ** 2)), np.exp(-(((columns - x) / wide) ** 2)))
    return total


def draw_spots(anatomy: Anatomy, rng: np.random.Generator) -> list[Blob]:
    """A patient's calcified granulomas, nipple shadows, calcified first ribs and full hila, each with some chance."""
    spots: list[Blob] = []
    if rng.random() < 0.2:
        spots += [(*point_in_lung(anatomy, rng), rng.uniform(0.003, 0.006), 0.09) for _ in range(rng.integers(1, 4))]
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


def point_in_lung(
    anatomy: Anatomy, rng: np.random.Generator, down: tuple[float, float] = (0.15, 0.75)
) -> tuple[float, float]:
    """A point (u, v) in a lung, clear of the heart, between two depths (0 the apex, 1 the costophrenic angle)."""
    side = int(rng.choice([-1, 1]))
    t = np.array([rng.uniform(*down)], np.float32)
    near, far = float(body.inner(t)[0]), float(body.outer(anatomy, t)[0])
    clear = max(near, 0.1 + 0.1 * float(t[0]) * (side > 0))
    apex, angle = anatomy.apex[side > 0], anatomy.angle[side > 0]
    return float(side * rng.uniform(clear + 0.15 * (far - clear), 0.92 * far)), apex + float(t[0]) * (angle - apex)


def draw_objects(rng: np.random.Generator) -> list[Stroke]:
    """Objects on the skin during one exposure: leads of an electrocardiogram, or a necklace."""
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
    """Objects as added tissue: (pixels, pixels)."""
    return 0.2 * strokes(frame, lines)


def draw_fold(rng: np.random.Generator) -> tuple[float, float, float]:
    """A fold of skin down one flank: where it crosses the middle, its slope, and how thick it is, mostly 0."""
    thick = rng.uniform(0.03, 0.08) * (rng.random() < 0.08)
    return float(rng.choice([-1, 1])) * rng.uniform(0.2, 0.3), rng.normal(0, 0.25), thick


def fold(line: tuple[float, float, float], frame: Frame) -> Floats:
    """A fold as added tissue: a sharp edge that fades towards the middle."""
    at, slope, thick = line
    if not thick:
        return np.zeros((frame.pixels, frame.pixels), np.float32)
    u, v = frame.grid()
    outward = (u - at - slope * (v - 0.5)) * math.copysign(1, at)
    edge = smooth_step(0.5 - outward / 0.004) * np.exp(np.minimum(outward, 0) / 0.05)
    return thick * edge * smooth_step((v - 0.2) / 0.2)
