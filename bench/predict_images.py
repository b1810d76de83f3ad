"""What `predict-images` costs beside the bare network, and whether its memory grows with the number of images.

Part of `make bench`, 5 min; a number after the command takes other than 500 films.
In turns: the network on prepared arrays, and the whole from PNG films of 512 pixels to the table. Memory: the highest
that a process of its own needs for so many films of 64 pixels. Writes bench/results/predict_images.json.
"""

import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from measure import Gate
from PIL import Image

from xraylab.inference.classifier import Classifier
from xraylab.inference.thresholds import Thresholds
from xraylab.model import networks
from xraylab.predict import classify, image_files
from xraylab.predict.classify import Output
from xraylab.predict.ensemble import Ensemble

ARCHITECTURES, SIZE, FILM, ROUNDS = ("resnet18", "resnet50"), 224, 512, 3
DISTINCT = 50
MOST, MORE_MEMORY = 1.2, 60.0
COUNTS = (1_000, 10_000)


def classifier(arch: str, size: int = SIZE) -> Classifier:
    torch.manual_seed(0)
    images = {"size": size, "resize_method": "squash", "crop_border": False, "crop_lungs": False}
    images |= {"clip_percentiles": None, "clahe": None, "pyramid_sharpening": 0.0}
    record = {
        "classes": ["Healthy", "TB"], "task": "binary", "images": images, "img_size": size, "channels": 1,
        "normalise": {"mean": [0.449], "std": [0.226]}, "hardware": {"precision": "float32"},
    }  # fmt: skip
    return Classifier.create(arch, record, Thresholds(), networks.build(arch, 2, 1, 0.0), "float32")


def films(folder: Path, count: int, size: int) -> Path:
    """PNG films of smooth shapes with a little noise, fifty of them under many names."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(min(count, DISTINCT)):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12), dtype=np.uint8)).resize((size, size), Image.BICUBIC)
        noisy = np.asarray(coarse).astype(int) + rng.integers(-4, 5, (size, size))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number:06}.png")
    for number in range(DISTINCT, count):
        os.link(folder / f"{number % DISTINCT:06}.png", folder / f"{number:06}.png")
    return folder


def throughput(arch: str, folder: Path) -> dict[str, Any]:
    """Films per second, and how many times as long the whole takes as the network alone."""
    model, names = classifier(arch), sorted(folder.iterdir())
    prepared = np.stack([model.read(path) for path in names[:DISTINCT]])[np.arange(len(names)) % DISTINCT]
    members, target = Ensemble([model], Thresholds(), "", [0]), Output(str(folder.parent / "t.csv"))

    def network() -> int:
        return len(model.predict_proba(prepared))

    def whole() -> int:
        classify.stream(members, image_files.find([str(folder)]), target)
        return len(names)

    rates = measure.interleaved({"network": network, "whole": whole}, ROUNDS, "films/s")
    medians = measure.medians(rates)
    return {
        "network": arch,
        "bare network, films/s": round(medians["network"], 1),
        "predict-images, films/s": round(medians["whole"], 1),
        "times as long": round(measure.times(rates["network"], rates["whole"]), 2),
    }


def peak(count: int) -> float:
    """MB of this process after so many small films."""
    with tempfile.TemporaryDirectory() as name:
        folder = films(Path(name) / "films", count, 64)
        members = Ensemble([classifier("resnet18", 32)], Thresholds(), "", [0])
        classify.stream(members, image_files.find([str(folder)]), Output(str(Path(name) / "t.csv")))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with tempfile.TemporaryDirectory() as name:
        folder = films(Path(name) / "films", count, FILM)
        rates = [throughput(arch, folder) for arch in ARCHITECTURES]
    peaks = {each: measure.alone(peak, each) for each in COUNTS}
    least, most = (peaks[each] for each in COUNTS)
    gates = {f"{row['network']}, times as long as the network": Gate(row["times as long"], most=MOST) for row in rates}
    gates["MB more for ten times as many films"] = Gate(most - least, most=MORE_MEMORY)
    memory = [{"films": each, "peak, MB": round(value)} for each, value in peaks.items()]
    title = f"{count} PNG films of {FILM} x {FILM} pixels, network at {SIZE}"
    sys.exit(not measure.write("predict_images", {title: rates, "Memory": memory}, gates, ["float32"]))


if __name__ == "__main__":
    main()
