"""What training costs besides the network, and against the ways that studies are written: part of `make bench`.

On drawn films of 1,024 px as PNG files, in turns: the bare network (forward, backward, step), our learner on the cache
with augmentation, metrics and history, the studies' loop (ImageFolder, batch 4, float32, Adam), and fastai's defaults
(folder, Resize, aug_transforms) without and with two workers. Writes bench/results/training.json.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import cv2
import measure
import numpy as np
import torch
import torchvision.models as tv
from fastai.callback.progress import ProgressCallback
from fastai.data.transforms import get_image_files
from fastai.learner import Learner
from fastai.vision.augment import Resize, aug_transforms
from fastai.vision.data import ImageDataLoaders
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

from xraylab.data.augment import Augmentation
from xraylab.data.batches import IMAGENET, Store, TrainingBatches
from xraylab.data.loaders import dataloaders
from xraylab.data.sampling import Order
from xraylab.model import hardware, losses, memory, networks, optimizers, schedules
from xraylab.train import callbacks
from xraylab.train.run import learner

AUGMENTATION = Augmentation(
    rotation=10.0,
    shift=0.05,
    zoom=0.1,
    shear=0.0,
    hflip_p=0.0,
    vflip_p=0.0,
    crop_scale=1.0,
    brightness=0.2,
    sharpness_factor=1.2,
    sharpness_p=0.2,
    contrast=0.2,
    noise=0.0,
    erase_p=0.0,
)
FILES, FILE_PIXELS, CACHED = 64, 1024, 192
ROUNDS = 5
COLOURS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def draw(folder: Path) -> None:
    """Films of 1,024 px with the fine grain that makes real ones slow to decode."""
    rng = np.random.default_rng(0)
    for number in range(FILES):
        coarse = rng.normal(128, 40, (12, 12)).astype(np.float32)
        field = cv2.resize(coarse, (FILE_PIXELS, FILE_PIXELS), interpolation=cv2.INTER_CUBIC)
        image = np.clip(field + rng.normal(0, 4, field.shape), 0, 255).astype(np.uint8)
        path = folder / f"{'ab'[number % 2]}/{number:03}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), image)


def bare(arch: str, pixels: int, size: int, steps: int, channels_last: bool = True) -> Callable[[], int]:
    """The network alone, on one batch that is there already, in the precision and memory format that we train in."""
    machine = hardware.choose("auto") if channels_last else hardware.choose("float32")
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = networks.build(arch, 2, 1, 0.0).to(memory_format=layout).to(machine.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    images = torch.randn(size, 1, pixels, pixels, device=machine.device).to(memory_format=layout)
    labels = torch.zeros(size, dtype=torch.int64, device=machine.device)

    def work() -> int:
        for _ in range(steps):
            with machine.autocast():
                logits = network(images)
            nn.functional.cross_entropy(logits.float(), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        return steps * size

    return work


def ours(arch: str, pixels: int, size: int, steps: int) -> Callable[[], int]:
    """One epoch of `steps` batches through our Learner, from the cache to the history, without a scored side."""
    machine = hardware.choose("auto")
    cached = np.random.default_rng(0).integers(0, 256, (steps * size, pixels, pixels), np.uint8)
    rows, labels = np.arange(len(cached)), np.arange(len(cached)) % 2
    store = Store(cached, IMAGENET[1], pixels, machine.device)
    order = Order("none", labels, 0)
    batches = TrainingBatches(store, rows, labels, order, AUGMENTATION, seed=0)
    dls = dataloaders(batches, rows[:2], labels[:2], size, machine.device)
    opt_func = optimizers.factory("adam", 1e-4, None)
    learn = learner(dls, networks.build(arch, 2, 1, 0.0), losses.cross_entropy(None, 0.0), opt_func, machine, [])
    history = callbacks.History([], np.array(["valid"] * 2), 2, 1, order, [str(row) for row in rows])
    history.start_phase("bench")
    (phase,) = schedules.constant(1, 1e-3, networks.PARTS, cycle_momentum=True)
    learn.add_cbs([history, callbacks.Reseed(0, 0, batches)])

    def work() -> int:
        learn.fit(phase.epochs, lr=1e-3)
        return len(cached)

    return work


def studies_loop(folder: Path, size: int, images: int) -> Callable[[], int]:
    """ImageFolder, PIL, ToTensor, Normalize, float32, torch's Adam: what all five studies wrote, give or take."""
    steps = T.Compose([T.Resize((224, 224)), T.ToTensor(), T.Normalize(*COLOURS)])
    loader = DataLoader(ImageFolder(str(folder), steps), batch_size=size, shuffle=True)
    network = tv.resnet18(num_classes=2)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-4)
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]] = cycle(loader)

    def work() -> int:
        seen = 0
        while seen < images:
            x, y = next(batches)
            loss = nn.functional.cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(x)
        return seen

    return work


def fastai_defaults(folder: Path, workers: int) -> Callable[[], int]:
    """fastai as its tutorials have it: a folder, Resize, aug_transforms, Learner.fit; float32."""
    dls = ImageDataLoaders.from_path_func(
        folder,
        get_image_files(folder),
        lambda path: Path(path).parent.name,
        valid_pct=0.02,
        seed=0,
        item_tfms=Resize(224),
        batch_tfms=aug_transforms(),
        bs=32,
        num_workers=workers,
    )
    learn = Learner(dls, tv.resnet18(num_classes=2), loss_func=nn.CrossEntropyLoss())
    learn.remove_cb(ProgressCallback)
    learn.recorder.silent = True

    def work() -> int:
        with learn.no_logging():
            learn.fit(1)
        return len(dls.train) * 32

    return work


def augmentation_alone() -> Callable[[], int]:
    cached = np.random.default_rng(0).integers(0, 256, (CACHED, 224, 224), np.uint8)
    store = Store(cached, IMAGENET[1], 224, "cpu")
    labels = np.zeros(CACHED, np.int64)
    batches = TrainingBatches(store, np.arange(CACHED), labels, Order("none", labels, 0), AUGMENTATION, seed=0)

    def work() -> int:
        for start in range(0, CACHED, 32):
            batches(range(start, start + 32))
        return CACHED

    return work


def fastai_loading(folder: Path) -> Callable[[], int]:
    """fastai's loading and augmentation without the network."""
    dls = ImageDataLoaders.from_path_func(
        folder, get_image_files(folder), lambda path: Path(path).parent.name, valid_pct=0.02, seed=0,
        item_tfms=Resize(224), batch_tfms=aug_transforms(), bs=32, num_workers=0,
    )  # fmt: skip
    return lambda: sum(len(y) for _, y in dls.train)


def main() -> None:
    memory.keep_freed()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder)
        rates = measure.interleaved(
            {
                "bare ResNet-18, 224 px, batch 32": bare("resnet18", 224, 32, 2),
                "bare, float32, not channels last": bare("resnet18", 224, 32, 2, channels_last=False),
                "ours ResNet-18, 224 px, batch 32": ours("resnet18", 224, 32, 2),
                "the studies' loop, batch 4": studies_loop(folder, 4, 32),
                "the studies' loop, batch 32": studies_loop(folder, 32, 32),
                "fastai's defaults, batch 32": fastai_defaults(folder, 0),
                "fastai's defaults, batch 32, 2 workers": fastai_defaults(folder, 2),
                "bare ResNet-18, 128 px, batch 64": bare("resnet18", 128, 64, 2),
                "ours ResNet-18, 128 px, batch 64": ours("resnet18", 128, 64, 2),
                "bare ResNet-50, 224 px, batch 32": bare("resnet50", 224, 32, 1),
                "ours ResNet-50, 224 px, batch 32": ours("resnet50", 224, 32, 1),
                "our loading and augmentation, 224 px": augmentation_alone(),
                "fastai's loading and augmentation, 224 px": fastai_loading(folder),
            },
            ROUNDS,
        )
    machine = hardware.choose("auto")
    fast = machine.precision == "bfloat16"
    us = rates["ours ResNet-18, 224 px, batch 32"]
    loading, theirs = rates["our loading and augmentation, 224 px"], rates["fastai's loading and augmentation, 224 px"]
    gates = {
        "ResNet-18 at 224 px of the bare network": (us / rates["bare ResNet-18, 224 px, batch 32"], 0.90),
        "ResNet-18 at 128 px of the bare network": (
            rates["ours ResNet-18, 128 px, batch 64"] / rates["bare ResNet-18, 128 px, batch 64"], 0.85,
        ),
        "ResNet-50 at 224 px of the bare network": (
            rates["ours ResNet-50, 224 px, batch 32"] / rates["bare ResNet-50, 224 px, batch 32"], 0.90,
        ),
        "times the studies' loop": (us / rates["the studies' loop, batch 4"], 4.0 if fast else 1.2),
        "times fastai's defaults": (us / rates["fastai's defaults, batch 32"], 3.6 if fast else 1.2),
        "times fastai's defaults with 2 workers": (
            us / rates["fastai's defaults, batch 32, 2 workers"], 3.0 if fast else 1.0,
        ),
        "bare network, times plain float32": (
            rates["bare ResNet-18, 224 px, batch 32"] / rates["bare, float32, not channels last"], 1.0,
        ),
        "images a millisecond of loading and augmentation": (loading / 1000, 1 / 0.8),
        "loading and augmentation, times fastai's": (loading / theirs, 30.0),
    }  # fmt: skip
    result = {"hardware": machine.record(), "images per second": {name: round(rate, 1) for name, rate in rates.items()}}
    sys.exit(0 if measure.write("training", result, gates) else 1)


if __name__ == "__main__":
    main()
