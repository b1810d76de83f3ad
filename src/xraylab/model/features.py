"""Precomputed features of frozen backbones, read by memory map."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xraylab import files, progress
from xraylab.data.image_cache import SCORING_BATCH, Normalise, Rows, network_input
from xraylab.errors import DataError
from xraylab.model import compiling, memory
from xraylab.model.hardware import Hardware, in_memory_format, memory_format
from xraylab.shards import Images

CODE = (
    "model/backbones.py",
    "model/create.py",
    "model/features.py",
    "model/freezing.py",
    "model/heads.py",
    "model/mapping.py",
    "model/named.py",
    "model/names.py",
    "model/networks.py",
    "model/pretrained.py",
    "model/weights.py",
    "registry/weights.py",
    "registry/weights.yaml",
    "data/augment.py",
    "data/image_cache.py",
    "data/gpu_cache.py",
    "shards.py",
)
# numpy has no bfloat16: its bits stand as integers
DESCRIBED = {torch.float32: "<f4", torch.float16: "<f2", torch.bfloat16: "<i2"}
PHASE = "computing features"


@dataclass(frozen=True)
class Features:
    """Features on disk, of which row i belongs to row `rows[i]` of the image cache; `rows` ascend."""

    array: NDArray[Any]
    rows: Rows
    sha256: str

    def of(self, rows: Rows) -> Tensor:
        """The features of these rows of the image cache: (n, channels[, height, width])."""
        features = torch.from_numpy(self.array[np.searchsorted(self.rows, rows)])
        typed = features.view(torch.bfloat16) if features.dtype == torch.int16 else features
        return typed.permute(0, 3, 1, 2) if typed.ndim == 4 else typed


def key(arch: str, channels: int, pixels: int, cut: list[Any], body: str, images: list[str], precision: str) -> str:
    """A name for features: the same choices, code and libraries give the same name.

    `cut` is what decides where the frozen part ends, `body` identifies the pretrained weights, and `images` are the
    hashes of the image cache's files.
    """
    package = Path(files.__file__).parent
    code = [files.sha256(package / name) for name in CODE]
    libraries = [torch.__version__, cv2.__version__, version("timm")]
    return _name([arch, channels, pixels, cut, body, images, precision, code, *libraries])


def part(key: str, rows: Rows) -> str:
    """A name for those features of `key` that belong to `rows`."""
    return f"{key}-{_name(rows.tolist())}"


def _name(facts: list[Any]) -> str:
    return sha256(json.dumps(facts).encode()).hexdigest()[:16]


def run_backbone(backbone: nn.Module, images: Tensor) -> Tensor:
    """The frozen part's output, without a gradient: a block's as it is, pooled vectors in float32."""
    with torch.no_grad():
        output: Tensor = backbone(images)
    return output.float() if output.ndim == 2 else output


def write(
    path: Path,
    backbone: nn.Module,
    images: Images,
    rows: Rows,
    normalise: Normalise,
    pixels: int,
    hardware: Hardware,
    tell: Callable[[str], object],
) -> None:
    """Write the features of `rows` of the image cache, channels last, batch by batch; `tell` hears the size before.

    Errors: DataError where the disk has no room for them, TrainingError where memory has none for one image.
    """
    quick, _ = compiling.fuse_batch_norm(backbone)
    quick = quick.to(memory_format=memory_format(hardware.device)).to(hardware.device)

    def features(start: int, stop: int) -> Tensor:
        batch = network_input(images, rows[start:stop], normalise, pixels, hardware.device)
        with hardware.autocast():
            output = run_backbone(quick, in_memory_format(batch, hardware.device))
        return (output.permute(0, 2, 3, 1).contiguous() if output.ndim == 4 else output).cpu()

    one, _ = memory.halving(lambda size: features(0, size)[0], 1, PHASE)
    size = len(rows) * one.numel() * one.element_size()
    tell(f"features of {len(rows)} images, {size / 1e6:,.1f} MB, in {path}")
    _refuse_without_room(path, size)
    header = {"descr": DESCRIBED[one.dtype], "fortran_order": False, "shape": (len(rows), *one.shape)}
    batches = memory.batches(features, len(rows), SCORING_BATCH, PHASE)
    fitted = SCORING_BATCH
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for batch, fitted in progress.bar(batches, -(-len(rows) // SCORING_BATCH), PHASE):  # noqa: B007 - the last one
            file.write(_bits(batch).numpy().data)
    files.write_checksum(path)
    for note in memory.note_smaller_batches(fitted, SCORING_BATCH):
        tell(f"features computed {note}")


def read(path: Path, rows: Rows, expected: str | None = None) -> Features:
    """Open the features of `rows` that `write` wrote. Errors: DataError where the SHA-256 is not the expected one."""
    digest = files.sha256(path)
    if expected not in {None, digest}:
        raise DataError(f"{path} has changed since it was made: `dvc repro --force --single-item features`")
    return _open(path, rows, digest)


def read_stored(path: Path, rows: Rows, tell: Callable[[str], object]) -> Features | None:
    """Open those that `write` left to be used again; None where they have to be made, of which `tell` hears why."""
    digest = stored(path, tell)
    return None if digest is None else _open(path, rows, digest)


def stored(path: Path, tell: Callable[[str], object]) -> str | None:
    """The SHA-256 of features that are as `write` left them; None, and `tell` hears of it, where they are damaged."""
    digest = files.checked_sha256(path)
    if digest is None and path.is_file():
        tell(f"{path} is damaged, or was not written whole, and is made anew")
    return digest


def _open(path: Path, rows: Rows, digest: str) -> Features:
    return Features(np.load(path, mmap_mode="r").view(np.ndarray), rows, digest)


def _bits(output: Tensor) -> Tensor:
    return output.view(torch.int16) if output.dtype == torch.bfloat16 else output


def _refuse_without_room(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise DataError(
            f"model.freeze.cache: the features need {size / 1e6:,.1f} MB, and {path.parent} has "
            f"{free / 1e6:,.1f} MB free: make room, freeze up to a later block, whose output is smaller, "
            "or set it to false"
        )
