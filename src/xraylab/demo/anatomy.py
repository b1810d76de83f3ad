"""A patient's body as numbers, and the curves that bound the lungs. Synthetic, and of no medical value."""

from dataclasses import dataclass

import numpy as np

from xraylab.demo.geometry import Floats, dome

RIGHT, LEFT = -1, 1  # The patient's sides; the right lung is on the left of the image.
APEX_U = 0.115


@dataclass(frozen=True)
class Anatomy:
    """Lengths in fractions of the film; pairs are (the patient's right, left)."""

    sex: str
    age: int
    chest: float  # half the inner width at the widest place
    wall: float
    thickness: float  # front to back, relative
    apex: tuple[float, float]
    dome: tuple[float, float]  # the top of the diaphragm
    angle: tuple[float, float]  # the costophrenic angle
    lean: float  # how far turning the patient moves heart and windpipe
    heart: float
    heart_tilt: float
    mediastinum: float
    knob: float
    hilum: float
    ribs: float  # spacing
    rib_drop: float
    bone: float
    clavicle: float
    arm: float
    breast: float
    bubble: float
    markings: float


def draw(rng: np.random.Generator) -> Anatomy:
    """Sample one patient's anatomy."""
    sex, age = str(rng.choice(["F", "M"])), int(np.clip(rng.normal(46, 17), 16, 90))
    dome = rng.normal(0.765, 0.03)
    apex = rng.normal(0.1, 0.018)
    angle = dome + rng.uniform(0.085, 0.14)
    return Anatomy(
        sex=sex,
        age=age,
        chest=rng.normal(0.37, 0.017) - 0.01 * (sex == "F"),
        wall=rng.uniform(0.035, 0.085),
        thickness=rng.normal(1, 0.07),
        apex=(apex + rng.normal(0, 0.006), apex + rng.normal(0, 0.006)),
        dome=(dome, dome + rng.uniform(0.005, 0.05)),
        angle=(angle + rng.normal(0, 0.01), angle + 0.01 + rng.normal(0, 0.01)),
        lean=rng.normal(0, 0.009),
        heart=rng.normal(1, 0.08) + 0.0015 * (age - 46),
        heart_tilt=rng.normal(0.75, 0.12),
        mediastinum=rng.normal(0.062, 0.006),
        knob=rng.normal(0.034, 0.005) + 0.0002 * (age - 46),
        hilum=rng.uniform(0.5, 1.2),
        ribs=rng.normal(0.074, 0.004),
        rib_drop=rng.normal(0.27, 0.025),
        bone=rng.uniform(0.7, 1.25),
        clavicle=rng.normal(0.165, 0.018),
        arm=rng.uniform(0.0, 0.14),
        breast=rng.uniform(0.3, 1.0) if sex == "F" else 0.0,
        bubble=max(0.0, rng.normal(0.5, 0.4)),
        markings=rng.uniform(0.6, 1.15),
    )


def of_side(u: Floats, pair: tuple[float, float]) -> Floats:
    """The right value where u < 0, the left one elsewhere."""
    return np.where(u < 0, np.float32(pair[0]), np.float32(pair[1]))


def depth(anatomy: Anatomy, u: Floats, v: Floats) -> Floats:
    """Relative height of a point in its lung: 0 at the apex, 1 at the costophrenic angle."""
    apex, angle = of_side(u, anatomy.apex), of_side(u, anatomy.angle)
    return np.clip((v - apex) / (angle - apex), 0, 1)


def outer(anatomy: Anatomy, t: Floats) -> Floats:
    """The distance of the lung's outer edge from the spine, at depth t."""
    distance: Floats = APEX_U + (anatomy.chest - APEX_U) * dome(np.sqrt(1 - t) ** 5)
    return distance


def inner(t: Floats) -> Floats:
    """The same for the inner edge of the pleural cavity; heart and vessels lie over it."""
    distance: Floats = APEX_U - (APEX_U - 0.025) * np.sqrt(np.clip(t / 0.13, 0, 1))
    return distance


def diaphragm(anatomy: Anatomy, u: Floats) -> Floats:
    """The height v of the diaphragm: a dome on each side that falls to the costophrenic angle."""
    top, angle = of_side(u, anatomy.dome), of_side(u, anatomy.angle)
    x = (np.abs(u) - 0.155) / (anatomy.chest - 0.155)
    return top + np.where(x > 0, angle - top + 0.02, 0.05) * x * x
