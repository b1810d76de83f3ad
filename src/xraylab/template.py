"""The files that make a folder a study: the repository's own, or in an installed package the copies of them."""

from pathlib import Path
from typing import Any

from xraylab import files

PACKAGE = Path(__file__).parent
PACKED = PACKAGE / "template"  # in a wheel alone
CHECKOUT = PACKAGE.parents[1]
FILES = (
    "params.yaml",
    "dvc.yaml",
    ".gitignore",
    ".dvcignore",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvc/plots/epochs.json",
    ".dvc/plots/unit_square.json",
)


def file(name: str) -> Path:
    """The path of one of `FILES`."""
    return (PACKED if PACKED.is_dir() else CHECKOUT) / name


def stages() -> dict[str, Any]:
    """The shipped dvc.yaml's stages."""
    shipped: dict[str, Any] = files.read_yaml(file("dvc.yaml"))["stages"]
    return shipped
