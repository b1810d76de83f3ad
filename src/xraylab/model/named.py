"""Named pretrained weights (registry/weights.yaml): where their files lie, and what of them a network takes over."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from xraylab import files
from xraylab.data.image_cache import Normalise
from xraylab.errors import WeightsError
from xraylab.model import mapping, pretrained, weights
from xraylab.registry.weights import NamedWeights

FOLDER = "XRAYLAB_WEIGHTS"


def folder() -> Path:
    """Where files are put by hand: the folder that XRAYLAB_WEIGHTS names, or torch's own folder of downloads."""
    return Path(os.environ[FOLDER]).expanduser() if os.environ.get(FOLDER) else pretrained.checkpoints()


def local_file(entry: NamedWeights) -> Path | None:
    """The file that was put there by hand: converted, or as it is published."""
    folders = dict.fromkeys((folder(), pretrained.checkpoints()))
    candidates = [directory / name for directory in folders for name in (entry.converted_name, entry.local_name)]
    return next((path for path in candidates if path.is_file()), None)


def is_here(entry: NamedWeights) -> bool:
    """Whether a study could use them without a network."""
    path = local_file(entry) or (pretrained.cached(entry.hub, entry.file) if entry.hub else None)
    return path is not None and not _is_pickled_module(entry, path)


def find_file(entry: NamedWeights) -> Path:
    """The file; what may be downloaded without being asked is. Errors: WeightsError with what to put where."""
    path = local_file(entry)
    if path is None and entry.hub:
        return pretrained.from_hub(entry.name, entry.hub, entry.file, folder() / entry.local_name)
    if path is None:
        terms = "accept its terms, " if entry.gated else ""
        then = ", then `xraylab weights convert` it" if entry.pickled_module else ""
        raise WeightsError(
            f"model.pretrained: {entry.name} is not on this machine: {terms}fetch {entry.file} from {entry.url} and "
            f"put it at {folder() / entry.local_name}{then}"
        )
    if _is_pickled_module(entry, path):
        raise WeightsError(
            f"model.pretrained: {path} is a pickled module, which could run anything: `xraylab weights convert {path}` "
            "makes safetensors of it, once"
        )
    if entry.sha256 and path.name == entry.local_name and files.sha256(path) != entry.sha256:
        raise WeightsError(f"{path} is not the published {entry.file}, by its SHA-256: fetch it again from {entry.url}")
    return path


def find(entry: NamedWeights, expected_sha256: str | None) -> tuple[Path, str]:
    """The file, and what tells these weights from others. Errors: WeightsError where a config knows another file."""
    path = find_file(entry)
    pretrained.refuse_changed(path, expected_sha256)
    return path, f"{entry.name}:{expected_sha256}"


def load(
    network: nn.Module, entry: NamedWeights, path: Path, classes: Sequence[str], tell: Callable[[str], object]
) -> None:
    """Take over the backbone; the head starts anew. `tell` hears so, and which tensors have no place in it.

    Errors: WeightsError naming what is missing or of another shape.
    """
    state = mapping.map_keys(mapping.flatten(weights.read_tree(path)), entry.keys)
    state = pretrained.match_state(network, state, str(path))
    tell(pretrained.load_pretrained(network, state, str(path), classes, None))
    if unused := sorted(set(state) - set(network.state_dict())):
        names = ", ".join(name.removeprefix("body.") for name in unused[:5])
        tell(f"{len(unused)} tensors of {path} have no place in {entry.arch}: {names}{', ...' if unused[5:] else ''}")


def for_channels(normalise: Normalise, channels: int) -> Normalise:
    """The same for images of so many channels; of gray, the means over the colours."""
    if channels == len(normalise.mean):
        return normalise
    gray = Normalise((sum(normalise.mean) / len(normalise.mean),), (sum(normalise.std) / len(normalise.std),))
    return gray if channels == 1 else replace(gray, mean=gray.mean * channels, std=gray.std * channels)


def _is_pickled_module(entry: NamedWeights, path: Path) -> bool:
    return entry.pickled_module and path.suffix != ".safetensors"
