"""Our Learner as the stage `train` makes it, on images that are in memory, for the benches."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from fastai.callback.core import Callback
from fastai.data.transforms import CategoryMap
from fastcore.basics import noop
from numpy.typing import NDArray

from xraylab.data.augment import Augmentation
from xraylab.data.dataloaders import Subset, XrayDataLoaders, build_dataloaders
from xraylab.data.image_cache import IMAGENET, ImageCache
from xraylab.data.sampling import BY_GROUP, EpochSampler
from xraylab.model import losses, optimizers
from xraylab.model.hardware import Hardware
from xraylab.train.history import History
from xraylab.train.learner import XrayLearner, build_learner

PLAIN = Augmentation(
    degrees=0.0, translate=0.0, scale=(1.0, 1.0), shear=0.0, p_hflip=0.0, p_vflip=0.0, crop_scale=1.0, brightness=0.0,
    sharpness_factor=1.0, p_sharpness=0.0, contrast=0.0, noise_std=0.0, p_erase=0.0, gamma=0.0,
    p_histogram_matching=0.0, p_blur=0.0, blur_sigma=1.0,
)  # fmt: skip
AUGMENTED = Augmentation(
    degrees=10.0, translate=0.05, scale=(0.9, 1.1), shear=0.0, p_hflip=0.0, p_vflip=0.0, crop_scale=1.0, brightness=0.2,
    sharpness_factor=1.2, p_sharpness=0.2, contrast=0.2, noise_std=0.0, p_erase=0.0, gamma=0.0,
    p_histogram_matching=0.0, p_blur=0.0, blur_sigma=1.0,
)  # fmt: skip


def our_dataloaders(
    cache: ImageCache,
    train: pd.DataFrame,
    valid: pd.DataFrame,
    augmentation: Augmentation,
    batch_size: int,
    seed: int = 0,
    strategy: str = "none",
) -> XrayDataLoaders:
    """Of images with the columns row, label and source."""
    vocab = CategoryMap(sorted(set(train["label"])), sort=False)
    subsets = [
        Subset(table.assign(id=table["row"].astype(str), split=split), table["row"].to_numpy(), cache, vocab, 1, number)
        for number, (split, table) in enumerate([("train", train), ("valid", valid)])
    ]
    groups = subsets[0].groups if strategy in BY_GROUP else subsets[0].labels
    sampler, device = EpochSampler(strategy, groups, seed), str(cache.device)
    return build_dataloaders(*subsets, sampler, augmentation, batch_size, seed, device, row_of={}, read_image=None)


def alternating(rows: NDArray[np.int64]) -> pd.DataFrame:
    """Rows of the cache, whose labels alternate."""
    return pd.DataFrame({"row": rows, "label": ["01"[number % 2] for number in range(len(rows))], "source": ""})


def our_learner(
    network: torch.nn.Module,
    cached: NDArray[np.uint8],
    rows: NDArray[np.int64],
    pixels: int,
    batch_size: int,
    augmentation: Augmentation,
    machine: Hardware,
) -> XrayLearner:
    """With augmentation, history and seeds; two images are scored after each epoch, so as not to count."""
    cache, images = ImageCache(cached, IMAGENET[1], pixels, machine.device), alternating(rows)
    dls = our_dataloaders(cache, images, images[:2], augmentation, batch_size)
    return with_history(dls, network, optimizers.factory("adam", 1e-4, None), machine)


def with_history(
    dls: XrayDataLoaders,
    network: torch.nn.Module,
    opt_func: optimizers.Factory,
    machine: Hardware,
    cbs: Sequence[Callback] = (),
) -> XrayLearner:
    """A Learner as the stage's, without fastai's bar and lines."""
    history = History([])
    history.start_phase("bench")
    learn = build_learner(dls, network, losses.cross_entropy(None, 0.0), opt_func, machine, [*cbs, history])
    learn.remove_cb(learn.progress)
    learn.logger = noop
    return learn
