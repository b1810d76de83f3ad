"""Pictures of selected test images and of where their network looks, with the records that name them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from xraylab.explain import localization, pictures, selection
from xraylab.explain.localization import Mask
from xraylab.explain.saliency import Method, Saliency
from xraylab.explain.selection import Cell
from xraylab.explain.target import Target

Record = dict[str, Any]
MasksOf = dict[str, dict[str, Mask]]
"""The class or finding whose evidence is shown -> image id -> mask."""


@dataclass(frozen=True)
class _Group:
    """Images that are shown together, as `selection` has their rows, and the class whose evidence each shows."""

    prefix: str
    rows: pd.DataFrame
    labels: list[str]


def write(target: Target, methods: dict[str, Method], count: int, masks: MasksOf, folder: Path) -> Record:
    """Grids of right and wrong images and the greatest losses; their pictures go to `folder`/<experiment>/.

    In a grid the evidence shown is that for the grid's class, in the losses that for what was predicted, or for the
    finding that was mistaken. Findings whose mask is known are outlined.
    """
    images, cells = _select(target, count)
    losses = selection.top_losses(images, count)
    evidence = list(losses["predicted"] if target.findings is None else losses["finding"])
    grids = [_Group(f"grid-{number}", cell.rows, [cell.label] * len(cell.rows)) for number, cell in enumerate(cells)]
    groups = _write_groups(target, methods, [*grids, _Group("loss", losses, evidence)], masks, folder)
    return {
        "cells": [
            {"kind": cell.kind, "label": cell.label, "found": cell.total, "images": records}
            for cell, records in zip(cells, groups[:-1], strict=True)
        ],
        "top_losses": groups[-1],
    }


def _select(target: Target, count: int) -> tuple[pd.DataFrame, list[Cell]]:
    """All test images with their losses, and the cells of the grids: of each finding shown, or of the classes."""
    if target.findings is None:
        images = selection.with_losses(target.predictions, target.classes)
        return images, selection.confusion_cells(images, target.classes, target.record["positive"], count)
    images = selection.of_findings(target.predictions, target.findings.truth, target.findings.thresholds)
    cells = [
        cell
        for name in target.findings.shown
        for cell in selection.confusion_cells(images[images["finding"] == name], target.classes, name, count)
    ]
    return images, cells


def _write_groups(
    target: Target, methods: dict[str, Method], groups: Sequence[_Group], masks: MasksOf, folder: Path
) -> list[list[Record]]:
    """Each group's records; the maps of all groups are computed together."""
    ids = [name for group in groups for name in group.rows["id"]]
    labels = [label for group in groups for label in group.labels]
    maps = target.saliency(methods, ids, labels)
    records, first = [], 0
    for group in groups:
        group_maps = {name: each[first : first + len(group.rows)] for name, each in maps.items()}
        records.append(_pictures(target, group, group_maps, masks, folder))
        first += len(group.rows)
    return records


def _pictures(target: Target, group: _Group, maps: dict[str, Saliency], masks: MasksOf, folder: Path) -> list[Record]:
    records = []
    for number, (row, label) in enumerate(zip(group.rows.to_dict("index").values(), group.labels, strict=True)):
        gray = target.gray(row["id"])
        of_label = masks.get(label, {})
        mask = localization.read_mask(of_label[row["id"]], target.size) if row["id"] in of_label else None
        images = {"image": gray, **{name: pictures.overlay(gray, each[number], mask) for name, each in maps.items()}}
        files = {name: f"{target.name}/{group.prefix}-{number}-{name}.png" for name in images}
        for name, picture in images.items():
            pictures.write(picture, folder / files[name])
        records.append({"evidence_for": label, "pictures": files, **{str(key): value for key, value in row.items()}})
    return records
