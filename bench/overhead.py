"""What is not the network: fastai's loop with our callbacks, the allocator, and memory with many images.

Part of `make bench`. The loop is measured on a network of one layer, where it is nearly all that there is; the
allocator in processes of their own, in turns; memory on an array of 100,000 images of 256 px. Writes
bench/results/overhead.json.
"""

import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from fastai.learner import Learner
from torch import nn

from xraylab.data.augment import Augmentation
from xraylab.data.batches import IMAGENET, Store, TrainingBatches
from xraylab.data.loaders import dataloaders
from xraylab.data.sampling import Order
from xraylab.model import hardware, losses, memory, networks, optimizers
from xraylab.train import callbacks
from xraylab.train.run import learner

PLAIN = Augmentation(
    rotation=0.0, shift=0.0, zoom=0.0, shear=0.0, hflip_p=0.0, vflip_p=0.0, crop_scale=1.0, brightness=0.0,
    sharpness_factor=1.0, sharpness_p=0.0, contrast=0.0, noise=0.0, erase_p=0.0,
)  # fmt: skip
BATCHES, TINY, ROUNDS = 200, 8, 5
TURNS, STEPS = 3, 4
MANY, PIXELS, SEEN = 100_000, 256, 24 * 64


def made(network: nn.Module, cached: np.ndarray, chosen: np.ndarray, pixels: int, size: int) -> Learner:
    """Our Learner as the stage `train` makes it, without a scored side to speak of."""
    machine = hardware.choose("auto")
    labels = np.arange(len(chosen)) % 2
    order = Order("none", labels, 0)
    batches = TrainingBatches(Store(cached, IMAGENET[1], pixels, machine.device), chosen, labels, order, PLAIN, seed=0)
    dls = dataloaders(batches, chosen[:2], labels[:2], size, machine.device)
    opt_func = optimizers.factory("adam", 1e-4, None)
    learn = learner(dls, network, losses.cross_entropy(None, 0.0), opt_func, machine, [])
    history = callbacks.History([], np.array(["valid"] * 2), 2, 1, order, [str(row) for row in chosen])
    history.start_phase("bench")
    learn.add_cbs([history, callbacks.Reseed(0, 0, batches)])
    return learn


def loop() -> float:
    """Milliseconds that a batch of our Learner takes longer than one of a plain loop, over the same batches."""
    torch.manual_seed(0)
    cached = np.zeros((BATCHES * 2, TINY, TINY), np.uint8)
    network = nn.Sequential(nn.Flatten(), nn.Linear(TINY * TINY, 2))
    machine = hardware.choose("auto")
    learn = made(network, cached, np.arange(len(cached)), TINY, 2)
    learn.splitter = lambda model: [list(model.parameters())]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def plain() -> int:
        for x, y in learn.dls.train:
            with machine.autocast():
                logits = network(x)
            nn.functional.cross_entropy(logits.float(), y).backward()
            optimizer.step()
            optimizer.zero_grad()
        return BATCHES

    def ours() -> int:
        learn.fit(1, lr=1e-3)
        return BATCHES

    rates = measure.interleaved({"plain": plain, "ours": ours}, ROUNDS)
    return 1000 / rates["ours"] - 1000 / rates["plain"]


def training_rate(keep: bool) -> float:
    """Images a second of training in this process, with the allocator told to keep what is freed, or not."""
    if keep:
        memory.keep_freed()
    torch.manual_seed(0)
    cached = np.random.default_rng(0).integers(0, 256, (STEPS * 32, 224, 224), np.uint8)
    learn = made(networks.build("resnet18", 2, 1, 0.0), cached, np.arange(len(cached)), 224, 32)
    learn.fit(1, lr=1e-3)
    start = time.perf_counter()
    learn.fit(1, lr=1e-3)
    return len(cached) / (time.perf_counter() - start)


def many_images(folder: str) -> dict[str, float]:
    """GiB of the array, and of this process's own memory before and after batches from all over it."""
    memory.keep_freed()
    path = Path(folder) / "images.npy"
    written = np.lib.format.open_memmap(path, "w+", np.uint8, (MANY, PIXELS, PIXELS))
    del written
    cached = np.load(path, mmap_mode="r")
    chosen = np.random.default_rng(0).permutation(MANY)[:SEEN]
    learn = made(networks.build("resnet18", 2, 1, 0.0), cached, chosen, 128, 64)
    before = own_memory()
    learn.fit(1, lr=1e-3)
    return {"array": cached.nbytes / 2**30, "own memory before": before, "own memory after": own_memory()}


def own_memory() -> float:
    """GiB that are not pages of files: RssAnon of /proc/self/status."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("RssAnon"))
    return int(line.split()[1]) / 2**20


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """In a process of its own, whose allocator nobody has touched."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def main() -> None:
    milliseconds = alone(loop)
    turns = [(alone(training_rate, True), alone(training_rate, False)) for _ in range(TURNS)]
    kept, usual = (statistics.median(rates) for rates in zip(*turns, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        memory_used = alone(many_images, folder)
    result = {
        "hardware": hardware.choose("auto").record(),
        "loop and callbacks, ms a batch": round(milliseconds, 3),
        "allocator keeps what is freed: times the images a second": round(kept / usual, 3),
        f"memory with {MANY} images of {PIXELS} px, GiB": {k: round(v, 2) for k, v in memory_used.items()},
    }
    gates = {
        "batches a millisecond of loop and callbacks": (1 / milliseconds, 0.7),
        "GiB of 24 left with 100,000 images": (24 - memory_used["own memory after"], 12.0),
    }
    sys.exit(0 if measure.write("overhead", result, gates) else 1)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
