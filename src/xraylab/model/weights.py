"""Weights in and out: safetensors for our own, checked files for pretrained ones; nothing is unpickled unsafely."""

import hashlib
import pickle
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision.models as tv
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xraylab import files
from xraylab.errors import WeightsError

State = dict[str, Tensor]
HEAD = "fc."
UNUSED = "num_batches_tracked"  # a counter that older files lack, and that batch norm here does not use


def save(network: nn.Module, path: Path) -> None:
    """Write the network's state, whole or not at all."""
    with files.replacing(path) as temporary:
        save_file({name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}, temporary)


def restore(network: nn.Module, path: Path) -> None:
    """Read back what `save` wrote. Errors: WeightsError where the file is absent, damaged or of another network."""
    try:
        network.load_state_dict(read(path))
    except RuntimeError as error:
        raise WeightsError(f"{path} holds the weights of another network: {error}") from None


def read(path: Path) -> State:
    """The tensors of a .safetensors or .pth file. Errors: WeightsError."""
    if not path.is_file():
        raise WeightsError(f"{path} does not exist: put the weights there, or set model.pretrained to none")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path} is not a whole .safetensors or .pth file of weights: {reason}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            f"{path} holds no state dict (name -> tensor): save it with torch.save(model.state_dict(), ...)"
        )
    return state


def default_file(arch: str) -> Path:
    """torchvision's ImageNet weights, downloaded on first use; a file that is there is checked, not trusted.

    Errors: WeightsError that says which file belongs where.
    """
    weights = tv.get_model_weights(arch).DEFAULT
    place = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if not place.is_file():
        try:
            weights.get_state_dict(progress=True, check_hash=True)
        except (URLError, OSError, RuntimeError) as error:
            raise WeightsError(
                f"model.pretrained: default needs {weights.url}, which cannot be downloaded here ({error}). "
                f"Fetch it elsewhere and put it at {place}, or set model.pretrained to none"
            ) from None
    with place.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(place.stem.rsplit("-", 1)[-1]):
        raise WeightsError(
            f"{place} is damaged (its SHA-256 begins with {digest[:8]}): delete it, and it is downloaded again"
        )
    return place


def load_pretrained(network: tv.ResNet, state: State, name: str) -> None:
    """Take over the body of a network of the same architecture; a head for other classes starts anew.

    A first layer for three channels is summed for one: gray repeated three times gives the same activations.
    Errors: WeightsError naming what is missing or of another shape.
    """
    wanted = network.state_dict()
    state = dict(state)
    first = state.get("conv1.weight")
    if first is not None and first.ndim == 4 and first.shape[1] != wanted["conv1.weight"].shape[1]:
        state["conv1.weight"] = _with_channels(first, wanted["conv1.weight"].shape[1])
    problems = [
        f"{key}: {'missing' if key not in state else f'{tuple(state[key].shape)} instead of {tuple(tensor.shape)}'}"
        for key, tensor in wanted.items()
        if not key.startswith(HEAD)
        and not (key not in state and key.endswith(UNUSED))
        and (key not in state or state[key].shape != tensor.shape)
    ]
    if problems:
        raise WeightsError(f"{name} does not fit model.arch:", problems[:10])
    head_fits = all(key in state and state[key].shape == wanted[key].shape for key in wanted if key.startswith(HEAD))
    taken = {key: state[key] for key in wanted if key in state and (head_fits or not key.startswith(HEAD))}
    network.load_state_dict(wanted | taken)


def _with_channels(first: Tensor, channels: int) -> Tensor:
    """(out, in, 7, 7) to (out, channels, 7, 7), with the same response to a gray image."""
    return first.sum(dim=1, keepdim=True).expand(-1, channels, -1, -1) / channels
