"""Class probabilities of cached images, by trained networks: in one pass, and with augmented copies where asked."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from xraylab.data.augment import Augmentation, SampledAugmentation
from xraylab.data.image_cache import SCORING_BATCH, ImageCache, Normalise, Rows, network_input
from xraylab.model import hardware, memory, scoring
from xraylab.shards import Images, load
from xraylab.task import is_multi

Load = Callable[[int, int], Tensor]
"""From the first image and the one after the last to the network's input."""


def predict_proba(
    networks: Sequence[nn.Module], record: dict[str, Any], images: pd.DataFrame, cache: Path, tta: int
) -> tuple[list[pd.DataFrame], list[str]]:
    """For each network `images` (id, label, ...) with one column p_<class> per class; and how they were computed.

    `record` is the model.json of the run that the networks are of. They share one pass over the images. `tta`: how many
    augmented copies, as training would show them but for noise and erasing, join each image; the probabilities are the
    means.
    """
    machine, precision = hardware.choose_to_score(record["hardware"]["precision"])
    hardware.deterministic_algorithms()
    pixels, row_of = load(cache)
    rows = np.array([row_of[name] for name in images["id"]], np.int64)
    shape = (record["channels"], record["img_size"], record["img_size"])
    prepared = [scoring.prepare(each, machine, len(rows), shape, record["multiply_adds"]) for each in networks]
    normalise = Normalise.recorded(record["normalise"])
    views: list[Load] = [
        partial(_plain, pixels, rows, normalise, record["img_size"], machine.device),
        *_augmented(pixels, rows, record, tta, normalise, machine.device),
    ]
    forwards = [forward for forward, _ in prepared]
    several = is_multi(record["task"])
    scored = [scoring.score(forwards, view, len(rows), machine, "scoring images", several) for view in views]
    by_network = zip(*(scores for scores, _ in scored), strict=True)
    columns = [f"p_{label}" for label in record["classes"]]
    means = [torch.stack(each).mean(dim=0).numpy() for each in by_network]
    tables = [images.assign(**dict(zip(columns, each.T, strict=True))) for each in means]
    notes = [*precision, *dict.fromkeys(note for _, notes in prepared for note in notes)]
    notes += memory.note_smaller_batches(min(size for _, size in scored), SCORING_BATCH)
    return tables, notes + ([f"mean over {len(views)} views"] if len(views) > 1 else [])


def first_lines(record: dict[str, Any]) -> list[str]:
    """Describe the hardware that predicts, with a warning about an unused GPU."""
    machine, _ = hardware.choose_to_score(record["hardware"]["precision"])
    return hardware.first_lines(f"{record['experiment']}-{record['repeat']}", machine)


def _plain(images: Images, rows: Rows, normalise: Normalise, pixels: int, device: str, start: int, stop: int) -> Tensor:
    return network_input(images, rows[start:stop], normalise, pixels, device)


def _augmented(
    images: Images, rows: Rows, record: dict[str, Any], tta: int, normalise: Normalise, device: str
) -> Iterator[Load]:
    """The batches of every augmented copy; none where the network was trained without augmentation."""
    augmentation = Augmentation.recorded(record["augment"]).for_tta()
    if not tta or not augmentation.changes:
        return
    cached = ImageCache(images, normalise, record["img_size"], device)
    for sampled in augmentation.draw_copies(tta, len(rows), record["repeat"]):
        yield partial(_view, cached, rows, augmentation, sampled)


def _view(
    cached: ImageCache, rows: Rows, augmentation: Augmentation, sampled: SampledAugmentation, start: int, stop: int
) -> Tensor:
    return cached.augment(rows[start:stop], sampled.of(np.arange(start, stop)), augmentation)
