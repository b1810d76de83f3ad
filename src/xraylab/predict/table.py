"""Class probabilities as a table."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xraylab.data import augment
from xraylab.data.augment import Augmentation, Drawn
from xraylab.data.image_cache import SCORING_BATCH, ImageCache, Images, Normalise, Rows, load, network_input
from xraylab.model import hardware, memory, scoring
from xraylab.predict import kept

Make = Callable[[int, int], Tensor]  # from the first image and the one after the last to the network's input

COPIES = 2  # keeps these draws apart from those of training


def probabilities(
    folder: Path,
    model: dict[str, Any],
    epochs: Sequence[int],
    images: pd.DataFrame,
    cached: Path,
    copies: int,
) -> tuple[list[pd.DataFrame], list[str]]:
    """For each epoch `images` (id, label, ...) with one column p_<class> per class; and how they were computed.

    The epochs' networks share one pass over the images. `copies`: how many augmented ones, as training would show them
    but for noise and erasing, join each image; the probabilities are the means.
    """
    machine, precision = hardware.choose_to_score(model["hardware"]["precision"])
    hardware.deterministic_algorithms()
    pixels, row_of = load(cached)
    rows = np.array([row_of[name] for name in images["id"]], np.int64)
    shape = (model["channels"], model["pixels"], model["pixels"])
    ready = [
        scoring.prepared(kept.network(folder, model, epoch), machine, len(rows), shape, model["multiply_adds"])
        for epoch in epochs
    ]
    normalise = Normalise.recorded(model["normalise"])
    passes: list[Make] = [
        partial(_plain, pixels, rows, normalise, model["pixels"], machine.device),
        *_augmented(pixels, rows, model, copies, normalise, machine.device),
    ]
    networks = [network for network, _ in ready]
    done = [scoring.scored(networks, make, len(rows), machine, "scoring images") for make in passes]
    scores = zip(*(scores for scores, _ in done), strict=True)
    columns = [f"p_{label}" for label in model["classes"]]
    means = [torch.stack(each).mean(dim=0).numpy() for each in scores]
    tables = [images.assign(**dict(zip(columns, each.T, strict=True))) for each in means]
    views = [f"mean over {len(passes)} views"] if len(passes) > 1 else []
    smallest = memory.halved(min(size for _, size in done), SCORING_BATCH)
    return tables, [*precision, *dict.fromkeys(note for _, notes in ready for note in notes if note), *smallest, *views]


def first_lines(model: dict[str, Any]) -> list[str]:
    """What will compute a run's probabilities, and a warning where a GPU is there that will not."""
    machine, _ = hardware.choose_to_score(model["hardware"]["precision"])
    return hardware.first_lines(f"{model['experiment']}-{model['repeat']}", machine)


def _plain(images: Images, rows: Rows, normalise: Normalise, pixels: int, device: str, start: int, stop: int) -> Tensor:
    return network_input(images, rows[start:stop], normalise, pixels, device)


def _augmented(
    images: Images, rows: Rows, model: dict[str, Any], copies: int, normalise: Normalise, device: str
) -> Iterator[Make]:
    """What makes the batches of every augmented copy; none where the network was trained without augmentation."""
    alone = {"noise": 0.0, "erase_p": 0.0, "p_histogram_matching": 0.0}
    augmentation = Augmentation.recorded(model["augment"] | alone)
    if not copies or not augmentation.changes:
        return
    store = ImageCache(images, normalise, model["pixels"], device)
    for copy in range(copies):
        uniform = augment.uniform([model["repeat"], copy, COPIES], len(rows))
        yield partial(_view, store, rows, augmentation, augmentation.draw(uniform))


def _view(store: ImageCache, rows: Rows, augmentation: Augmentation, drawn: Drawn, start: int, stop: int) -> Tensor:
    return store.changed(rows[start:stop], drawn.of(np.arange(start, stop)), augmentation)
