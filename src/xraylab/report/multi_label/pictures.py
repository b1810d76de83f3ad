"""Radiographs of a multi-label study: one of each finding, and test images with what was found in them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from xraylab import tables, targets
from xraylab.report.artefacts import Artefacts
from xraylab.report.pictures import Radiographs, data_uri
from xraylab.report.records import Tree

RIGHT = 6  # images of which every finding was classified correctly
WRONG = 12  # images with the most findings wrong


@dataclass(frozen=True)
class Judged:
    """A test image: what it shows that was found, what was missed, and what was found but is known to be absent."""

    id: str
    found: list[str]
    missed: list[str]
    false: list[str]

    @property
    def wrong(self) -> int:
        return len(self.missed) + len(self.false)


def of_findings(data: Artefacts) -> dict[str, list[Tree]]:
    """One image of each finding, if possible one that shows this finding alone."""
    radiographs, samples = Radiographs(data.paths.cache), {}
    labels = targets.values(data.index, data.summary.classes)
    several = (labels == 1).sum(axis=1)
    for number, name in enumerate(data.summary.classes):
        rows = np.flatnonzero(labels[:, number] == 1)
        best = rows[np.argsort(several[rows], kind="stable")[:1]]
        samples[name] = radiographs.with_images(data.index.iloc[best][["id"]])
    return samples


def samples(data: Artefacts) -> Tree:
    """Test images as the first repeat of the best experiment sees them, at its thresholds."""
    run = data.summary.experiments[data.summary.top_two[0]][0]
    judged = _judge(tables.read(data.paths.evaluation / f"images/{run.name}.csv"), data)
    right = [each for each in judged if each.found and not each.wrong]
    wrong = sorted((each for each in judged if each.wrong), key=lambda each: -each.wrong)
    radiographs = Radiographs(data.paths.cache)
    return {
        "run": run,
        "right": [(each, data_uri(pixels)) for each, pixels in _with_pixels(radiographs, right[:RIGHT])],
        "wrong": [(each, data_uri(pixels)) for each, pixels in _with_pixels(radiographs, wrong[:WRONG])],
        "n_right": sum(not each.wrong for each in judged),
        "n": len(judged),
    }


def _with_pixels(radiographs: Radiographs, judged: list[Judged]) -> Iterable[tuple[Judged, npt.NDArray[np.uint8]]]:
    return zip(judged, radiographs.of([each.id for each in judged]), strict=True) if judged else ()


def _judge(table: pd.DataFrame, data: Artefacts) -> list[Judged]:
    """Each image with its findings right and wrong; an uncertain or missing label is neither."""
    names = data.summary.classes
    labels = targets.values(data.index.set_index("id").loc[table["id"]], names)
    called = [set(text.split(targets.SEPARATOR)) for text in table["predicted"]]
    return [
        Judged(
            id=str(name),
            found=[each for each, label in zip(names, truth, strict=True) if label == 1 and each in here],
            missed=[each for each, label in zip(names, truth, strict=True) if label == 1 and each not in here],
            false=[each for each, label in zip(names, truth, strict=True) if label == 0 and each in here],
        )
        for name, truth, here in zip(table["id"], labels, called, strict=True)
    ]
