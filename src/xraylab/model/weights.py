"""Weights in and out: safetensors for our own, checked files for pretrained ones; nothing is unpickled unsafely."""

import json
import pickle
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xraylab import files
from xraylab.errors import WeightsError
from xraylab.model import networks
from xraylab.model.networks import Network

State = dict[str, Tensor]
CLASSES = "xraylab.classes"  # the key of our files' metadata
UNUSED = "num_batches_tracked"  # a counter that older files lack, and that batch norm here does not use
DENSENETS = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])")  # names in torchvision's files


def save(network: nn.Module, path: Path, classes: Sequence[str] | None = None) -> None:
    """Write the network's state, whole or not at all, and the classes of its outputs where they are known."""
    metadata = {CLASSES: json.dumps(list(classes))} if classes else None
    with files.replacing(path) as temporary:
        state = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
        save_file(state, temporary, metadata)


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


def classes_of(path: Path) -> list[str] | None:
    """What a file's outputs stand for: as the file says, or the model.json of the run beside it; None where neither."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if CLASSES in metadata:
            return list(json.loads(metadata[CLASSES]))
    record = path.with_name("model.json")
    facts = files.read_json(record) if record.is_file() else {}
    return list(facts["classes"]) if "classes" in facts else None


def load_pretrained(
    network: nn.Module, state: State, name: str, classes: Sequence[str], earlier: Sequence[str] | None
) -> str:
    """Take over the body of a network of the same architecture, and its head where it knows the same classes.

    `classes` are this network's and `earlier` those of `state`, each in the order of the outputs; the head's rows are
    put into this network's order. Any other head starts anew. A first layer for three channels is summed for one: gray
    repeated three times gives the same activations. Returns what became of the head, in a sentence.
    Errors: WeightsError naming what is missing or of another shape.
    """
    wanted, head = network.state_dict(), networks.head_of(network) + "."
    states = [_with_channels(named, wanted) for named in _named(network, state)]
    problems = [_problems(wanted, candidate, head) for candidate in states]
    if all(problems):
        raise WeightsError(f"{name} does not fit model.arch:", problems[0][:10])
    fitting = states[problems.index([])]
    anew = _why_anew(wanted, fitting, head, classes, earlier)
    taken = {key: fitting[key] for key in wanted if key in fitting and not (anew and key.startswith(head))}
    if not anew and earlier is not None:
        rows = torch.tensor([earlier.index(label) for label in classes])
        taken |= {key: taken[key][rows] for key in _last_layer(network, head)}
    network.load_state_dict(wanted | taken)
    return f"the head starts anew: {name} {anew}" if anew else f"the head of {name} is taken over, class by class"


def _why_anew(
    wanted: State, state: State, head: str, classes: Sequence[str], earlier: Sequence[str] | None
) -> str | None:
    """Why a head cannot be taken over: what the file is or has."""
    if earlier is None:
        return "does not name its classes"
    if sorted(earlier) != sorted(classes):
        return f"knows {', '.join(earlier)}, and data.classes are {', '.join(classes)}"
    if any(key not in state or state[key].shape != wanted[key].shape for key in wanted if key.startswith(head)):
        return "has a head of another kind"
    return None


def _last_layer(network: nn.Module, head: str) -> list[str]:
    """The names of the tensors with a row for each class."""
    *_, (last, layer) = network.get_submodule(head.removesuffix(".")).named_children()
    return [f"{head}{last}.{name}" for name in layer.state_dict()]


def _problems(wanted: State, state: State, head: str) -> list[str]:
    return [
        f"{key}: {'missing' if key not in state else f'{tuple(state[key].shape)} instead of {tuple(tensor.shape)}'}"
        for key, tensor in wanted.items()
        if not key.startswith(head)
        and not (key not in state and key.endswith(UNUSED))
        and (key not in state or state[key].shape != tensor.shape)
    ]


def _named(network: nn.Module, state: State) -> Iterator[State]:
    """The state under this network's names: as it is, as a library names it, and as timm reads older files."""
    if not isinstance(network, Network):
        yield state
        return
    ours = any(name.startswith("body.") for name in state)
    body = {
        name.removeprefix("body."): tensor for name, tensor in state.items() if not name.startswith("head.") or not ours
    }
    rest = {name: tensor for name, tensor in state.items() if ours and name.startswith("head.")}
    for named in (
        body,
        {DENSENETS.sub(r"\1\2", name): tensor for name, tensor in body.items()},
        _timms(network.get_submodule("body"), body),
    ):
        yield rest | {f"body.{name}": tensor for name, tensor in named.items()}


def _timms(body: nn.Module, state: State) -> State:
    """What timm makes of a file for this network: older names, position embeddings for images of another size."""
    read = vars(sys.modules[type(body).__module__]).get("checkpoint_filter_fn")
    if read is None:
        return state
    try:
        return dict(read(dict(state), body))
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError):
        return state  # a file of another network: what does not fit is named by whoever asks


def _with_channels(state: State, wanted: State) -> State:
    """First layers for three times or a third of the channels made to fit, with the same response to a gray image."""
    return {name: _fitted(tensor, wanted[name]) if name in wanted else tensor for name, tensor in state.items()}


def _fitted(theirs: Tensor, ours: Tensor) -> Tensor:
    """(out, 3k, h, w) to (out, k, h, w), or the other way round; anything else as it is."""
    if theirs.ndim != 4 or ours.ndim != 4 or theirs.shape[0] != ours.shape[0] or theirs.shape[2:] != ours.shape[2:]:
        return theirs
    have, want = theirs.shape[1], ours.shape[1]
    if have == 3 * want:
        return theirs.reshape(len(theirs), want, 3, *theirs.shape[2:]).sum(dim=2)
    return theirs.repeat_interleave(3, dim=1) / 3 if want == 3 * have else theirs
