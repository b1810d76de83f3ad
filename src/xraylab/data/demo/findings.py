"""The drawn signs of tuberculosis, as the part of the lung's air that they fill. Synthetic, and of no medical value.

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

from xraylab.data.demo.anatomy import Anatomy
from xraylab.data.demo.geometry import Floats, Frame, smooth_step
from xraylab.data.demo.incidental import Blob, blobs, place

SHARES = {"infiltrate": 0.44, "cavity": 0.17, "nodule": 0.11, "miliary": 0.11, "effusion": 0.17}
SUBTLETY = (0.0, 0.75)
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


def _infiltrate(anatomy: Anatomy, rng: np.random.Generator, subtlety: float) -> Finding:
    centre = np.array(place(anatomy, rng, (0.1, 0.36)))
    size = rng.uniform(0.04, 0.085)
    spots: list[Blob] = []
    for _ in range(round(700 * size)):
        u, v = (centre + size * rng.normal(0, 0.75, 2)).tolist()
        spots.append((u, v, rng.uniform(0.008, 0.034), (1.05 - subtlety) * rng.uniform(0.05, 0.4)))
    return Finding("infiltrate", subtlety, spots)


def _cavity(anatomy: Anatomy, rng: np.random.Generator, subtlety: float) -> Finding:
    u, v = place(anatomy, rng, (0.15, 0.45))
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
        u, v = place(anatomy, rng)
        radius = rng.uniform(0.012, 0.025)
        for du, dv in rng.normal(0, 0.35 * radius, (3, 2)).tolist():
            spots.append((u + du, v + dv, radius, (1.05 - subtlety) * 0.26))
    return Finding("nodule", subtlety, spots)


def _miliary(anatomy: Anatomy, rng: np.random.Generator, subtlety: float) -> Finding:
    heights = (1.05 - subtlety) * rng.uniform(0.1, 0.32, 550)
    spots = [(*place(anatomy, rng, (0.04, 0.85)), rng.uniform(0.0025, 0.0045), float(height)) for height in heights]
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
    """Where a finding, as the air it replaces, is worth marking."""
    strength: Floats = np.abs(effect)
    marked: NDArray[np.bool_] = strength > VISIBLE * strength.max()
    return marked
