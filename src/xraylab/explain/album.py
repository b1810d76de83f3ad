"""Pictures of chosen test images and of where their network looks, with the rows that tell of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from xraylab.explain import choose, maps, masks, pictures
from xraylab.explain.masks import Mask
from xraylab.explain.saliency import Method
from xraylab.explain.subject import Subject, saliency_of

Record = dict[str, Any]


def write(subject: Subject, methods: dict[str, Method], count: int, findings: dict[str, Mask], folder: Path) -> Record:
    """Grids of right and wrong images and the greatest losses; their pictures go to `folder`/<experiment>/.

    In a grid the evidence shown is that for the grid's class, in the losses that for what was predicted. Findings whose
    mask is known are outlined.
    """

    def drawn(rows: pd.DataFrame, labels: list[str], prefix: str) -> list[Record]:
        return _drawn(subject, methods, rows, labels, findings, folder, prefix)

    images = choose.scored(subject.tested, subject.model["classes"])
    losses = choose.top_losses(images, count)
    cells = choose.cells(images, subject.model["classes"], subject.model["positive"], count)
    return {
        "cells": [
            {
                "kind": cell.kind,
                "label": cell.label,
                "found": cell.found,
                "images": drawn(cell.rows, [cell.label] * len(cell.rows), f"grid-{number}"),
            }
            for number, cell in enumerate(cells)
        ],
        "top_losses": drawn(losses, list(losses["predicted"]), "loss"),
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
    subject: Subject,
    methods: dict[str, Method],
    rows: pd.DataFrame,
    labels: list[str],
    findings: dict[str, Mask],
    folder: Path,
    prefix: str,
) -> list[Record]:
    if rows.empty:
        return []
    found = saliency_of(subject, subject.network, methods, list(rows["id"]), labels)
    drawn = []
    for number, (row, label) in enumerate(zip(rows.to_dict("index").values(), labels, strict=True)):
        gray = subject.gray(row["id"])
        mask = masks.read(findings[row["id"]], subject.pixels) if row["id"] in findings else None
        shown = {name: pictures.overlay(gray, each[number], mask) for name, each in found.items()}
        where = {name: f"{subject.name}/{prefix}-{number}-{name}.png" for name in ("image", *shown)}
        for name, picture in {"image": gray, **shown}.items():
            pictures.write(picture, folder / where[name])
        drawn.append({"evidence_for": label, "pictures": where, **{str(key): value for key, value in row.items()}})
    return drawn
