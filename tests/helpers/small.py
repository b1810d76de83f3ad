"""The shipped study, shrunk: the same files and stages on a few dozen images.

`python tests/helpers/small.py` shrinks the params.yaml of the current folder.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

REPOSITORY = Path(__file__).resolve().parents[2]
PARTS = (
    "src",
    "dvc.yaml",
    "params.yaml",
    "constraints.txt",
    ".gitignore",
    ".dvcignore",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvc/plots",
)
PICTURE = 128  # height and width of `pictures`
Tree = dict[str, Any]
Change = Callable[[Tree], object]


def study(folder: Path, change: Change = lambda tree: None) -> Path:
    """A copy of this repository's study in `folder`, shrunk, then changed by `change`."""
    for part in PARTS:
        source, target = REPOSITORY / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    edit(folder, lambda tree: (shrink(tree), change(tree)))
    return folder


def shrink(tree: Tree) -> None:
    tree["data"]["demo"].update(n_healthy=40, n_tb=20, size=64)
    tree["images"]["size"] = tree["model"]["img_size"] = 32
    tree["train"].update(epochs=2, batch_size=8, precision="float32")  # the same bits wherever the tests run
    tree["explain"].update(images=2, occlusion_patch=0.5, occlusion_stride=0.5)


def edit(folder: Path, change: Change) -> None:
    """Change a study's params.yaml, keeping the rest of it as it stands."""
    yaml = YAML()
    tree = yaml.load(folder / "params.yaml")
    change(tree)
    yaml.dump(tree, folder / "params.yaml")


def use(source: Path, classes: list[str], positive: str | None) -> Change:
    """A change that points the study at other images."""
    return lambda tree: tree["data"].update(source=str(source), classes=classes, positive=positive)


def commit(folder: Path) -> None:
    """Make a git repository of a study, and commit what there is."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "study")


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True)


def write_images(folder: Path, names: list[str], pixels: int = 24, seed: int = 0) -> None:
    """Noise images, no two alike."""
    rng = np.random.default_rng(seed)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (pixels, pixels), dtype=np.uint8)).save(path)


def pictures(folder: Path, names: list[str], seed: int) -> None:
    """Smooth pictures, whose perceptual hashes survive another size; no two are alike."""
    rng = np.random.default_rng(seed)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (18, 18), dtype=np.uint8)
        Image.fromarray(coarse).resize((PICTURE, PICTURE), Image.Resampling.BICUBIC).save(folder / name)


def confounded(folder: Path, each: int = 40) -> Path:
    """Two classes that differ in nothing but their hospital: B's films are JPEG, with a white frame."""
    rng = np.random.default_rng(3)
    for number in range(2 * each):
        label, image = "AB"[number % 2], rng.integers(0, 256, (48, 48), dtype=np.uint8)
        if label == "B":
            image[:3] = image[-3:] = image[:, :3] = image[:, -3:] = 255
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / label / f"{number:03}.{'jpg' if label == 'B' else 'png'}")
    return folder


def two_classes(folder: Path, healthy: int = 40, tb: int = 20) -> Path:
    """A folder with one folder of images per class, of which the second is brighter."""
    write_images(folder, [f"Healthy/h{number:04}.png" for number in range(1, healthy + 1)], seed=1)
    rng = np.random.default_rng(2)
    for number in range(1, tb + 1):
        (folder / "TB").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(120, 256, (24, 24), dtype=np.uint8)).save(folder / f"TB/tb{number:04}.png")
    return folder


if __name__ == "__main__":
    edit(Path.cwd(), shrink)
    sys.exit(0)
