"""Project the body: path lengths through tissue, air, vessels and bone, per pixel."""

import math
from dataclasses import dataclass

import numpy as np

from xraylab.demo import anatomy as body
from xraylab.demo.anatomy import LEFT, RIGHT, Anatomy
from xraylab.demo.geometry import (
    Floats,
    Frame,
    Points,
    Stroke,
    dome,
    ellipse,
    polygons,
    ribbons,
    smooth_step,
    strokes,
)

RIBS = 10
TRUNKS, FORKS = 10, 5


@dataclass(frozen=True)
class Projection:
    """Path lengths relative to the chest's thickness, each (pixels, pixels)."""

    tissue: Floats  # the body's full thickness, lungs included
    air: Floats  # lung
    gas: Floats  # windpipe and stomach
    dense: Floats  # vessels and bone, as the tissue they add


def project(anatomy: Anatomy, vessels: list[Stroke], frame: Frame) -> Projection:
    """Everything a healthy patient has."""
    u, v = frame.grid()
    air = lungs(anatomy, u, v)
    dense = anatomy.bone * (bones(anatomy, frame, u) + spine(u, v))
    dense += 0.12 * anatomy.markings * np.sqrt(air) * strokes(frame, vessels)
    return Projection(tissue(anatomy, u, v), air, gas(anatomy, u, v), dense)


def tissue(anatomy: Anatomy, u: Floats, v: Floats) -> Floats:
    """Torso, neck and arms, and the breasts on top."""
    side: Floats = np.abs(u)
    body_width = anatomy.chest + anatomy.wall
    width = body_width + 0.03 * smooth_step((v - 0.75) / 0.3) + 0.22 * smooth_step((0.36 - v) / 0.22)
    skin: Floats = np.sqrt(np.clip((v + 0.02 - 0.3 * np.maximum(side - 0.07, 0)) / 0.13, 0, 1))
    upper = 0.62 + 0.38 * smooth_step((v - 0.05) / 0.3)
    torso = dome((side / width) ** 3) * upper * skin
    neck = 0.6 * dome((side / 0.105) ** 2) * smooth_step((0.25 - v) / 0.2)
    chest: Floats = np.maximum.reduce([torso, neck, _arms(anatomy, side, v)])
    return anatomy.thickness * chest + _breasts(anatomy, u, v)


def _arms(anatomy: Anatomy, side: Floats, v: Floats) -> Floats:
    axis = 0.48 + anatomy.wall + anatomy.arm * (v - 0.2)
    return 0.45 * dome(((side - axis) / 0.095) ** 2) * smooth_step((v - 0.1) / 0.1)


def _breasts(anatomy: Anatomy, u: Floats, v: Floats) -> Floats:
    if not anatomy.breast:
        return np.zeros_like(u)
    side = np.abs(u)
    radii = (0.13 + 0.03 * anatomy.breast, 0.11 + 0.04 * anatomy.breast)
    bowl = dome(ellipse(side, v, (0.225, 0.66 + 0.04 * anatomy.breast), radii))
    return 0.28 * anatomy.breast * bowl * smooth_step((v - 0.52) / 0.25) * smooth_step((side - 0.07) / 0.13)


def lungs(anatomy: Anatomy, u: Floats, v: Floats) -> Floats:
    """The pleural cavities above the diaphragm, less heart and mediastinum."""
    t = body.depth(anatomy, u, v)
    side: Floats = np.abs(u)
    across = dome((side / body.outer(anatomy, t)) ** 4)
    medial = smooth_step((side - body.inner(t)) / 0.012 + 0.5)
    above = smooth_step((body.diaphragm(anatomy, u) - v) / 0.016 + 0.5)
    shallow: Floats = np.sqrt(np.minimum(t / 0.25, 1))
    cavity = 0.78 * anatomy.thickness * across * medial * shallow * above
    air: Floats = np.maximum(cavity - 0.85 * mediastinum(anatomy, u, v), 0)
    return air


def mediastinum(anatomy: Anatomy, u: Floats, v: Floats) -> Floats:
    """Heart, great vessels and aortic knob, melted into one body, as the lung that they displace."""
    size, floor = anatomy.heart, (anatomy.dome[0] + anatomy.dome[1]) / 2
    u, v = u - anatomy.lean, np.minimum(v, floor - 0.05)  # the heart rests on the diaphragm: no lung below it
    organs = [
        ellipse(u, v, (0.1 * size, floor - 0.07), (0.133 * size, 0.09 * size), anatomy.heart_tilt),
        ellipse(u, v, (0.03, floor - 0.18), (0.083 * size, 0.14 * size), -0.4),
        ellipse(u, v, (-0.028, floor - 0.08), (0.075 * size, 0.115 * size), -0.1),
        ellipse(u, v, (0.04, 0.345), (anatomy.knob, 1.2 * anatomy.knob)),
        ((u + 0.006) / (anatomy.mediastinum - 0.008 + 0.025 * smooth_step((0.2 - v) / 0.15))) ** 2,
    ]
    melted: Floats = np.maximum(sum(np.exp(-1.5 * squared) for squared in organs) - math.exp(-1.5), 0)
    return np.sqrt(np.minimum(melted, 1))


def gas(anatomy: Anatomy, u: Floats, v: Floats) -> Floats:
    """The windpipe down to its fork, and the bubble in the stomach."""
    lean = 0.006 - anatomy.lean
    tube = dome(((u + lean) / 0.021) ** 2) * smooth_step((0.385 - v) / 0.04)
    fork = np.abs(u + lean) - 0.9 * (v - 0.36)
    bronchi = 0.6 * dome((fork / 0.02) ** 2) * smooth_step((v - 0.35) / 0.02) * smooth_step((0.43 - v) / 0.05)
    top = anatomy.dome[1] + 0.012
    radii = (0.05 + 0.05 * anatomy.bubble, 0.03 + 0.035 * anatomy.bubble)
    bubble = dome(ellipse(u, v, (0.17, top + radii[1]), radii)) * smooth_step((top + 1.35 * radii[1] - v) / 0.01)
    return 0.11 * np.maximum(tube, bronchi) + 0.4 * min(1, 2 * anatomy.bubble) * bubble


def bones(anatomy: Anatomy, frame: Frame, u: Floats) -> Floats:
    """Ribs, clavicles, shoulder blades and upper arms."""
    back = polygons(frame, _tubes(_ribs(anatomy, np.linspace(0.08, math.pi / 2, 26)), 0.021))
    front = polygons(frame, _tubes(_ribs(anatomy, np.linspace(math.pi / 2, 0.87 * math.pi, 22))[:, 2:8], 0.022))
    shoulders = [shape for side in (RIGHT, LEFT) for shape in _shoulder(anatomy, side)]
    girdle = polygons(frame, shoulders + _tubes(_clavicles(anatomy), 0.027))
    return (0.085 * back + 0.05 * front) * smooth_step((np.abs(u) - 0.02) / 0.03) + 0.11 * girdle


def _tubes(curves: Points, width: float) -> list[tuple[Points, float]]:
    """Each bone, of curves (..., n, 2), as a band with a denser rim."""
    curves = curves.reshape(-1, *curves.shape[-2:])
    rims, cores = ribbons(curves, width), ribbons(curves, 0.62 * width)
    return [(rim, 1.0) for rim in rims] + [(core, 0.68) for core in cores]


def _ribs(anatomy: Anatomy, angle: Points) -> Points:
    """Arcs of ten tilted hoops on each side, (2, 10, n, 2).

    A rib leaves the spine at angle 0, falls towards the flank at pi/2, and comes back in front, lower, towards pi.
    """
    number = np.arange(RIBS)[:, None]
    t = np.minimum(1, (number + 0.75) / 6.5)
    width = 0.012 + body.outer(anatomy, 0.85 * t + 0.06)
    apex = np.array(anatomy.apex)[:, None, None]
    rise = np.where(angle < math.pi / 2, 0.03 * np.sin(2 * angle), 0)
    drop = anatomy.rib_drop * (0.55 + 0.45 * t) * (1 - np.cos(angle)) / 2
    v = apex - 0.02 + anatomy.ribs * number * (1 + 0.012 * number) + drop - rise
    u = np.array([RIGHT, LEFT])[:, None, None] * width * np.sin(angle)
    return np.stack([u, v], axis=-1)


def _clavicles(anatomy: Anatomy) -> Points:
    """Both collar bones, (2, 20, 2)."""
    x = np.linspace(0, 1, 20)
    height = anatomy.clavicle - 0.085 * x - 0.014 * np.sin(2 * math.pi * x)
    return np.stack([np.stack([side * (0.035 + 0.36 * x) + anatomy.lean, height], axis=1) for side in (RIGHT, LEFT)])


def _shoulder(anatomy: Anatomy, side: int) -> list[tuple[Points, float]]:
    """The shoulder blade, its rim and spine, the head of the upper arm and its shaft."""
    flank = np.array([anatomy.chest + anatomy.wall, 0])
    swing = np.array([anatomy.arm, 0])
    turn = np.linspace(0, 2 * math.pi, 24)
    shaft = np.array([[0.065, 0.18], [0.075, 0.5], [0.085, 1.0]]) + swing * [[0.0], [0.3], [1.0]]
    parts = [
        (np.array([[-0.01, 0.14], [-0.13, 0.13], [-0.145, 0.22], [-0.095, 0.42], [-0.06, 0.36]]), 0.2),
        (ribbons(np.array([[-0.005, 0.17], [-0.045, 0.27], [-0.085, 0.41]]), 0.016), 0.5),
        (ribbons(np.array([[0.03, 0.105], [-0.06, 0.135], [-0.13, 0.175]]), 0.022), 0.45),
        (0.045 * np.stack([np.cos(turn), np.sin(turn)], axis=1) + [0.055, 0.165], 0.65),
        (ribbons(shaft, 0.042), 0.8),
        (ribbons(shaft, 0.022), 0.5),
    ]
    return [((points + flank) * (side, 1), value) for points, value in parts]


def spine(u: Floats, v: Floats) -> Floats:
    """Vertebral bodies with the gaps between them, and the bright dots behind them."""
    phase = (v / 0.052) % 1 - 0.5
    width = 0.034 + 0.006 * v - 0.012 * phase * phase
    column = np.sqrt(dome((u / width) ** 2)) * (1 - 0.25 * smooth_step((np.abs(phase) - 0.3) / 0.12))
    process = np.exp(-((u / 0.007) ** 2) - ((phase - 0.1) / 0.25) ** 2)
    pedicles = np.exp(-(((np.abs(u) - 0.02) / 0.006) ** 2) - ((phase + 0.1) / 0.14) ** 2)
    bone: Floats = 0.085 * column + 0.05 * process + 0.04 * pedicles
    return bone


def draw_vessels(anatomy: Anatomy, rng: np.random.Generator) -> list[Stroke]:
    """Two trees that branch from the hila outwards, thinnest twigs first."""
    return sorted((stroke for side in (RIGHT, LEFT) for stroke in _tree(anatomy, side, rng)), key=lambda line: line[1])


def _tree(anatomy: Anatomy, side: int, rng: np.random.Generator) -> list[Stroke]:
    heading = np.linspace(-1.5, 1.6, TRUNKS) + rng.normal(0, 0.12, TRUNKS)
    start = rng.normal((0.07 + anatomy.lean * side, 0.45 - 0.02 * (side > 0)), 0.012, (TRUNKS, 2))
    start[:, 1] += np.linspace(-0.05, 0.05, TRUNKS)
    width = rng.uniform(0.009, 0.016, TRUNKS) * (0.75 + 0.35 * anatomy.hilum) * np.linspace(0.8, 1.15, TRUNKS)
    lines: list[Stroke] = []
    for _ in range(FORKS):
        length = rng.uniform(0.03, 0.08, len(heading)) * (1 + 0.3 * np.sin(heading))
        bend = rng.normal(0, 0.25, len(heading))
        paths = _bent(start, heading, length, bend)
        lines += zip(paths * (side, 1), width.tolist(), np.minimum(1, width / 0.012).tolist(), strict=True)
        fork = rng.uniform(0.1, 0.7, len(heading))
        start = np.repeat(paths[:, -1], 2, axis=0)
        heading = np.stack([heading + bend - fork, heading + bend + 0.5 * fork], axis=1).ravel()
        width = np.stack([0.85 * width, 0.5 * width], axis=1).ravel() * rng.uniform(0.8, 1.05, 2 * len(width))
    return lines


def _bent(start: Points, heading: Points, length: Points, bend: Points) -> Points:
    """Polylines of four points each, (n, 4, 2), that turn by `bend` radians on their way."""
    turn = heading[:, None] + bend[:, None] * np.array([0.0, 0.5, 1.0])
    steps = np.stack([np.cos(turn), np.sin(turn)], axis=2) * (length / 3)[:, None, None]
    return np.concatenate([start[:, None], start[:, None] + np.cumsum(steps, axis=1)], axis=1)
