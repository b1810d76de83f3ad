"""Coarse Grad-CAM maps of many test images, which the report's gallery lays over their thumbnails."""

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from xraylab import files, tables
from xraylab.explain import saliency, selection
from xraylab.explain.saliency import Method, Saliency
from xraylab.explain.target import Target

SIDE = 32  # of a map: more than a network's last grid has
BATCH = 256  # images whose maps are held at once


def write(target: Target, count: int | Literal["all"], folder: Path) -> dict[str, Any] | None:
    """Maps of the `count` test images with the greatest loss: errors, then the least confident; None for none.

    `folder`/<experiment>/maps.npy: uint8 (images, SIDE, SIDE), each from 0 to its own maximum; maps.csv: id and the
    class or finding of the evidence. It is the class that was predicted, or the finding with the greatest loss.
    """
    rows = _rows(target, len(target.predictions) if count == "all" else count)
    if rows.empty:
        return None
    grad_cam = saliency.methods(["grad-cam"], target.size, 1, 1, target.hardware, target.findings is not None)
    parts = [rows.iloc[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    maps = np.concatenate([_maps(target, part, grad_cam) for part in parts])
    name = f"{target.name}/maps"
    with files.replacing(folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
        np.save(file, maps)
    tables.write(rows, folder / f"{name}.csv")
    return {"name": name, "images": len(rows)}


def _rows(target: Target, count: int) -> pd.DataFrame:
    if target.findings is None:
        losses = selection.with_losses(target.predictions, target.classes).assign(
            evidence=lambda rows: rows["predicted"]
        )
    else:
        losses = selection.of_findings(target.predictions, target.findings.truth, target.findings.thresholds)
        losses = losses.assign(evidence=losses["finding"])
    return selection.top_losses(losses, count)[["id", "evidence"]]


def _maps(target: Target, rows: pd.DataFrame, methods: dict[str, Method]) -> npt.NDArray[np.uint8]:
    return coarse(target.saliency(methods, list(rows["id"]), list(rows["evidence"]))["grad-cam"])


def coarse(maps: Saliency) -> npt.NDArray[np.uint8]:
    """Maps (n, height, width) >= 0 as uint8 (n, SIDE, SIDE), each from 0 to its own maximum; zeros stay so."""
    small = np.stack([cv2.resize(each, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for each in maps])
    highest = small.max(axis=(1, 2), keepdims=True)
    return np.round(255 * small / np.where(highest > 0, highest, 1)).astype(np.uint8)
