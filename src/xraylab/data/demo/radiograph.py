"""One synthetic film: a patient is drawn once, then exposed as often as there are images of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xraylab.data.demo import anatomy, film, findings, incidental, projection
from xraylab.data.demo.anatomy import Anatomy
from xraylab.data.demo.findings import Finding
from xraylab.data.demo.geometry import Floats, Stroke
from xraylab.data.demo.incidental import Blob

Box = tuple[int, int, int, int]
"""left, top, width, height in pixels."""


@dataclass(frozen=True)
class Patient:
    """What all images of one patient share."""

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


def draw_patient(rng: np.random.Generator, diseased: bool) -> Patient:
    """One patient at random; the findings are drawn last, so that the rest cannot depend on the class."""
    drawn = anatomy.draw(rng)
    vessels, spots = projection.draw_vessels(drawn, rng), incidental.draw_spots(drawn, rng)
    return Patient(drawn, vessels, spots, findings.draw(drawn, rng) if diseased else [])


def expose(patient: Patient, pixels: int, rng: np.random.Generator) -> Radiograph:
    """Take one film; what is drawn from `rng` is the same whatever the patient has."""
    view, worn, line = film.draw(rng), incidental.draw_objects(rng), incidental.draw_fold(rng)
    frame = view.frame(pixels)
    healthy = projection.project(patient.anatomy, patient.vessels, frame)
    effects = [(each, findings.filled(each, patient.anatomy, frame) * healthy.air) for each in patient.findings]
    air = np.maximum(healthy.air - sum(effect for _, effect in effects), 0)
    dense = healthy.dense + incidental.blobs(frame, patient.spots) * np.sqrt(healthy.air)
    dense += incidental.objects(worn, frame) + incidental.fold(line, frame)
    gray = film.develop(healthy.tissue - film.LUNG * air - healthy.gas + dense, view, rng)
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
