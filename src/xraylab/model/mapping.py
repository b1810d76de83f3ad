"""From the names of tensors in a published file to those of the network, as the registry's entry says."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from xraylab.model.weights import State
from xraylab.registry.weights import KeyMapping


def flatten(tree: Mapping[Any, Any], prefix: str = "") -> State:
    """All tensors of nested mappings, by their dotted path; epochs, options and the like are left out."""
    tensors: State = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            tensors |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, Tensor):
            tensors[f"{prefix}{key}"] = value
    return tensors


def map_keys(state: State, keys: KeyMapping) -> State:
    """The file's tensors under the network's names, without those that the backbone has no use for."""
    for outer in keys.within:
        inside = {name.removeprefix(f"{outer}."): each for name, each in state.items() if name.startswith(f"{outer}.")}
        state = inside or state
    drop = re.compile("|".join(keys.drop)) if keys.drop else None
    mapped = {_rename(name, keys): tensor for name, tensor in state.items() if not (drop and drop.search(name))}
    for name in keys.unsqueeze:
        if name in mapped:
            mapped[name] = mapped[name][None]
    for joined, parts in keys.join.items():
        mapped = _join(mapped, joined, parts)
    for joined, shares in keys.split.items():
        mapped = _split(mapped, joined, shares)
    return mapped


def _rename(name: str, keys: KeyMapping) -> str:
    for pattern, replacement in keys.rename:
        name = re.sub(pattern, replacement, name)
    return name


def _join(state: State, joined: str, parts: list[str]) -> State:
    """X.q.weight, X.k.weight and X.v.weight as X.qkv.weight; where one is absent, the others stay as they are."""
    result = dict(state)
    for name in state:
        head, _, tail = name.rpartition(".")
        where, _, last = head.rpartition(".")
        names = [f"{where}.{part}.{tail}" for part in parts]
        if last == parts[0] and all(each in state for each in names):
            result[f"{where}.{joined}.{tail}"] = torch.cat([result.pop(each) for each in names])
    return result


def _split(state: State, joined: str, shares: dict[str, int]) -> State:
    """X.in_proj.weight as X.q.weight and X.kv.weight, which take so many shares of its rows each."""
    result = dict(state)
    for name, tensor in state.items():
        where, match, tail = name.partition(f".{joined}.")
        if match:
            del result[name]
            share, start = len(tensor) // sum(shares.values()), 0
            for part, number in shares.items():
                result[f"{where}.{part}.{tail}"] = tensor[start : start + number * share]
                start += number * share
    return result
