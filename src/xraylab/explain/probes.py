"""What a network still tells with a part of every image blacked out: if that is nearly all, it needs no lungs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor, nn

from xraylab.data.batches import SCORING_BATCH, Images, Rows, network_input
from xraylab.model import scoring
from xraylab.model.hardware import Hardware

CHANCE = 0.5
LEAST_SKILL = 0.1
"""Below so much AUROC beyond chance a network knows too little for a share of it to mean anything."""
HIDDEN = ("centre", "border")


def blacked_out(images: Images, part: str, share: float) -> Images:
    """A copy of uint8 images (n, height, width) whose `centre`, or all but it (`border`), is 0.

    The centre is the middle rectangle of `share` of the height and of the width.
    """
    height, width = images.shape[1:]
    above, before = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
    inside = np.s_[:, above : height - above, before : width - before]
    if part == "centre":
        result = images.copy()
        result[inside] = 0
    else:
        result = np.zeros_like(images)
        result[inside] = images[inside]
    return result


def probabilities(
    network: nn.Module, model: dict[str, Any], images: Images, rows: Rows, hardware: Hardware, part: str, share: float
) -> Tensor:
    """Class probabilities (n, classes) of the images in `rows` of the cache, with that part blacked out."""
    shape = (model["channels"], model["pixels"], model["pixels"])
    ready, _ = scoring.prepared(network, hardware, len(rows), shape, model["multiply_adds"])
    (scores,) = scoring.probabilities([ready], _batches(images, rows, shape, part, share), hardware)
    return scores


def verdict(real: float | None, probe: float | None, nearly: float) -> dict[str, Any]:
    """The share of the real network's skill (AUROC beyond chance) that a probe keeps, and whether that is nearly all.

    None where either AUROC is unknown or the network itself is hardly better than chance.
    """
    if real is None or probe is None or real - CHANCE < LEAST_SKILL:
        return {"auroc": probe, "kept": None, "nearly": None}
    kept = max(0.0, probe - CHANCE) / (real - CHANCE)
    return {"auroc": probe, "kept": kept, "nearly": kept >= nearly}


def warnings(real: float | None, centre: dict[str, Any], metadata: dict[str, Any]) -> list[str]:
    """What the verdicts on the blacked-out centre and on the facts about the files mean, where it is nearly all."""
    if real is None:
        return []
    whole, found = f"whole images: {real:.2f}", []
    if centre["nearly"]:
        found.append(
            f"With the centre of every image blacked out, the network still reaches an AUROC of {centre['auroc']:.2f} "
            f"({whole}), {centre['kept']:.0%} of what it knows beyond chance. It tells the classes without the lungs."
        )
    if metadata["nearly"]:
        found.append(
            f"A model that sees only facts about the files ({', '.join(metadata['facts'])}), and no image, reaches an "
            f"AUROC of {metadata['auroc']:.2f} ({whole}), {metadata['kept']:.0%} of what the network knows beyond "
            "chance. The network may tell the classes by where an image comes from."
        )
    return found


def _batches(images: Images, rows: Rows, shape: tuple[int, int, int], part: str, share: float) -> Iterator[Tensor]:
    channels, pixels, _ = shape
    for start in range(0, len(rows), SCORING_BATCH):
        some = blacked_out(images[rows[start : start + SCORING_BATCH]], part, share)
        yield network_input(some, np.arange(len(some)), channels, pixels)
