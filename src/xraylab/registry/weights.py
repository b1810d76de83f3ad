"""Named pretrained weights: what `model.pretrained: NAME` stands for. weights.yaml has one entry for each."""

import difflib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from xraylab import files

TABLE = Path(__file__).with_name("weights.yaml")


@dataclass(frozen=True)
class KeyMapping:
    """How names of tensors in the file become those of the network, in this order."""

    within: tuple[str, ...]
    """Keys of nested state dicts that are entered, one after the other, where they are there."""
    drop: tuple[str, ...]
    """Regular expressions of names that the backbone has no use for: heads, and the other tower."""
    rename: tuple[tuple[str, str], ...]
    """Regular expressions and what takes their place."""
    join: dict[str, list[str]]
    """`qkv: [q, k, v]`: X.q.weight, X.k.weight and X.v.weight become X.qkv.weight, one below the other."""
    split: dict[str, dict[str, int]]
    """`pool.in_proj: {q: 1, kv: 2}`: a third of pool.in_proj.weight is pool.q.weight, two are pool.kv.weight."""
    unsqueeze: tuple[str, ...]
    """Names of tensors that lack a first dimension of 1."""

    @classmethod
    def of(cls, tree: dict[str, Any]) -> "KeyMapping":
        return cls(
            within=tuple(tree.get("within", ())),
            drop=tuple(tree.get("drop", ())),
            rename=tuple((old, new) for old, new in tree.get("rename", ())),
            join=tree.get("join", {}),
            split=tree.get("split", {}),
            unsqueeze=tuple(tree.get("unsqueeze", ())),
        )


@dataclass(frozen=True)
class NamedWeights:
    """One entry of weights.yaml."""

    name: str
    title: str
    file: str
    """What the file is called where it is published."""
    url: str
    hub: str | None
    """The repository on the Hugging Face hub that it can be downloaded from without being asked; None: by hand."""
    sha256: str | None
    """As published; None where nobody publishes one, and of the hub, which names its own."""
    gated: bool
    """Whether its terms must be accepted before it can be downloaded."""
    pickled_module: bool
    """Whether the file is a whole pickled module, to be converted once."""
    licence: str
    arch: str
    channels: int
    img_size: int
    patch: int | None
    """Images must be multiples of so many pixels; None: any size."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    keys: KeyMapping
    seen: tuple[str, ...] | None
    """Names in datasets.yaml; None where it is not published."""
    unverified: tuple[str, ...]
    """Which of these facts could not be read at their source."""
    note: str
    """What else is known of what it has seen."""
    sources: tuple[str, ...]
    """Where these facts stand."""

    @property
    def local_name(self) -> str:
        """What it is called where it was put by hand: a file called model.safetensors could be anybody's."""
        suffix = "".join(Path(self.file).suffixes[-2:]) if self.file.endswith(".tar") else Path(self.file).suffix
        generic = Path(self.file).name.split(".")[0] in {"model", "open_clip_pytorch_model", "teacher_checkpoint"}
        return f"{self.name}{suffix}" if generic else self.file

    @property
    def converted_name(self) -> str:
        """The same as safetensors."""
        return f"{self.local_name.removesuffix('.tar').rpartition('.')[0]}.safetensors"


@cache
def read() -> dict[str, NamedWeights]:
    """Name -> entry."""
    return {name: _entry(name, tree) for name, tree in files.read_yaml(TABLE)["weights"].items()}


def find(name: object) -> NamedWeights | None:
    """The entry of that name; None for `none`, `default`, files and folders."""
    return read().get(name) if isinstance(name, str) else None


def nearest(name: str) -> str:
    """`; did you mean rad-dino?` where a name is nearly that of an entry; else nothing."""
    near = difflib.get_close_matches(name, read(), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def size_problem(entry: NamedWeights, img_size: int) -> str | None:
    """Why its network takes no images of that size, and which it takes."""
    if entry.patch is None or img_size % entry.patch == 0:
        return None
    return (
        f"{entry.name} takes multiples of {entry.patch} pixels, got {img_size}: set images.size and model.img_size to "
        f"{entry.img_size}, which it was trained on, or to a smaller multiple"
    )


def remarks(entry: NamedWeights, arch: str, img_size: int) -> list[str]:
    """What `model.pretrained: NAME` changes without being told; `arch` is what model.arch says."""
    said = []
    if arch != entry.arch:
        said.append(f"model.pretrained: {entry.name} is a {entry.arch}, which takes the place of model.arch: {arch}")
    if img_size != entry.img_size:
        stretched = "its position embeddings are interpolated" if entry.patch else "objects in it have another scale"
        said.append(f"{entry.name} was trained on {entry.img_size} pixels; with model.img_size: {img_size} {stretched}")
    return said


def _entry(name: str, tree: dict[str, Any]) -> NamedWeights:
    seen = tree["seen"]
    return NamedWeights(
        name=name,
        title=tree["title"],
        file=tree["file"],
        url=tree["url"],
        hub=tree.get("hub"),
        sha256=tree.get("sha256"),
        gated=tree.get("gated", False),
        pickled_module=tree.get("pickled_module", False),
        licence=tree["licence"],
        arch=tree["arch"],
        channels=tree["channels"],
        img_size=tree["img_size"],
        patch=tree.get("patch"),
        mean=tuple(map(float, tree["mean"])),
        std=tuple(map(float, tree["std"])),
        keys=KeyMapping.of(tree.get("keys", {})),
        seen=None if seen is None else tuple(seen),
        unverified=tuple(tree.get("unverified", ())),
        note=tree.get("note", ""),
        sources=tuple(tree["sources"]),
    )
