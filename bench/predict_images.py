"""What `predict-images` costs beside the bare network, and whether its memory grows with the number of images.

Part of `make bench`; a number after the command takes other than 500 films, a second one other than 10,000 for the
memory, such as `500 100000`. In turns: the network on prepared arrays, and the whole from generated radiographs as PNG
of 512 pixels to the table, without warnings and with them (by the limits of these films and 5,000 hashes). Memory: the
highest that a process of its own needs for so many films of 64 pixels. Writes bench/results/predict_images.json.
"""

import os
import resource
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from measure import Gate
from PIL import Image

from xraylab.data.pixels import Gray
from xraylab.demo import radiograph
from xraylab.inference import appearance
from xraylab.inference.appearance import Appearance, Measurements
from xraylab.inference.classifier import Classifier
from xraylab.inference.copies import WORDS, SeenHashes
from xraylab.inference.reference import Reference
from xraylab.inference.thresholds import Thresholds
from xraylab.inference.warnings import Expected
from xraylab.model import networks
from xraylab.predict import classify, image_files
from xraylab.predict.classify import Output
from xraylab.predict.ensemble import Ensemble

ARCHITECTURES, SIZE, FILM, ROUNDS = ("resnet18", "resnet50"), 224, 512, 3
DISTINCT = 50
MOST, MORE_MEMORY = 1.2, 60.0
FEW, MANY = 1_000, 10_000
SEEN = 5_000


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
    """Generated radiographs as PNG, fifty of them under many names."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(min(count, DISTINCT)):
        film = radiograph.expose(radiograph.draw_patient(rng, diseased=bool(number % 2)), size, rng).gray
        Image.fromarray(film).save(folder / f"{number:06}.png")
    for number in range(DISTINCT, count):
        os.link(folder / f"{number % DISTINCT:06}.png", folder / f"{number:06}.png")
    return folder


def reference(model: Classifier, images: Gray) -> Reference:
    """A reference whose limits these prepared images fix, lungs among them, with hashes of many other images.

    Errors: ValueError where no lungs are found in them, whose search is most of what warnings cost.
    """
    measured = Measurements.of(images, model.score(images).features, search_lungs=True)
    excess = appearance.excess_of_negatives(images, measured.lungs, appearance.doubtful(measured.lungs))
    looks = Appearance.fit(measured, measured, excess)
    if looks is None or looks.lungs is None:
        raise ValueError("the films do not look like lungs")
    hashes = np.random.default_rng(0).integers(0, 2**64, (WORDS, SEEN), np.uint64)
    return Reference(looks, Expected((), (), (), chest=True), SeenHashes(hashes, hashes, SEEN))


def throughput(arch: str, folder: Path) -> dict[str, Any]:
    """Films per second, and how many times as long the whole takes as the network alone."""
    model, names = classifier(arch), sorted(folder.iterdir())
    distinct = np.stack([model.read(path) for path in names[:DISTINCT]])
    prepared, inputs = distinct[np.arange(len(names)) % DISTINCT], image_files.find([str(folder)])
    target = Output(str(folder.parent / "t.csv"))

    def network() -> int:
        return len(model.predict_proba(prepared))

    def whole(members: Ensemble) -> int:
        classify.stream(members, inputs, target)
        return len(names)

    warning = replace(model, reference=reference(model, distinct))
    plain, warned = (Ensemble([each], Thresholds(), "", [0]) for each in (model, warning))
    ways: dict[str, Callable[[], int]] = {
        "network": network,
        "whole": partial(whole, plain),
        "warnings": partial(whole, warned),
    }
    rates = measure.interleaved(ways, ROUNDS, "films/s")
    medians = measure.medians(rates)
    return {
        "network": arch,
        "bare network, films/s": round(medians["network"], 1),
        "predict-images, films/s": round(medians["whole"], 1),
        "times as long": round(measure.times(rates["network"], rates["whole"]), 2),
        "with warnings, films/s": round(medians["warnings"], 1),
        "times as long with warnings": round(measure.times(rates["network"], rates["warnings"]), 2),
    }


def peak(count: int) -> float:
    """MB of this process after so many small films."""
    with tempfile.TemporaryDirectory() as name:
        folder = films(Path(name) / "films", count, 64)
        members = Ensemble([classifier("resnet18", 32)], Thresholds(), "", [0])
        classify.stream(members, image_files.find([str(folder)]), Output(str(Path(name) / "t.csv")))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    counts = [int(text) for text in sys.argv[1:]]
    count, many = (*counts, *(500, MANY)[len(counts) :])
    with tempfile.TemporaryDirectory() as name:
        folder = films(Path(name) / "films", count, FILM)
        rates = [throughput(arch, folder) for arch in ARCHITECTURES]
    peaks = {each: measure.alone(peak, each) for each in (FEW, many)}
    least, most = peaks.values()
    gates = {
        f"{row['network']}, {way}": Gate(row[way], most=MOST)
        for row in rates
        for way in ("times as long", "times as long with warnings")
    }
    gates[f"MB more for {many // FEW} times as many films"] = Gate(most - least, most=MORE_MEMORY)
    memory = [{"films": each, "peak, MB": round(value)} for each, value in peaks.items()]
    title = f"{count} PNG films of {FILM} x {FILM} pixels, network at {SIZE}"
    sys.exit(not measure.write("predict_images", {title: rates, "Memory": memory}, gates, ["float32"]))


if __name__ == "__main__":
    main()
