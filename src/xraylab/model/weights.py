"""Files of weights, read and written; nothing is unpickled unsafely."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xraylab import files
from xraylab.errors import WeightsError

State = dict[str, Tensor]
CLASSES = "xraylab.classes"  # the key of our files' metadata
INFLATED, SMALL = 4, 1 << 20  # times the file, and bytes: torch compresses nothing, and repeats nothing


def save(network: nn.Module, path: Path, classes: Sequence[str] | None = None) -> None:
    """Write the network's state, whole or not at all, and the classes of its outputs where they are known."""
    with files.replacing(path) as temporary:
        save_file(tensors(network), temporary, classes_metadata(classes) if classes else None)


def tensors(network: nn.Module) -> State:
    """The network's state as files hold it."""
    return {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}


def classes_metadata(classes: Sequence[str]) -> dict[str, str]:
    """The classes of the outputs as a file's metadata, which `classes_of` reads."""
    return {CLASSES: json.dumps(list(classes))}


def restore(network: nn.Module, path: Path) -> None:
    """Read back what `save` wrote. Errors: WeightsError where the file is absent, damaged or of another network."""
    try:
        network.load_state_dict(read(path))
    except RuntimeError as error:
        raise WeightsError(f"{path} holds the weights of another network: {error}") from None


def read(path: Path) -> State:
    """The tensors of a .safetensors or .pth file. Errors: WeightsError."""
    state = read_tree(path)
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise _no_state_dict(path)
    return state


def read_tree(path: Path) -> dict[str, Any]:
    """What a file of weights holds, which may be state dicts in one another. Errors: WeightsError."""
    if not path.is_file():
        raise WeightsError(f"{path} does not exist: put the weights there, or set model.pretrained to none")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _load_pickle(path)
    except MemoryError:
        raise
    except Exception as error:  # torch, zipfile and safetensors raise whatever they like at a damaged file
        raise WeightsError(
            f"{path} is not a whole .safetensors or .pth file of weights: {_reason(error)} (`xraylab weights convert` "
            "reads whole pickled networks)"
        ) from None
    if not isinstance(state, dict):
        raise _no_state_dict(path)
    return state


def _load_pickle(path: Path) -> Any:
    """The tensors of a file that torch.save wrote, none of whose code runs. Errors: whatever torch raises."""
    with BoundedReader(io.FileIO(path)) as file:
        if file.peek(4)[:4] != b"PK\x03\x04":  # how torch tells its two formats apart
            return torch.load(file, map_location="cpu", weights_only=True)
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > INFLATED * size + SMALL:
            raise ValueError(f"it inflates to more than {INFLATED} times its size")
    return torch.load(path, map_location="cpu", weights_only=True)


class BoundedReader(io.BufferedReader):
    """A file that is never asked for more than it has: Python takes the memory before it reads."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            return super().read()
        return super().read(min(size, os.fstat(self.fileno()).st_size))


def _reason(error: Exception) -> str:
    """The first line of what went wrong, without torch's advice to let a pickle run code."""
    lines = str(error).splitlines()
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
        return "it is damaged, or holds more than tensors"
    return lines[0] if lines else type(error).__name__


def _no_state_dict(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} holds no state dict (name -> tensor): save it with torch.save(model.state_dict(), ...)"
    )


def classes_of(path: Path) -> list[str] | None:
    """The classes of a file's outputs, from its metadata or the model.json beside it; None where neither has them.

    Errors: WeightsError.
    """
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
            if CLASSES in metadata:
                return [str(name) for name in json.loads(metadata[CLASSES])]
        except (SafetensorError, ValueError, TypeError, RecursionError) as error:
            raise WeightsError(f"{path} names its classes in no way that can be read: {error}") from None
    record = path.with_name("model.json")
    facts = files.read_json(record) if record.is_file() else {}
    return list(facts["classes"]) if "classes" in facts else None
