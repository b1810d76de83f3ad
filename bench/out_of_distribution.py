"""Recall and false alarms of the warnings about images: `python bench/out_of_distribution.py DATA [--out FOLDER]`.

DATA is a folder with `tb/{Normal,TB}`, `covid3/{Covid-19,No_findings,Pneumonia}`, `kermany/chest_xray`, `dicom` and
`nasty/exif`. Networks are trained on `tb` and on the first fold of `covid3`, as bench/real.py does with the baseline
alone and at most 6 epochs; a study that is in FOLDER already is used as it is. Their test films, changed in several
ways, films of the other collections, and what is no chest film at all are judged by their pixels, without DICOM tags.
Not part of `make bench`. Copies of training images are left out of the films of other collections.
"""

import argparse
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import real
from matplotlib import cbook
from numpy.typing import NDArray
from PIL import Image
from ruamel.yaml import YAML
from sklearn import datasets

from xraylab import tables
from xraylab.data import pixels
from xraylab.data.pixels import Picture
from xraylab.errors import DataError
from xraylab.evaluate.intervals import wilson
from xraylab.inference.classifier import Classifier
from xraylab.inference.warnings import COPY_OF_TRAINING, FAR_FROM_TRAINING, INVERTED, NO_RADIOGRAPH, ImageFacts
from xraylab.paths import Paths
from xraylab.predict import classifiers

Gray = NDArray[np.uint8]
STUDIES, EPOCHS, MOST = ("tb", "covid3"), 6, 200
COLUMNS = (FAR_FROM_TRAINING, INVERTED, NO_RADIOGRAPH)
OTHERS = {
    "tb": ("tb/Normal", "tb/TB"),
    "covid3": ("covid3/Covid-19", "covid3/No_findings", "covid3/Pneumonia"),
    "kermany, children": ("kermany/chest_xray/test/NORMAL", "kermany/chest_xray/test/PNEUMONIA"),
}
SLICES = ("MR_small", "CT_small", "examples_overlay", "693_J2KI", "J2K_pixelrep_mismatch", "JPEG2000")
SLICES += ("examples_palette", "examples_rgb_color", "examples_jpeg2k")  # pydicom's own test files


def train(name: str, data: Path, out: Path) -> Path:
    """The finished study."""
    folder = out / name
    if folder.is_dir():
        return folder
    subprocess.run(["git", "clone", "--quiet", real.REPOSITORY, folder], check=True)
    env = os.environ | {"PYTHONPATH": str(folder / "src")}
    if name in real.PRESETS:
        use = [sys.executable, "src", "study", "use", real.PRESETS[name]]
        subprocess.run(use, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=env)
    yaml = YAML()
    tree = yaml.load(folder / "params.yaml")
    tree["images"]["size"], tree["model"]["img_size"] = real.CACHED_SIZE, real.IMG_SIZE
    real.CHANGES[name](tree, data, out)
    tree["experiments"], tree["study"]["repeats"] = {"baseline": {}}, [0]
    tree["train"]["epochs"] = min(tree["train"]["epochs"], EPOCHS)
    yaml.dump(tree, folder / "params.yaml")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "predict"], cwd=folder, check=True, env=env)
    return folder


def gray(levels: Gray) -> Picture:
    return Picture(np.ascontiguousarray(levels), "L", "PNG")


def plain(path: Path) -> Picture:
    """Without what DICOM says of it."""
    decoded = pixels.decode(path)
    return Picture(decoded.levels, decoded.mode, decoded.format, {}, decoded.padding, decoded.colour)


def changed(films: list[Picture]) -> dict[str, list[Picture]]:
    levels = [pixels.gray(film.levels) for film in films]
    quarter = [each[: each.shape[0] // 2, : each.shape[1] // 2] for each in levels]
    return {
        "test films": films,
        "inverted": [gray(255 - each) for each in levels],
        "turned by 90 degrees": [gray(np.rot90(each)) for each in levels],
        "upside down": [gray(each[::-1]) for each in levels],
        "upper left quarter": [gray(each) for each in quarter],
    }


def no_chest(data: Path) -> dict[str, list[Picture]]:
    rng, folder = np.random.default_rng(0), Path(datasets.__file__).parent / "images"
    photographs = [folder / "china.jpg", folder / "flower.jpg"]
    photographs += [Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))]
    photographs += [data / "nasty/exif" / f"{name}_1.jpg" for name in ("Landscape", "Portrait")]
    parts = [crop(np.asarray(Image.open(path).convert("L")), rng) for path in photographs for _ in range(20)]
    smooth = [Image.fromarray(rng.integers(0, 256, (12, 12), dtype=np.uint8)) for _ in range(100)]
    return {
        "leg": [plain(data / "dicom/CR_EXTREMITY_RG3_J2KR.dcm")],
        "jaw": [plain(data / "dicom/CR_unk_CR-ModalitySequenceLUT.dcm")],
        "CT, MR, ultrasound, scintigram": slices(),
        "photographs": [plain(path) for path in photographs],
        "parts of them, gray": [gray(part) for part in parts],
        "noise": [gray(rng.integers(0, 256, (256, 256), dtype=np.uint8)) for _ in range(100)],
        "smooth noise": [gray(np.asarray(each.resize((256, 256), Image.Resampling.BICUBIC))) for each in smooth],
    }


def crop(image: Gray, rng: np.random.Generator) -> Gray:
    length = int(min(image.shape) * rng.uniform(0.4, 0.9))
    top, left = (int(rng.integers(0, whole - length + 1)) for whole in image.shape)
    return image[top : top + length, left : left + length]


def slices() -> list[Picture]:
    folder, pictures = Path(pydicom.__file__).parent / "data/test_files", []
    for name in SLICES:
        try:
            pictures.append(plain(folder / f"{name}.dcm"))
        except DataError as error:
            print(f"left out: {Path(str(error).split(':')[0]).name}")
    return pictures


def collection(data: Path, folders: tuple[str, ...]) -> list[Picture]:
    paths = [path for folder in folders for path in sorted((data / folder).iterdir())]
    return [plain(path) for path in random.Random(0).sample(paths, MOST)]


def row(kind: str, pictures: list[Picture], classifier: Classifier) -> str:
    """A line of the table: how many images have a warning other than of a copy, and which."""
    facts = [ImageFacts.of(picture) for picture in pictures]
    images = np.stack([classifier.prepare(picture) for picture in pictures])
    warned = classifier.reference.check(images, classifier.score(images).features, facts)
    codes = [{each.code for each in several} for several in warned]
    codes = [several for several in codes if COPY_OF_TRAINING not in several]
    count, n = sum(bool(several) for several in codes), len(codes)
    low, high = wilson(count, n, 0.95)
    each = " | ".join(str(sum(code in several for several in codes)) for code in COLUMNS)
    return f"| {kind} | {n} | {count} | {100 * count / n:.1f} ({100 * low:.1f} to {100 * high:.1f}) | {each} |"


def show(name: str, folder: Path, data: Path) -> None:
    paths = Paths(folder)
    classifier = classifiers.of_run(paths, "baseline", reference=True)
    appearance = classifier.reference.appearance
    print(f"\n{name}: {appearance.n_valid} validation images\n")
    print(f"| images | n | warned of | % (95 %) | {' | '.join(COLUMNS)} |\n|---|---|---|---|---|---|---|")
    index = tables.read(paths.index).set_index("id")
    test = tables.read(paths.split_of(0) / "test_data.csv")["id"]
    kinds = changed([plain(paths.raw / path) for path in index.loc[test, "path"]])
    kinds |= {f"{key} (other films)": collection(data, value) for key, value in OTHERS.items() if key != name}
    for kind, pictures in (kinds | no_chest(data)).items():
        print(row(kind, pictures, classifier), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("warning-studies"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in STUDIES:
        show(name, train(name, options.data.resolve(), options.out.resolve()), options.data.resolve())


if __name__ == "__main__":
    main()
