"""What freezing saves where the frozen part's output is computed once: part of `make bench`, 3 min.

1,000 drawn films of 224 px, ResNet-18, batches of 32, as fastai's `freeze()` from a folder of PNG files and as stage
`train` from the image cache. Of the slow ways one epoch is measured and counted as often as there are epochs; what is
done once (reading, hashing, writing the model) is counted once. Writes bench/results/features.json.
"""

import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import films
import measure
import numpy as np
import pandas as pd
import processor
from fastai.metrics import accuracy
from fastai.vision.augment import Resize
from fastai.vision.data import ImageDataLoaders
from fastai.vision.learner import vision_learner
from ruamel.yaml import YAML
from torchvision.models import resnet18

from xraylab import files, tables
from xraylab.model import networks, weights
from xraylab.params import config
from xraylab.paths import Paths
from xraylab.stages import configure, features, train

REPOSITORY = Path(__file__).parents[1]
TRAIN, VALID, PIXELS, BATCH = 800, 200, 224, 32
HEAD_EPOCHS, BLOCK_EPOCHS, ROUNDS = 10, 3, 2
# what one pass over the images costs decides, and with it the precision
LEAST = {
    "fastai's freeze() / ours, features computed in the run": {"float32": 20.0, "AVX512_BF16": 38.0, "AMX": 80.0},
    "fastai's freeze() / ours, features there": {"float32": 150.0, "AVX512_BF16": 250.0, "AMX": 500.0},
    "ours, uncached / ours, features computed in the run": {"float32": 8.0, "AVX512_BF16": 8.0, "AMX": 15.0},
    "layer3: ours, uncached / ours, features computed in the run": {"float32": 1.4, "AVX512_BF16": 1.3, "AMX": 1.6},
}
TITLES = {
    "fastai": "fastai's `freeze()` from a folder",
    "head, uncached": "ours, uncached",
    "head, computed": "ours, features computed in the run",
    "head, there": "ours, features there",
    "layer3, uncached": "ours, frozen to the end of layer3, uncached",
    "layer3, computed": "ours, frozen to the end of layer3, features computed in the run",
}


def draw(folder: Path) -> np.ndarray:
    """Films as PNG files below train and valid, and as the array that the stage `cache` would write."""
    images = np.stack([films.film(number, PIXELS) for number in range(TRAIN + VALID)])
    images[1::2] = np.minimum(images[1::2], 235) + 20
    for number, image in enumerate(images):
        path = folder / ("train" if number < TRAIN else "valid") / "ab"[number % 2] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    return images


def study(folder: Path, images: np.ndarray) -> Paths:
    """A study of those films whose stages up to `configure` have run."""
    paths = Paths(folder)
    ids = pd.DataFrame({"id": [f"{number:03}" for number in range(len(images))]})
    ids["label"] = np.where(np.arange(len(images)) % 2, "TB", "Healthy")
    paths.cache.mkdir(parents=True)
    np.save(paths.cache / "images.npy", images)
    tables.write(ids[["id"]], paths.cache / "rows.csv")
    for split, rows in {"train": slice(TRAIN), "valid": slice(TRAIN, None), "test": slice(0)}.items():
        tables.write(ids[rows], paths.split / f"{split}_data.csv")
    weights.save(networks.build("resnet18", 2, 1, 0.0), folder / "start.safetensors")
    yaml = YAML()
    tree = yaml.load(REPOSITORY / "params.yaml")
    tree["images"]["size"] = tree["model"]["img_size"] = PIXELS
    tree["model"]["pretrained"] = "start.safetensors"
    tree["train"].update(schedule="one_cycle", batch_size=BATCH)
    tree["study"]["baseline"] = "head-uncached"
    tree["experiments"] = {
        f"{upto}-{how}": {
            "model": {"freeze": {"until": upto, "cache": how == "cached"}},
            "train": {"epochs": HEAD_EPOCHS if (upto, how) == ("head", "cached") else 1},
        }
        for upto in ("head", "layer3")
        for how in ("uncached", "cached")
    }
    yaml.dump(tree, paths.params)
    configure.run(config.read(paths.params), paths)
    return paths


def fastai_freeze(folder: Path) -> float:
    """Seconds of all epochs, from one."""
    dls = ImageDataLoaders.from_folder(
        folder, train="train", valid="valid", item_tfms=Resize(PIXELS), bs=BATCH, num_workers=0
    )
    learn = vision_learner(dls, resnet18, pretrained=False, metrics=accuracy)
    learn.freeze()
    start = time.perf_counter()
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(1, 1e-3)
    return HEAD_EPOCHS * (time.perf_counter() - start)


def ours(paths: Paths, experiment: str, epochs: int, forget: bool) -> float:
    """Seconds of the stage `train`, of whose epochs more are counted where it ran fewer than `epochs`."""
    if forget:
        shutil.rmtree(paths.feature_store, ignore_errors=True)
        shutil.rmtree(paths.features, ignore_errors=True)
    start = time.perf_counter()
    train.run(config.read(paths.params), paths, experiment, 0)
    whole = time.perf_counter() - start
    model = files.read_json(paths.model(experiment, 0) / "model.json")
    return whole + model["train_seconds"] * (epochs / (model["last_epoch"] + 1) - 1)


def there(paths: Paths) -> float:
    features.run(config.read(paths.params), paths)
    return ours(paths, "head-cached", HEAD_EPOCHS, forget=False)


def measured(paths: Paths, films_folder: Path) -> dict[str, list[float]]:
    """Seconds of each way, in turns."""
    variants: dict[str, Callable[[], float]] = {
        "fastai": partial(fastai_freeze, films_folder),
        "head, uncached": partial(ours, paths, "head-uncached", HEAD_EPOCHS, forget=False),
        "head, computed": partial(ours, paths, "head-cached", HEAD_EPOCHS, forget=True),
        "layer3, uncached": partial(ours, paths, "layer3-uncached", BLOCK_EPOCHS, forget=False),
        "layer3, computed": partial(ours, paths, "layer3-cached", BLOCK_EPOCHS, forget=True),
        "head, there": partial(there, paths),
    }
    seconds: dict[str, list[float]] = {name: [] for name in TITLES}
    for round_ in range(ROUNDS):
        for name, work in variants.items():
            measure.say(f"round {round_ + 1} of {ROUNDS}, {TITLES[name]}")
            seconds[name].append(work())
            measure.say(f"round {round_ + 1} of {ROUNDS}, {TITLES[name]}: {seconds[name][-1]:.1f} s for all epochs")
    return seconds


def main() -> None:
    warnings.filterwarnings("ignore")
    machine = processor.chosen()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure.say(f"{TRAIN + VALID} films are drawn")
        images = draw(folder / "films")
        seconds = measured(study(folder / "study", images), folder / "films")
    pairs = [
        ("fastai", "head, computed"),
        ("fastai", "head, there"),
        ("head, uncached", "head, computed"),
        ("layer3, uncached", "layer3, computed"),
    ]
    # the more seconds, the slower: so the ratio of seconds is how many times as fast the second one is
    ratios = [measure.times(seconds[slow], seconds[fast]) for slow, fast in pairs]
    gates = {
        what: processor.gate(ratio, least, machine.precision)
        for (what, least), ratio in zip(LEAST.items(), ratios, strict=True)
    }
    epochs = f"{HEAD_EPOCHS} epochs of the head, {BLOCK_EPOCHS} of what follows layer3"
    title = f"ResNet-18, {TRAIN} + {VALID} films of {PIXELS} px; {epochs}"
    rows = [
        {
            "way": TITLES[name],
            "seconds": round(statistics.median(values), 2),
            "epochs measured": HEAD_EPOCHS if name in {"head, computed", "head, there"} else 1,
        }
        for name, values in seconds.items()
    ]
    sys.exit(0 if measure.write("features", {title: rows}, gates, [machine.precision]) else 1)


if __name__ == "__main__":
    main()
