"""What is not the network: fastai's loop with our callbacks, the allocator, and memory with many images.

Part of `make bench`, 2 min. The loop is measured on a network of one layer, where it is nearly all that there is; the
allocator in processes of their own, in turns; memory on an array of 100,000 images of 256 px. Writes
bench/results/overhead.json.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import learners
import measure
import numpy as np
import processor
import torch
from measure import Gate
from torch import nn

from xraylab.model import memory, networks

BATCHES, TINY, ROUNDS = 200, 8, 5
TURNS, STEPS = 3, 3
MANY, PIXELS, SEEN = 100_000, 256, 16 * 64


def loop() -> float:
    """Milliseconds that a batch of our Learner takes longer than one of a plain loop, over the same batches."""
    torch.manual_seed(0)
    cached = np.zeros((BATCHES * 2, TINY, TINY), np.uint8)
    network = nn.Sequential(nn.Flatten(), nn.Linear(TINY * TINY, 2))
    machine = processor.chosen()
    learn = learners.our_learner(network, cached, np.arange(len(cached)), TINY, 2, learners.PLAIN, machine)
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

    rates = measure.medians(measure.interleaved({"plain": plain, "ours": ours}, ROUNDS, "batches/s"))
    return 1000 / rates["ours"] - 1000 / rates["plain"]


def training_rate(keep: bool) -> float:
    """Images a second of training in this process, with the allocator told to keep what is freed, or not."""
    if keep:
        memory.keep_freed()
    torch.manual_seed(0)
    cached = np.random.default_rng(0).integers(0, 256, (STEPS * 32, 224, 224), np.uint8)
    network, rows = networks.build("resnet18", 2, 1, 0.0), np.arange(len(cached))
    learn = learners.our_learner(network, cached, rows, 224, 32, learners.PLAIN, processor.chosen())
    learn.fit(1, lr=1e-3)
    start = time.perf_counter()
    learn.fit(1, lr=1e-3)
    return len(cached) / (time.perf_counter() - start)


def turns() -> tuple[float, float]:
    """Images a second with the allocator keeping what is freed, and without: medians."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(TURNS):
        for keep, measured in rates.items():
            measured.append(measure.alone(training_rate, keep))
            name = "keeps what is freed" if keep else "as it is"
            measure.say(f"round {turn + 1} of {TURNS}, allocator {name}: {measured[-1]:.1f} images/s")
    return statistics.median(rates[True]), statistics.median(rates[False])


def many_images(folder: str) -> dict[str, float]:
    """GiB of the array, and of this process's own memory before and after batches from all over it."""
    memory.keep_freed()
    path = Path(folder) / "images.npy"
    written = np.lib.format.open_memmap(path, "w+", np.uint8, (MANY, PIXELS, PIXELS))
    del written
    cached = np.load(path, mmap_mode="r")
    rows = np.random.default_rng(0).permutation(MANY)[:SEEN]
    network = networks.build("resnet18", 2, 1, 0.0)
    learn = learners.our_learner(network, cached, rows, 128, 64, learners.PLAIN, processor.chosen())
    before = own_memory()
    learn.fit(1, lr=1e-3)
    return {"array": cached.nbytes / 2**30, "own memory before": before, "own memory after": own_memory()}


def own_memory() -> float:
    """GiB that are not pages of files: RssAnon of /proc/self/status."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("RssAnon"))
    return int(line.split()[1]) / 2**20


def main() -> None:
    measure.say("fastai's loop with our callbacks, against a plain loop")
    milliseconds = measure.alone(loop)
    measure.say("the allocator")
    kept, usual = turns()
    measure.say(f"training from {MANY:,} images of {PIXELS} px")
    with tempfile.TemporaryDirectory() as folder:
        used = measure.alone(many_images, folder)
    tables = {
        "Overhead": [
            {"what": "loop and callbacks, ms a batch", "value": round(milliseconds, 2)},
            {"what": "allocator keeps what is freed: times the images a second", "value": round(kept / usual, 2)},
        ],
        f"Memory with {MANY:,} images of {PIXELS} px": [
            {"what": what, "GiB": round(value, 2)} for what, value in used.items()
        ],
    }
    gates = {
        "loop and callbacks, ms a batch": Gate(milliseconds, most=1.43),
        f"own memory with {MANY:,} images, GiB": Gate(used["own memory after"], most=12.0),
    }
    sys.exit(0 if measure.write("overhead", tables, gates, [processor.chosen().precision]) else 1)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
