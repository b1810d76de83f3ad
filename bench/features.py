"""What freezing saves where the frozen part's output is computed once: part of `make bench`.

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
import measure
import numpy as np
import pandas as pd
from fastai.metrics import accuracy
from fastai.vision.augment import Resize
from fastai.vision.data import ImageDataLoaders
from fastai.vision.learner import vision_learner
from ruamel.yaml import YAML
from torchvision.models import resnet18

from xraylab import files, params, tables
from xraylab.model import hardware, networks, weights
from xraylab.paths import Paths
from xraylab.stages import features, plan, train

REPOSITORY = Path(__file__).parents[1]
TRAIN, VALID, PIXELS, BATCH = 800, 200, 224, 32
HEAD_EPOCHS, BLOCK_EPOCHS, ROUNDS = 10, 3, 2
# what one pass over the images costs decides, and with it the precision: fast bfloat16, float32
GATES = {
    "fastai's freeze() / ours, features computed in the run": (80.0, 20.0),
    "fastai's freeze() / ours, features there": (500.0, 150.0),
    "ours, uncached / ours, features computed in the run": (15.0, 8.0),
    "layer3: ours, uncached / ours, features computed in the run": (1.6, 1.4),
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
    rng = np.random.default_rng(0)
    images = np.empty((TRAIN + VALID, PIXELS, PIXELS), np.uint8)
    for number in range(len(images)):
        coarse = rng.normal(128, 40, (12, 12)).astype(np.float32)
        field = cv2.resize(coarse, (PIXELS, PIXELS), interpolation=cv2.INTER_CUBIC) + 20 * (number % 2)
        images[number] = np.clip(field + rng.normal(0, 4, field.shape), 0, 255)
        path = folder / ("train" if number < TRAIN else "valid") / "ab"[number % 2] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), images[number])
    return images


def study(folder: Path, images: np.ndarray) -> Paths:
    """A study of those films whose stages up to `plan` have run."""
    paths = Paths(folder)
    ids = pd.DataFrame({"id": [f"{number:03}" for number in range(len(images))]})
    ids["label"] = np.where(np.arange(len(images)) % 2, "TB", "Healthy")
    paths.cache.mkdir(parents=True)
    np.save(paths.cache / "images.npy", images)
    tables.write(ids[["id"]], paths.cache / "rows.csv")
    for side, rows in {"train": slice(TRAIN), "valid": slice(TRAIN, None), "test": slice(0)}.items():
        tables.write(ids[rows], paths.split / f"{side}_data.csv")
    weights.save(networks.build("resnet18", 2, 1, 0.0), folder / "start.safetensors")
    yaml = YAML()
    tree = yaml.load(REPOSITORY / "params.yaml")
    tree["images"]["pixels"] = tree["model"]["pixels"] = PIXELS
    tree["model"]["pretrained"] = "start.safetensors"
    tree["train"].update(schedule="one_cycle", batch_size=BATCH)
    tree["study"]["baseline"] = "head-uncached"
    tree["experiments"] = {
        f"{upto}-{how}": {
            "model": {"freeze": {"upto": upto, "cache": how == "cached"}},
            "train": {"epochs": HEAD_EPOCHS if (upto, how) == ("head", "cached") else 1},
        }
        for upto in ("head", "layer3")
        for how in ("uncached", "cached")
    }
    yaml.dump(tree, paths.params)
    plan.run(params.read(paths.params), paths)
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
    train.run(params.read(paths.params), paths, experiment, 0)
    whole = time.perf_counter() - start
    model = files.read_json(paths.model(experiment, 0) / "model.json")
    return whole + model["train_seconds"] * (epochs / (model["last_epoch"] + 1) - 1)


def there(paths: Paths) -> float:
    features.run(params.read(paths.params), paths)
    return ours(paths, "head-cached", HEAD_EPOCHS, forget=False)


def rows() -> list[tuple[str, str]]:
    """What and how long, for docs/performance.md."""
    result = files.read_json(measure.RESULTS / "features.json")
    return [(TITLES[name], f"{seconds:.1f} s") for name, seconds in result["seconds"].items()]


def main() -> None:
    warnings.filterwarnings("ignore")
    seconds: dict[str, list[float]] = {name: [] for name in TITLES}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        paths = study(place / "study", draw(place / "films"))
        variants: dict[str, Callable[[], float]] = {
            "fastai": partial(fastai_freeze, place / "films"),
            "head, uncached": partial(ours, paths, "head-uncached", HEAD_EPOCHS, forget=False),
            "head, computed": partial(ours, paths, "head-cached", HEAD_EPOCHS, forget=True),
            "layer3, uncached": partial(ours, paths, "layer3-uncached", BLOCK_EPOCHS, forget=False),
            "layer3, computed": partial(ours, paths, "layer3-cached", BLOCK_EPOCHS, forget=True),
            "head, there": partial(there, paths),
        }
        for _ in range(ROUNDS):
            for name, work in variants.items():
                seconds[name].append(work())
    median = {name: statistics.median(times) for name, times in seconds.items()}
    ratios = [
        median["fastai"] / median["head, computed"],
        median["fastai"] / median["head, there"],
        median["head, uncached"] / median["head, computed"],
        median["layer3, uncached"] / median["layer3, computed"],
    ]
    machine = hardware.choose("auto")
    result = {
        "hardware": machine.record(),
        "images": {"train": TRAIN, "valid": VALID, "pixels": PIXELS},
        "epochs": {"head": HEAD_EPOCHS, "layer3": BLOCK_EPOCHS},
        "one epoch measured and multiplied": ["fastai", "head, uncached", "layer3, uncached", "layer3, computed"],
        "seconds": {name: round(value, 2) for name, value in median.items()},
    }
    emulated = machine.precision == "float32"
    gates = {what: (ratio, both[emulated]) for (what, both), ratio in zip(GATES.items(), ratios, strict=True)}
    sys.exit(0 if measure.write("features", result, gates) else 1)


if __name__ == "__main__":
    main()
