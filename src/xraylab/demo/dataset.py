"""The data set that `data.source: demo` names: synthetic chest radiographs of healthy people and of people with TB.

The images are drawings made from random numbers: they are there to try the toolkit on, and of no medical value.
"""

import functools
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from xraylab import processes, progress, tables
from xraylab.demo import findings, multi_label
from xraylab.demo.radiograph import DrawFindings, Patient, Radiograph, draw_patient, expose
from xraylab.task import SINGLE_LABEL, is_multi

PREFIXES = {"Healthy": "h", "TB": "tb"}
FILMS = "films"  # the folder of all images where a film may have several findings
TEST_FRACTION = 0.2  # The study tests on this part of each class, the first by name: no patient may lie in two splits.
SEVERAL = 0.15  # the part of the patients who have two to four images
ENOUGH = 100  # Below this number of images, starting more processes takes longer than it saves.
MOST = 16  # processes; Windows allows 61


@dataclass(frozen=True)
class Shot:
    """One image: its class, name, person and visit."""

    label: str
    name: str
    person: int  # counts from 0 within the class
    visit: int  # counts from 0 within the person
    folder: str = ""  # where its class does not name it

    @property
    def image(self) -> str:
        """Its path below the data's folder."""
        return f"{self.folder or self.label}/{self.name}"


@dataclass(frozen=True)
class ImageFacts:
    """The facts about an image that the tables list."""

    age: int
    sex: str
    findings: list[tuple[str, float, int, int, int, int]]  # kind, subtlety, and the box in pixels


def write(
    folder: Path,
    n_healthy: int,
    n_tb: int,
    size: int,
    seed: int,
    task: str = SINGLE_LABEL,
    workers: int | None = None,
) -> None:
    """Write the images and their tables into `folder`; `workers` processes share the work and change no byte.

    `Healthy/h0001.png` ... and `TB/tb0001.png` ... are 8-bit gray, size x size pixels. `masks/tb0001.png` ... hold 0,
    or the code of a finding (see `findings`). `patients.csv` has image, patient, age (years) and sex; `findings.csv`
    has image, finding, subtlety (0 plain, 1 hardly there) and the finding's box x, y, width, height in pixels.

    With several findings per image, all lie in `films/`, one person after another, and `labels.csv` has a column per
    finding: 1, 0, -1 (uncertain) or nothing. `n_tb` of them have findings, of all kinds.
    """
    counts = {"Healthy": n_healthy, "TB": n_tb}
    shots = [shot for label, count in counts.items() for shot in plan(label, count, seed)]
    several = is_multi(task)
    shots = _shuffled(shots, seed) if several else shots
    for name in (FILMS, "masks") if several else (*PREFIXES, "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    draw = findings.draw_any if several else findings.draw
    take = functools.partial(_take, folder=folder, pixels=size, seed=seed, draw=draw)
    facts = list(progress.bar(_shared(take, shots, workers), len(shots), "drawing radiographs"))
    if several:
        plain = [{kind: subtlety for kind, subtlety, *_ in each.findings} for each in facts]
        tables.write(multi_label.labels([shot.image for shot in shots], plain, seed), folder / "labels.csv")
    tables.write(_patients(shots, facts, seed), folder / "patients.csv")
    tables.write(_findings(shots, facts), folder / "findings.csv")


def plan(label: str, count: int, seed: int) -> list[Shot]:
    """A class's images in the order of their names; those of one person follow one another."""
    visits = visits_of(count, _stream(seed, label))
    digits = max(4, len(str(count)))
    whose = [(person, visit) for person, number in enumerate(visits) for visit in range(number)]
    return [Shot(label, f"{PREFIXES[label]}{n:0{digits}}.png", *who) for n, who in enumerate(whose, start=1)]


def _shuffled(shots: list[Shot], seed: int) -> list[Shot]:
    """The same images, one person after another in random order, with names that tell no class."""
    people = list(dict.fromkeys((shot.label, shot.person) for shot in shots))
    order = np.random.default_rng([seed, 1]).permutation(len(people))
    rank = {people[number]: position for position, number in enumerate(order.tolist())}
    digits = max(4, len(str(len(shots))))
    ordered = sorted(shots, key=lambda shot: (rank[shot.label, shot.person], shot.visit))
    return [replace(shot, name=f"f{n:0{digits}}.png", folder=FILMS) for n, shot in enumerate(ordered, start=1)]


def visits_of(count: int, rng: np.random.Generator) -> list[int]:
    """The number of images of each person, `count` in all; the first people fill exactly the study's test split."""
    test = math.floor(TEST_FRACTION * count)
    return [*_filled(test, rng), *_filled(count - test, rng)]


def _filled(count: int, rng: np.random.Generator) -> list[int]:
    visits: list[int] = []
    while (left := count - sum(visits)) > 0:
        visits.append(min(left, int(rng.integers(2, 5)) if rng.random() < SEVERAL else 1))
    return visits


def _stream(seed: int, label: str, *who: int) -> np.random.Generator:
    """Random numbers of one class, person or film, whatever else is drawn, and in whatever order."""
    key = (list(PREFIXES).index(label), *who)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def person(label: str, number: int, seed: int, draw: DrawFindings = findings.draw) -> Patient:
    """One person of a class."""
    return draw_patient(_stream(seed, label, number), label == "TB", draw)


def film(shot: Shot, patient: Patient, pixels: int, seed: int) -> Radiograph:
    """One image of that person."""
    return expose(patient, pixels, _stream(seed, shot.label, shot.person, shot.visit))


def _take(shot: Shot, folder: Path, pixels: int, seed: int, draw: DrawFindings) -> ImageFacts:
    patient = person(shot.label, shot.person, seed, draw)
    radiograph = film(shot, patient, pixels, seed)
    # Level 4 packs such noisy pixels as well as the usual 6, in half the time.
    Image.fromarray(radiograph.gray).save(folder / shot.image, compress_level=4)
    if patient.findings:
        Image.fromarray(radiograph.mask).save(folder / "masks" / shot.name)
    rows = [(finding.kind, round(finding.subtlety, 3), *box) for finding, box in radiograph.boxes]
    return ImageFacts(patient.anatomy.age, patient.anatomy.sex, rows)


def _shared(take: Callable[[Shot], ImageFacts], shots: list[Shot], workers: int | None) -> Iterator[ImageFacts]:
    """The results in the order of `shots`, computed by several processes where that pays."""
    number = workers or (min(os.cpu_count() or 1, MOST) if len(shots) >= ENOUGH else 1)
    if number == 1:
        yield from map(take, shots)
        return
    with ProcessPoolExecutor(number, get_context("spawn"), processes.end_with_creator) as pool:
        yield from pool.map(take, shots, chunksize=8)


def _patients(shots: list[Shot], facts: list[ImageFacts], seed: int) -> pd.DataFrame:
    """Patients are numbered in random order, so that a number does not tell the class."""
    people = list(dict.fromkeys((shot.label, shot.person) for shot in shots))
    numbers = np.random.default_rng(seed).permutation(len(people)) + 1
    digits = max(4, len(str(len(people))))
    names = {who: f"p{number:0{digits}}" for who, number in zip(people, numbers.tolist(), strict=True)}
    rows = [
        (shot.image, names[shot.label, shot.person], result.age, result.sex)
        for shot, result in zip(shots, facts, strict=True)
    ]
    return pd.DataFrame(rows, columns=["image", "patient", "age", "sex"])


def _findings(shots: list[Shot], facts: list[ImageFacts]) -> pd.DataFrame:
    rows = [(shot.image, *finding) for shot, result in zip(shots, facts, strict=True) for finding in result.findings]
    return pd.DataFrame(rows, columns=["image", "finding", "subtlety", "x", "y", "width", "height"])
