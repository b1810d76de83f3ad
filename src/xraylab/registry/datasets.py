"""Public data sets: which of them a study's images are of, and whether pretrained weights have seen those."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from xraylab import files
from xraylab.registry.weights import NamedWeights

TABLE = Path(__file__).with_name("datasets.yaml")


@dataclass(frozen=True)
class PublicDataset:
    """One entry of datasets.yaml."""

    name: str
    title: str
    layouts: tuple[str, ...]
    address: str | None
    names: str | None
    sources: tuple[str, ...]
    """Sets whose images it took over."""


@dataclass(frozen=True)
class DatasetMatch:
    """A public set that images are of, and by what that is known."""

    dataset: PublicDataset
    how: str


@cache
def read() -> dict[str, PublicDataset]:
    """Name -> entry."""
    return {
        name: PublicDataset(
            name=name,
            title=tree["title"],
            layouts=tuple(tree.get("layouts", ())),
            address=tree.get("address"),
            names=tree.get("names"),
            sources=tuple(tree.get("from", ())),
        )
        for name, tree in files.read_yaml(TABLE)["datasets"].items()
    }


def recognise(layouts: Iterable[str], addresses: Iterable[str], image_names: Sequence[str]) -> list[DatasetMatch]:
    """The public sets that images are of: by their layout, by where they come from, or by names that no other has."""
    layouts, places = set(layouts), [_last_parts(address) for address in addresses]
    matches = []
    for each in read().values():
        named = sum(bool(each.names and re.search(each.names, name)) for name in image_names)
        if named:
            matches.append(DatasetMatch(each, f"by the names of {named} of {len(image_names)} images"))
        elif shared := layouts.intersection(each.layouts):
            matches.append(DatasetMatch(each, f"by the layout {shared.pop()}"))
        elif place := next((one for one in places if each.address and re.search(each.address, one, re.I)), None):
            matches.append(DatasetMatch(each, f"by the name {place}"))
    return matches


def seen_warning(entry: NamedWeights, experiments: Sequence[str], matches: Sequence[DatasetMatch]) -> str | None:
    """Why the images may be no test of experiments that begin with these weights; None where nothing speaks for it."""
    seen = _with_sources(entry.seen or ())
    common = [each for each in matches if seen & _with_sources([each.dataset.name])]
    if not common:
        return None
    sets = " and ".join(f"{each.dataset.title} ({each.how})" for each in common)
    trained = ", ".join(read()[name].title for name in entry.seen or ())
    note = f" Of {entry.name}: {entry.note}." if entry.note else ""
    return (
        f"{entry.name}, from which {' and '.join(experiments)} started, was pretrained on {trained}. The test images "
        f"are of {sets}: the network may have seen them, and then its metrics say less about new images.{note}"
    )


def unknown_warning(entry: NamedWeights) -> str | None:
    """That nobody knows what weights have seen, or what else; None where it is known."""
    if entry.seen is not None and "seen" not in entry.unverified:
        return None
    note = f" ({entry.note})" if entry.note else ""
    beside = f" besides {', '.join(read()[name].title for name in entry.seen)}" if entry.seen else ""
    return (
        f"Which public sets {entry.name} was pretrained on{beside} is not known here{note}: it may have seen the test "
        "images."
    )


def describe(entry: NamedWeights) -> list[str]:
    """All that is known of named weights, line by line."""
    seen = ", ".join(read()[name].title for name in entry.seen) if entry.seen is not None else "not known here"
    patches = f", multiples of {entry.patch}" if entry.patch else ""
    lines = [
        f"{entry.name}: {entry.title}",
        f"file: {entry.file}, from {entry.url}{' (its terms must be accepted first)' if entry.gated else ''}",
        f"licence: {entry.licence}",
        f"network: {entry.arch}; {entry.channels} channels, {entry.img_size} pixels{patches}",
        f"normalisation of pixels from 0 to 1: mean {_numbers(entry.mean)}, standard deviation {_numbers(entry.std)}",
        f"has seen: {seen}{f'; {entry.note}' if entry.note else ''}",
    ]
    if entry.unverified:
        lines.append(f"could not be read at the source: {', '.join(entry.unverified)}")
    return lines + [f"source: {source}" for source in entry.sources]


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _last_parts(address: str) -> str:
    """What a folder or an address is called, with what it stands in; where that lies says nothing about it."""
    return "/".join(re.split(r"[/\\:]", address.rstrip("/\\"))[-2:]).replace("_", " ")


def _with_sources(names: Iterable[str]) -> set[str]:
    """Those sets and all whose images they took over."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += read()[name].sources
    return found
