"""Files of weights, read and written; nothing is unpickled unsafely."""

import json
import pickle
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
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{path} is not a whole .safetensors or .pth file of weights: {reason} (`xraylab weights convert` reads "
            "whole pickled networks)"
        ) from None
    if not isinstance(state, dict):
        raise _no_state_dict(path)
    return state


def _no_state_dict(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} holds no state dict (name -> tensor): save it with torch.save(model.state_dict(), ...)"
    )


def classes_of(path: Path) -> list[str] | None:
    """The classes of a file's outputs, from its metadata or the model.json beside it; None where neither has them."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if CLASSES in metadata:
            return list(json.loads(metadata[CLASSES]))
    record = path.with_name("model.json")
    facts = files.read_json(record) if record.is_file() else {}
    return list(facts["classes"]) if "classes" in facts else None
