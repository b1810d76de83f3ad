"""Whether a map points at the finding: the pointing game, the saliency inside, and what chance would reach.

Findings are known for data that say where they are, as the demo does: `masks/<file name>` beside findings.csv, or, of
several findings per image, their boxes in it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image

from xraylab import tables
from xraylab.data import pixels, prepare
from xraylab.data.prepare import Preparation
from xraylab.errors import DataError
from xraylab.explain import selection
from xraylab.explain.saliency import Method
from xraylab.explain.target import Target
from xraylab.model.create import create_recorded_model
from xraylab.registry.findings import canonical

Maps = npt.NDArray[np.floating[Any]]  # (n, height, width)
Masks = npt.NDArray[np.bool_]  # (n, height, width)
Matrix = npt.NDArray[np.float64]

LIST = "findings.csv"
BOX = ["x", "y", "width", "height"]
Box = tuple[int, int, int, int]
"""Left, top, width and height in the image's pixels."""
INSIDE = 128  # of 255: where at least half of a fitted pixel's area belongs to a finding


@dataclass(frozen=True)
class Mask:
    """A file that is not 0 where a finding is, the image that it belongs to, and how that image was prepared."""

    file: Path | None
    """None: the boxes say all."""
    image: Path
    preparation: Preparation
    fit: str
    boxes: tuple[Box, ...] | None = None
    """Where this finding is among others of the file."""


def find_masks(raw: Path, index: pd.DataFrame, preparation: Preparation, fit: str) -> dict[str, Mask]:
    """Image id -> its mask, for the images that findings.csv lists; none where there is no such file.

    Errors: DataError where a mask of a listed image is not there.
    """
    if not (raw / LIST).is_file():
        return {}
    names = set(tables.read(raw / LIST, ("image",))["image"])
    masks = {
        name: Mask(raw / "masks" / Path(name).name, raw / path, preparation, fit)
        for name, path in zip(index["id"], index["path"], strict=True)
        if name in names
    }
    for name, mask in masks.items():
        if mask.file is not None and not mask.file.is_file():
            raise DataError(
                f"{LIST} lists a finding in {name}, but {mask.file} does not exist: add it, or drop the row"
            )
    return masks


def find_masks_of_findings(
    raw: Path, index: pd.DataFrame, preparation: Preparation, fit: str, findings: list[str]
) -> dict[str, dict[str, Mask]]:
    """Finding -> image id -> where it is: its boxes in findings.csv, and within them the image's mask if there is one.

    The column `finding` names findings as the study does, or as public sets call them. Errors: DataError where
    findings.csv has no boxes.
    """
    if not (raw / LIST).is_file():
        return {}
    table = tables.read(raw / LIST, ("image", "finding"))
    if absent := [name for name in ("image", "finding", *BOX) if name not in table]:
        raise DataError(f"{raw / LIST} has no column {absent[0]}: add it, or remove the file")
    listed = table[table["image"].isin(set(index["id"]))]
    masks: dict[str, dict[str, Mask]] = {name: {} for name in findings}
    path_of = dict(zip(index["id"], index["path"], strict=True))
    for name in findings:
        rows = listed[listed["finding"].map(canonical) == canonical(name)]
        for image, boxes in rows.groupby("image", sort=False):
            file = raw / "masks" / Path(str(image)).name
            masks[name][str(image)] = Mask(
                file if file.is_file() else None,
                raw / path_of[image],
                preparation,
                fit,
                tuple((int(x), int(y), int(width), int(height)) for x, y, width, height in boxes[BOX].to_numpy()),
            )
    return masks


def read_mask(mask: Mask, size: int) -> npt.NDArray[np.bool_]:
    """Where the findings are after the image was cropped and fitted to (size, size).

    Errors: DataError where the mask and its image differ in size.
    """
    levels = pixels.decode(mask.image).levels
    inside = np.full(levels.shape, 255, np.uint8)
    if mask.file is not None:
        with Image.open(mask.file) as image:
            inside = np.where(np.asarray(image) > 0, 255, 0).astype(np.uint8)
    if levels.shape != inside.shape:
        sizes = [f"{width} x {height}" for height, width in (inside.shape, levels.shape)]
        raise DataError(f"{mask.file} has {sizes[0]} pixels, its image {sizes[1]}: they must be of one size")
    if mask.boxes is not None:
        inside = np.where(_within(mask.boxes, inside.shape), inside, 0).astype(np.uint8)
    return pixels.fit(prepare.find_crop(levels, mask.preparation).of(inside), size, mask.fit) >= INSIDE


def _within(boxes: tuple[Box, ...], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    inside = np.zeros(shape, bool)
    for x, y, width, height in boxes:
        inside[max(y, 0) : y + height, max(x, 0) : x + width] = True
    return inside


def measure_findings(
    target: Target, methods: dict[str, Method], most: int, masks: dict[str, dict[str, Mask]], seed: int
) -> list[dict[str, Any]] | None:
    """`measure` of each finding that is shown, with its name; None without masks of any."""
    shown = target.findings.shown if target.findings else []
    every = [(name, measure(target, methods, most, masks.get(name, {}), seed, name)) for name in shown]
    return [{"finding": name, **result} for name, result in every if result] or None


def measure(
    target: Target,
    methods: dict[str, Method],
    most: int,
    masks: dict[str, Mask],
    seed: int,
    finding: str | None = None,
) -> dict[str, Any] | None:
    """How well each method finds the findings, with the network and with one of random weights; None without masks.

    The evidence is that for the image's class, or for `finding`. At most `most` images are measured, evenly spread; the
    random weights come from `seed`.
    """
    masked = target.predictions[target.predictions["id"].isin(list(masks))]
    chosen = masked.iloc[selection.evenly(len(masked), most)]
    inside = {name: read_mask(masks[name], target.size) for name in chosen["id"]}
    visible = chosen[[bool(inside[name].any()) for name in chosen["id"]]]
    if len(visible) < 2:
        return None
    ids, labels = list(visible["id"]), [finding] * len(visible) if finding else list(visible["label"])
    areas = np.stack([inside[name] for name in ids])
    torch.manual_seed(seed)
    untrained = create_recorded_model(target.record).eval().to(target.hardware.device)
    networks = {"trained": target.network, "random": untrained}
    maps = {kind: target.saliency(methods, ids, labels, network) for kind, network in networks.items()}
    return {
        "images": len(visible),
        "too_small": len(chosen) - len(visible),
        "methods": {name: {kind: metrics(each[name], areas) for kind, each in maps.items()} for name in methods},
    }


def metrics(maps: Maps, masks: Masks) -> dict[str, Any]:
    """What the maps (n, height, width) say of the masks of the same images, each with one pixel or more inside.

    `hit_rate`: how often a map's highest point lies inside (Zhang et al., "Top-down neural attention by excitation
    backprop", ECCV 2016, without their 15 pixels of tolerance; a tie counts by its share). `inside`: the mean share of
    the positive saliency that is inside; a map without any counts as even. `chance`: both, of a point or map that
    knows nothing, which is the mean share of the area. `..._other`: both against the masks of the other images,
    which is what a network gains by looking where findings usually are; None for a single image.
    """
    hits, shares = _overlap(_peaks(maps), masks), _overlap(_positive(maps), masks)
    return {
        "images": len(maps),
        "hit_rate": float(np.diag(hits).mean()),
        "inside": float(np.diag(shares).mean()),
        "chance": float(masks.mean()),
        "hit_rate_other": _of_other_images(hits),
        "inside_other": _of_other_images(shares),
    }


def _overlap(weights: Matrix, masks: Masks) -> Matrix:
    """How much of the weight of map i lies inside the mask of image j, at [i, j]."""
    return np.asarray(weights @ masks.reshape(len(masks), -1).T.astype(float))


def _peaks(maps: Maps) -> Matrix:
    """All weight on the highest point, shared by equals: (n, height * width), each row's sum 1."""
    flat = maps.reshape(len(maps), -1)
    highest = (flat == flat.max(axis=1, keepdims=True)).astype(float)
    return np.asarray(highest / highest.sum(axis=1, keepdims=True))


def _positive(maps: Maps) -> Matrix:
    """What is positive, as shares of the whole; even where nothing is."""
    flat = maps.reshape(len(maps), -1).clip(min=0)
    whole = flat.sum(axis=1, keepdims=True)
    return np.where(whole > 0, flat / np.where(whole > 0, whole, 1), 1 / flat.shape[1])


def _of_other_images(overlap: Matrix) -> float | None:
    n = len(overlap)
    return float((overlap.sum() - np.trace(overlap)) / (n * (n - 1))) if n > 1 else None
