"""Pretrained weights: found, downloaded once and checked, and taken over into a network as far as they fit."""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from xraylab import files
from xraylab.data.image_cache import Normalise
from xraylab.errors import WeightsError
from xraylab.model import backbones, names, networks
from xraylab.model.networks import Network
from xraylab.model.weights import State

SHA256 = re.compile(r"[0-9a-f]{64}")
READABLE = (".safetensors", ".bin", ".pth")
SECONDS = 10.0  # for the hub to answer; what does not answer by then is absent
UNUSED = "num_batches_tracked"  # a counter that older files lack, and that batch norm here does not use
DENSENETS = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])")  # names in torchvision's files


def find(source: str, arch: str, file: Path, pretrained_sha256: str | None) -> tuple[Path | None, str]:
    """Find the file of weights and its identity; `file` is named by `source` where that is not none or default.

    Errors: WeightsError where the file is not the one that the config was written for.
    """
    if source == "none":
        return None, source
    if source == "default":
        default = default_file(arch)
        return default, identity(arch, default)
    return file, refuse_changed(file, pretrained_sha256)


def refuse_changed(file: Path, pretrained_sha256: str | None) -> str:
    """The SHA-256 that a config knows of the file. Errors: WeightsError where the file has another."""
    if pretrained_sha256 is None or (file.is_file() and files.sha256(file) != pretrained_sha256):
        raise WeightsError(
            f"{file} has changed since its config was written: `dvc repro --force --single-item configure`, then "
            "`dvc repro`"
        )
    return pretrained_sha256


def recorded_normalization(source: str, file: Path) -> Normalise | None:
    """That of an earlier run, as model.json beside its weights has it; None where they are no run's."""
    record = file.with_name("model.json")
    facts = files.read_json(record) if source not in {"none", "default"} and record.is_file() else {}
    return Normalise.recorded(facts["normalise"]) if "normalise" in facts else None


def default_file(arch: str) -> Path:
    """torchvision's or timm's weights, downloaded on first use; a file that is there is checked, not trusted.

    Errors: WeightsError that says which file belongs where, at once where there is no network; ParamsError where there
    is no such network.
    """
    if arch in names.TORCHVISION:
        return _torchvision_file(arch)
    if arch in names.VARIANTS or backbones.lookup(arch):
        raise WeightsError(f"model.pretrained: {arch} has no default weights: name a file, or set it to none")
    return _timm_file(arch)


def identity(arch: str, file: Path) -> str:
    """Identify these weights: by a name that holds the checked hash, or by the hash."""
    return file.name if arch in names.TORCHVISION else files.sha256(file)


def checkpoints() -> Path:
    """Where files that were fetched by hand are looked for: torch's own folder of downloads."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def load_pretrained(
    network: nn.Module, state: State, name: str, classes: Sequence[str], earlier: Sequence[str] | None
) -> str:
    """Take over the body of a network of the same architecture, and its head where it knows the same classes.

    `classes` are this network's and `earlier` those of `state`, each in the order of the outputs; the head's rows are
    put into this network's order. Any other head starts anew. A first layer for three channels is summed for one: gray
    repeated three times gives the same activations. Returns what became of the head, in a sentence.
    Errors: WeightsError naming what is missing or of another shape.
    """
    current, head = network.state_dict(), networks.head_of(network) + "."
    state = match_state(network, state, name)
    anew = _why_anew(current, state, head, classes, earlier)
    loaded = {key: state[key] for key in current if key in state and not (anew and key.startswith(head))}
    if not anew and earlier is not None:
        rows = torch.tensor([earlier.index(label) for label in classes])
        loaded |= {key: loaded[key][rows] for key in _last_layer(network, head)}
    network.load_state_dict(current | loaded)
    return f"the head starts anew: {name} {anew}" if anew else f"the head of {name} is taken over, class by class"


def match_state(network: nn.Module, state: State, name: str) -> State:
    """The tensors under this network's names and in its shapes. Errors: WeightsError with what does not fit."""
    current, head = network.state_dict(), networks.head_of(network) + "."
    states = [_with_channels(renamed, current) for renamed in _renamed(network, state)]
    problems = [_problems(current, candidate, head) for candidate in states]
    if all(problems):
        raise WeightsError(f"{name} does not fit model.arch:", problems[0][:10])
    return states[problems.index([])]


def cached(hub: str, name: str) -> Path | None:
    """A file of the Hugging Face hub that was downloaded before, by whomever."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - torchvision needs none

    path = try_to_load_from_cache(hub, name)
    return Path(path) if isinstance(path, str) else None


def from_hub(what: str, hub: str, name: str, path: Path) -> Path:
    """A file in the hub's own cache, or from the hub; its name for a file is the file's SHA-256, which is checked.

    `what` is the value of model.pretrained, and `path` where the file would be found if it were put there by hand.
    Errors: WeightsError.
    """
    from huggingface_hub import hf_hub_url  # noqa: PLC0415 - as above

    file = cached(hub, name) or _download(what, hub, name, hf_hub_url(hub, name), path)
    blob = file.resolve()
    if SHA256.fullmatch(blob.name) and (digest := files.sha256(blob)) != blob.name:
        raise _damaged(blob, digest)
    return file


def _torchvision_file(arch: str) -> Path:
    weights = backbones.torchvision_models().get_model_weights(arch).DEFAULT
    path = checkpoints() / Path(weights.url).name
    if not path.is_file():
        try:
            weights.get_state_dict(progress=True, check_hash=True)
        except (URLError, OSError, RuntimeError) as error:
            raise _not_there("default", weights.url, path, error) from None
    digest = files.sha256(path)
    if not digest.startswith(path.stem.rsplit("-", 1)[-1]):
        raise _damaged(path, digest)
    return path


def _timm_file(arch: str) -> Path:
    """Put there by hand, or the hub's."""
    config = backbones.timm_config(arch)
    hub, name = config["hf_hub_id"], config["hf_hub_filename"] or "model.safetensors"
    if not hub or Path(name).suffix not in READABLE:
        raise WeightsError(f"model.pretrained: timm has no default weights of {arch}{_instead(arch)}")
    path = checkpoints() / f"{hub.rpartition('/')[2]}{Path(name).suffix}"
    return path if path.is_file() else from_hub("default", hub, name, path)


def _download(what: str, hub: str, name: str, url: str, path: Path) -> Path:
    """One question with a short wait first: `hf_hub_download` by itself asks for a minute where nobody answers."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download  # noqa: PLC0415

    try:
        get_hf_file_metadata(url, timeout=SECONDS)
        return Path(hf_hub_download(hub, name))
    except Exception as error:  # the hub lets its HTTP library's own errors through, whichever that is
        raise _not_there(what, url, path, error) from None


def _instead(arch: str) -> str:
    """Names of timm's of the same family that have weights."""
    from timm import list_pretrained  # noqa: PLC0415

    family = re.split(r"[_.\d]", backbones.timm_name(arch), maxsplit=1)[0]
    available = list_pretrained(f"{family}*")
    return f": timm has weights of {', '.join(available[:5])}; name one as model.arch" if available else ""


def _not_there(what: str, url: str, path: Path, error: Exception) -> WeightsError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return WeightsError(
        f"model.pretrained: {what} needs {url}, which cannot be downloaded here ({reason}). "
        f"Fetch it elsewhere and put it at {path}, or set model.pretrained to none"
    )


def _damaged(path: Path, digest: str) -> WeightsError:
    return WeightsError(
        f"{path} is damaged (its SHA-256 begins with {digest[:8]}): delete it, and it is downloaded again"
    )


def _why_anew(
    current: State, state: State, head: str, classes: Sequence[str], earlier: Sequence[str] | None
) -> str | None:
    """Explain why the head cannot be loaded; None if it can."""
    if earlier is None:
        return "does not name its classes"
    if sorted(earlier) != sorted(classes):
        return f"knows {', '.join(earlier)}, and data.classes are {', '.join(classes)}"
    if any(key not in state or state[key].shape != current[key].shape for key in current if key.startswith(head)):
        return "has a head of another kind"
    return None


def _last_layer(network: nn.Module, head: str) -> list[str]:
    """The names of the tensors with a row for each class."""
    *_, (last, layer) = network.get_submodule(head.removesuffix(".")).named_children()
    return [f"{head}{last}.{name}" for name in layer.state_dict()]


def _problems(current: State, state: State, head: str) -> list[str]:
    return [
        f"{key}: {'missing' if key not in state else f'{tuple(state[key].shape)} instead of {tuple(tensor.shape)}'}"
        for key, tensor in current.items()
        if not key.startswith(head)
        and not (key not in state and key.endswith(UNUSED))
        and (key not in state or state[key].shape != tensor.shape)
    ]


def _renamed(network: nn.Module, state: State) -> Iterator[State]:
    """The state under this network's names: as it is, as a library names it, and as timm reads older files."""
    if not isinstance(network, Network):
        yield state
        return
    is_network = any(name.startswith("body.") for name in state)
    head = {name: tensor for name, tensor in state.items() if is_network and name.startswith("head.")}
    body = {name.removeprefix("body."): tensor for name, tensor in state.items() if name not in head}
    densenet = {DENSENETS.sub(r"\1\2", name): tensor for name, tensor in body.items()}
    for renamed in (body, densenet, _timm_names(network.get_submodule("body"), body)):
        yield head | {f"body.{name}": tensor for name, tensor in renamed.items()}


def _timm_names(body: nn.Module, state: State) -> State:
    """Convert a file as timm does: older names, position embeddings for images of another size."""
    rename = vars(sys.modules[type(body).__module__]).get("checkpoint_filter_fn")
    if rename is None:
        return state
    try:
        return dict(rename(dict(state), body))
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError):
        return state  # a file of another network: what does not fit is named by whoever asks


def _with_channels(state: State, current: State) -> State:
    """First layers for three times or a third of the channels made to fit, with the same response to a gray image.

    timm's adapt_input_conv does one of the two, and would keep torchvision's networks waiting for timm.
    """

    def fit(pretrained: Tensor, target: Tensor) -> Tensor:
        """(out, 3k, h, w) to (out, k, h, w), or the other way round; anything else as it is."""
        (out, channels, *size), (new_out, new_channels, *new_size) = pretrained.shape, target.shape
        if (out, size) == (new_out, new_size) and channels == 3 * new_channels:
            return pretrained.reshape(out, new_channels, 3, *size).sum(dim=2)
        if (out, size) == (new_out, new_size) and new_channels == 3 * channels:
            return pretrained.repeat_interleave(3, dim=1) / 3
        return pretrained

    return {
        name: fit(tensor, current[name]) if name in current and tensor.ndim == current[name].ndim == 4 else tensor
        for name, tensor in state.items()
    }
