"""The weights that a library offers for a network: where they lie, fetched once, and checked."""

import hashlib
import re
from pathlib import Path
from urllib.error import URLError

import torch

from xraylab import files
from xraylab.errors import WeightsError
from xraylab.model import bodies, names

SHA256 = re.compile(r"[0-9a-f]{64}")
READABLE = (".safetensors", ".bin", ".pth")
SECONDS = 10.0  # for the hub to answer; what does not answer by then is absent


def default_file(arch: str) -> Path:
    """torchvision's or timm's weights, downloaded on first use; a file that is there is checked, not trusted.

    Errors: WeightsError that says which file belongs where, at once where there is no network; ParamsError where there
    is no such network.
    """
    return _torchvisions(arch) if arch in names.TORCHVISION else _timms(arch)


def checkpoints() -> Path:
    """Where files that were fetched by hand are looked for: torch's own folder of downloads."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def _torchvisions(arch: str) -> Path:
    weights = bodies.torchvision_models().get_model_weights(arch).DEFAULT
    place = checkpoints() / Path(weights.url).name
    if not place.is_file():
        try:
            weights.get_state_dict(progress=True, check_hash=True)
        except (URLError, OSError, RuntimeError) as error:
            raise _absent(weights.url, place, error) from None
    digest = _sha256(place)
    if not digest.startswith(place.stem.rsplit("-", 1)[-1]):
        raise _damaged(place, digest)
    return place


def _timms(arch: str) -> Path:
    """Put there by hand, in the hub's own cache, or from the hub; its name for a file is the file's SHA-256."""
    from huggingface_hub import hf_hub_url, try_to_load_from_cache  # noqa: PLC0415 - torchvision needs none

    config = bodies.timm_config(arch)
    hub, name = config["hf_hub_id"], config["hf_hub_filename"] or "model.safetensors"
    if not hub or Path(name).suffix not in READABLE:
        raise WeightsError(f"model.pretrained: timm has no default weights of {arch}{_instead(arch)}")
    place = checkpoints() / f"{hub.rpartition('/')[2]}{Path(name).suffix}"
    if place.is_file():
        return place
    cached = try_to_load_from_cache(hub, name)
    path = Path(cached) if isinstance(cached, str) else _fetched(hub, name, hf_hub_url(hub, name), place)
    blob = path.resolve()
    if SHA256.fullmatch(blob.name) and (digest := _sha256(blob)) != blob.name:
        raise _damaged(blob, digest)
    return path


def _fetched(hub: str, name: str, url: str, place: Path) -> Path:
    """One question with a short wait first: `hf_hub_download` by itself asks for a minute where nobody answers."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download  # noqa: PLC0415

    try:
        get_hf_file_metadata(url, timeout=SECONDS)
        return Path(hf_hub_download(hub, name))
    except Exception as error:  # the hub lets its HTTP library's own errors through, whichever that is
        raise _absent(url, place, error) from None


def _instead(arch: str) -> str:
    """Names of timm's of the same family that have weights."""
    from timm import list_pretrained  # noqa: PLC0415

    family = re.split(r"[_.\d]", bodies.timm_name(arch), maxsplit=1)[0]
    there = list_pretrained(f"{family}*")
    return f": timm has weights of {', '.join(there[:5])}; name one as model.arch" if there else ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _absent(url: str, place: Path, error: Exception) -> WeightsError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return WeightsError(
        f"model.pretrained: default needs {url}, which cannot be downloaded here ({reason}). "
        f"Fetch it elsewhere and put it at {place}, or set model.pretrained to none"
    )


def _damaged(place: Path, digest: str) -> WeightsError:
    return WeightsError(
        f"{place} is damaged (its SHA-256 begins with {digest[:8]}): delete it, and it is downloaded again"
    )


def identity(arch: str, file: Path) -> str:
    """What tells these weights from others: a name that holds the checked hash, or the hash."""
    return file.name if arch in names.TORCHVISION else files.sha256(file)
