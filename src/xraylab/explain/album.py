"""Pictures of chosen test images and of where their network looks, with the rows that tell of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from xraylab.explain import choose, maps, masks, pictures
from xraylab.explain.masks import Mask
from xraylab.explain.saliency import Method, Saliency
from xraylab.explain.subject import Subject, saliency_of

Record = dict[str, Any]


@dataclass(frozen=True)
class _Part:
    """Images that are shown together, as `choose` has their rows, and the class whose evidence each shows."""

    prefix: str
    rows: pd.DataFrame
    labels: list[str]


def write(subject: Subject, methods: dict[str, Method], count: int, findings: dict[str, Mask], folder: Path) -> Record:
    """Grids of right and wrong images and the greatest losses; their pictures go to `folder`/<experiment>/.

    In a grid the evidence shown is that for the grid's class, in the losses that for what was predicted. Findings whose
    mask is known are outlined.
    """
    images = choose.scored(subject.tested, subject.model["classes"])
    losses = choose.top_losses(images, count)
    cells = choose.cells(images, subject.model["classes"], subject.model["positive"], count)
    parts = [_Part(f"grid-{number}", cell.rows, [cell.label] * len(cell.rows)) for number, cell in enumerate(cells)]
    drawn = _drawn(subject, methods, [*parts, _Part("loss", losses, list(losses["predicted"]))], findings, folder)
    return {
        "cells": [
            {"kind": cell.kind, "label": cell.label, "found": cell.found, "images": records}
            for cell, records in zip(cells, drawn[:-1], strict=True)
        ],
        "top_losses": drawn[-1],
    }


def feature_maps(subjects: Sequence[Subject], name: str, most: int, folder: Path) -> list[Record]:
    """Per depth and network: the layer and a sheet of what it makes of the test image `name`."""
    found = [(subject, maps.of(subject.network, subject.input([name]), most)) for subject in subjects]
    records = []
    for subject, layers in found:
        for depth, (layer, channels) in layers.items():
            where = f"{subject.name}/{depth}-layer.png"
            pictures.write(pictures.sheet(channels), folder / where)
            records.append({"experiment": subject.name, "depth": depth, "layer": layer, "picture": where})
    return records


def _drawn(
    subject: Subject, methods: dict[str, Method], parts: Sequence[_Part], findings: dict[str, Mask], folder: Path
) -> list[list[Record]]:
    """Each part's records; the maps of all parts are computed together."""
    ids = [name for part in parts for name in part.rows["id"]]
    labels = [label for part in parts for label in part.labels]
    maps = saliency_of(subject, subject.network, methods, ids, labels)
    drawn, first = [], 0
    for part in parts:
        own = {name: each[first : first + len(part.rows)] for name, each in maps.items()}
        drawn.append(_pictures(subject, part, own, findings, folder))
        first += len(part.rows)
    return drawn


def _pictures(
    subject: Subject, part: _Part, maps: dict[str, Saliency], findings: dict[str, Mask], folder: Path
) -> list[Record]:
    records = []
    for number, (row, label) in enumerate(zip(part.rows.to_dict("index").values(), part.labels, strict=True)):
        gray = subject.gray(row["id"])
        mask = masks.read(findings[row["id"]], subject.pixels) if row["id"] in findings else None
        shown = {name: pictures.overlay(gray, each[number], mask) for name, each in maps.items()}
        where = {name: f"{subject.name}/{part.prefix}-{number}-{name}.png" for name in ("image", *shown)}
        for name, picture in {"image": gray, **shown}.items():
            pictures.write(picture, folder / where[name])
        records.append({"evidence_for": label, "pictures": where, **{str(key): value for key, value in row.items()}})
    return records
