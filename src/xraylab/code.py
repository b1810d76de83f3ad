"""What a study outside this repository knows of the code: a fingerprint, for each stage, of what can change its result.

There is no `src/` there for DVC to watch, so `source`, which runs at every `dvc repro`, notes the installed package.
"""

from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

from xraylab import files, template

# those that decode images and compute with them
LIBRARIES = (
    "fastai", "imagehash", "numpy", "opencv-python-headless", "pandas", "pillow", "pydicom", "pylibjpeg",
    "pylibjpeg-openjpeg", "python-gdcm", "safetensors", "scikit-learn", "scipy", "timm", "torch", "torchvision",
)  # fmt: skip
SOURCE, VERSIONS = "src/xraylab/", "constraints.txt"  # how the shipped dvc.yaml names code and libraries


def note(folder: Path) -> None:
    """Write <stage>.txt for every stage, where its content is another than before."""
    for name, stage in template.stages().items():
        path, text = folder / f"{name}.txt", described(stage)
        if text and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            files.write_text(text, path)


def described(stage: dict[str, Any]) -> str:
    """One line per module or package that the stage depends on, and per library where it depends on their versions."""
    deps = stage.get("deps", [])
    code = [dep.removeprefix(SOURCE) for dep in deps if dep.startswith(SOURCE)]
    lines = [f"{_fingerprint(template.PACKAGE / name)}  xraylab/{name}" for name in code]
    if VERSIONS in deps:
        lines += [f"{name} {metadata.version(name)}" for name in LIBRARIES]
    return "".join(f"{line}\n" for line in lines)


def _fingerprint(place: Path) -> str:
    """SHA-256 over names and contents of the modules (and templates) at or below `place`."""
    found = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    kept = [path for path in found if "__pycache__" not in path.parts]
    listed = [f"{files.sha256(path)}  {path.relative_to(place.parent).as_posix()}\n" for path in kept]
    return sha256("".join(listed).encode()).hexdigest()
