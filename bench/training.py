"""What training costs besides the network, and against the ways that studies are written: part of `make bench`, 4 min.

In turns, in each precision: the bare network (forward, backward, step) and our learner on the cache with augmentation,
metrics and history. Then, in the precision that `auto` chooses: our learner, the studies' loop (ImageFolder, batch 4,
float32, Adam), and fastai's defaults (folder, Resize, aug_transforms) without and with two workers, from drawn films of
1,024 px as PNG files. Writes bench/results/training.json.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import films
import learners
import measure
import numpy as np
import processor
import torch
import torchvision.models as tv
from fastai.callback.progress import ProgressCallback
from fastai.data.transforms import get_image_files
from fastai.learner import Learner
from fastai.vision.augment import Resize, aug_transforms
from fastai.vision.data import ImageDataLoaders
from measure import Gate
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

from xraylab.data.image_cache import IMAGENET, ImageCache
from xraylab.model import hardware, memory, networks
from xraylab.model.hardware import Hardware

FILES, FILE_PIXELS, CACHED = 64, 1024, 192
COLOURS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# network, pixels, batch size, steps of a turn, rounds, and the least share of the bare network
NETWORKS = [("resnet18", 224, 32, 8, 3, 0.95), ("resnet18", 128, 64, 6, 3, 0.90), ("resnet50", 224, 32, 2, 3, 0.95)]
WAYS_ROUNDS = 3
LEAST = {
    "times the studies' loop": {"float32": 1.2, "AVX512_BF16": 2.2, "AMX": 4.0},
    "times fastai's defaults": {"float32": 1.2, "AVX512_BF16": 2.4, "AMX": 3.6},
    "times fastai's defaults with 2 workers": {"float32": 1.0, "AVX512_BF16": 2.0, "AMX": 3.0},
    "bare network, times plain float32": {"float32": 1.0, "AVX512_BF16": 1.8, "AMX": 1.0},
}


def bare(
    arch: str, pixels: int, size: int, steps: int, machine: Hardware, channels_last: bool = True
) -> Callable[[], int]:
    """The network alone, on one batch that is there already, in the precision and memory format that we train in."""
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
        if machine.device == "cuda":
            torch.cuda.synchronize()
        return steps * size

    return work


def ours(arch: str, pixels: int, size: int, steps: int, machine: Hardware) -> Callable[[], int]:
    """One epoch of `steps` batches through our Learner, from the cache to the history, without a scored split."""
    cached = np.random.default_rng(0).integers(0, 256, (steps * size, pixels, pixels), np.uint8)
    network = networks.build(arch, 2, 1, 0.0)
    learn = learners.our_learner(network, cached, np.arange(len(cached)), pixels, size, learners.AUGMENTED, machine)

    def work() -> int:
        learn.fit(1, lr=1e-3)
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


def fastai_folder(folder: Path, pixels: int, size: int, workers: int) -> ImageDataLoaders:
    """A folder, Resize and aug_transforms, as fastai's tutorials have it."""
    return ImageDataLoaders.from_path_func(
        folder,
        get_image_files(folder),
        lambda path: Path(path).parent.name,
        valid_pct=0.02,
        seed=0,
        item_tfms=Resize(pixels),
        batch_tfms=aug_transforms(),
        bs=size,
        num_workers=workers,
    )


def fastai_defaults(dls: ImageDataLoaders, network: nn.Module, mixed: str | None = None) -> Callable[[], int]:
    """fastai as its tutorials have it: Learner.fit, float32, or its own mixed precision (`to_fp16`, `to_bf16`)."""
    learn = Learner(dls, network, loss_func=nn.CrossEntropyLoss())
    learn = getattr(learn, mixed)() if mixed else learn
    learn.remove_cb(ProgressCallback)
    learn.recorder.silent = True

    def work() -> int:
        with learn.no_logging():
            learn.fit(1)
        return len(dls.train) * dls.train.bs

    return work


def augmentation_alone() -> Callable[[], int]:
    cached = np.random.default_rng(0).integers(0, 256, (CACHED, 224, 224), np.uint8)
    cache, images = ImageCache(cached, IMAGENET[1], 224, "cpu"), learners.alternating(np.arange(CACHED))
    dls = learners.our_dataloaders(cache, images, images[:2], learners.AUGMENTED, batch_size=32)

    def work() -> int:
        return sum(len(labels) for _, labels in dls.train)

    return work


def shares(machine: Hardware) -> tuple[list[dict[str, object]], dict[str, Gate]]:
    """Of the bare network's images per second, end to end; one network at a time, bare and ours in turns."""
    rows, gates = [], {}
    for arch, pixels, size, steps, rounds, least in NETWORKS:
        name = f"{arch}, {pixels} px, batch {size}, {machine.precision}"
        measure.say(name)
        rates = measure.interleaved(
            {"bare": bare(arch, pixels, size, steps, machine), "ours": ours(arch, pixels, size, steps, machine)}, rounds
        )
        share, median = measure.times(rates["ours"], rates["bare"]), measure.medians(rates)
        rows.append(
            {"network": name, "bare, images/s": round(median["bare"], 1), "ours, images/s": round(median["ours"], 1)}
        )
        rows[-1]["share"] = round(share, 3)
        gates[f"{name}: share of the bare network"] = Gate(share, least)
    return rows, gates


def ways(folder: Path, machine: Hardware) -> tuple[measure.Tables, dict[str, Gate]]:
    """Ours against the ways that studies are written: ResNet-18 at 224 px."""
    float32 = hardware.choose("float32")
    rates = measure.interleaved(
        {
            f"ours, batch 32, {machine.precision}": ours("resnet18", 224, 32, 2, machine),
            f"bare network, batch 32, {machine.precision}": bare("resnet18", 224, 32, 2, machine),
            "bare network, batch 32, float32, not channels last": bare("resnet18", 224, 32, 2, float32, False),
            "the studies' loop, batch 4": studies_loop(folder, 4, 32),
            "the studies' loop, batch 32": studies_loop(folder, 32, 32),
            "fastai's defaults, batch 32": fastai_defaults(
                fastai_folder(folder, 224, 32, 0), tv.resnet18(num_classes=2)
            ),
            "fastai's defaults, batch 32, 2 workers": fastai_defaults(
                fastai_folder(folder, 224, 32, 2), tv.resnet18(num_classes=2)
            ),
        },
        WAYS_ROUNDS,
    )
    us, network, plain, loop, _, defaults, workers = rates.values()
    ratios = [
        measure.times(us, loop),
        measure.times(us, defaults),
        measure.times(us, workers),
        measure.times(network, plain),
    ]
    gates = {
        what: processor.gate(ratio, least, machine.precision)
        for (what, least), ratio in zip(LEAST.items(), ratios, strict=True)
    }
    rows = [
        {"way": name, "images/s": round(rate, 1), "ours is times": round(measure.times(us, rates[name]), 2)}
        for name, rate in measure.medians(rates).items()
    ]
    return {"ResNet-18 at 224 px, from the cache or from files of 1,024 px": rows}, gates


def loading(folder: Path) -> tuple[measure.Tables, dict[str, Gate]]:
    """Loading and augmentation without the network."""
    dls = fastai_folder(folder, 224, 32, 0)
    rates = measure.interleaved(
        {"ours": augmentation_alone(), "fastai's": lambda: sum(len(y) for _, y in dls.train)}, WAYS_ROUNDS
    )
    median = measure.medians(rates)
    gates = {
        "loading and augmentation, ms an image": Gate(1000 / median["ours"], most=0.8),
        "loading and augmentation, times fastai's": Gate(measure.times(rates["ours"], rates["fastai's"]), 30.0),
    }
    rows = [{"whose": name, "images/s": round(rate, 1)} for name, rate in median.items()]
    return {"Loading and augmentation alone, 224 px": rows}, gates


def main() -> None:
    memory.keep_freed()
    torch.manual_seed(0)
    machine, computed_in = processor.chosen(), processor.precisions()
    rows, gates = [], {}
    for precision in computed_in:
        more, held = shares(hardware.choose(precision))
        rows, gates = rows + more, gates | held
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        films.write([folder / f"{'ab'[number % 2]}/{number:03}.png" for number in range(FILES)], FILE_PIXELS)
        theirs, ratios = ways(folder, machine)
        alone, speed = loading(folder)
    tables = {"Training, of the bare network": rows} | theirs | alone
    sys.exit(0 if measure.write("training", tables, gates | ratios | speed, computed_in) else 1)


if __name__ == "__main__":
    main()
