"""Our Learner as the stage `train` makes it, on images that are in memory, for the benches."""

import numpy as np
import torch
from fastai.learner import Learner
from numpy.typing import NDArray

from xraylab.data.augment import Augmentation
from xraylab.data.image_cache import IMAGENET, ImageCache, TrainingBatches
from xraylab.data.loaders import dataloaders
from xraylab.data.sampling import EpochSampler
from xraylab.model import losses, optimizers
from xraylab.model.hardware import Hardware
from xraylab.train import callbacks
from xraylab.train.run import learner

PLAIN = Augmentation(
    rotation=0.0, shift=0.0, zoom=0.0, shear=0.0, hflip_p=0.0, vflip_p=0.0, crop_scale=1.0, brightness=0.0,
    sharpness_factor=1.0, sharpness_p=0.0, contrast=0.0, noise=0.0, erase_p=0.0, gamma=0.0,
    p_histogram_matching=0.0, p_blur=0.0, blur_sigma=1.0,
)  # fmt: skip
AUGMENTED = Augmentation(
    rotation=10.0, shift=0.05, zoom=0.1, shear=0.0, hflip_p=0.0, vflip_p=0.0, crop_scale=1.0, brightness=0.2,
    sharpness_factor=1.2, sharpness_p=0.2, contrast=0.2, noise=0.0, erase_p=0.0, gamma=0.0,
    p_histogram_matching=0.0, p_blur=0.0, blur_sigma=1.0,
)  # fmt: skip


def training_batches(
    cached: NDArray[np.uint8], rows: NDArray[np.int64], pixels: int, augmentation: Augmentation, device: str
) -> TrainingBatches:
    """Batches of `rows`, whose labels alternate."""
    labels = np.arange(len(rows)) % 2
    store = ImageCache(cached, IMAGENET[1], pixels, device)
    return TrainingBatches(store, rows, labels, EpochSampler("none", labels, 0), augmentation, seed=0)


def our_learner(
    network: torch.nn.Module,
    cached: NDArray[np.uint8],
    rows: NDArray[np.int64],
    pixels: int,
    batch_size: int,
    augmentation: Augmentation,
    machine: Hardware,
) -> Learner:
    """With augmentation, history and seeds; two images are scored after each epoch, so as not to count."""
    batches = training_batches(cached, rows, pixels, augmentation, machine.device)
    dls = dataloaders(batches, rows[:2], batches.labels[:2], batch_size, machine.device)
    opt_func = optimizers.factory("adam", 1e-4, None)
    learn = learner(dls, network, losses.cross_entropy(None, 0.0), opt_func, machine, [])
    history = callbacks.History([], np.array(["valid"] * 2), 2, 1, batches.order, [str(row) for row in rows])
    history.start_phase("bench")
    learn.add_cbs([history, callbacks.Reseed(0, 0, batches)])
    return learn
