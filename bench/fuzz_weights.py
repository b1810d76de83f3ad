"""Targets of bench/fuzz.py: files of weights, and whole pickled networks as `xraylab weights convert` reads them."""

import io
import os
import tempfile
from collections import OrderedDict
from pathlib import Path

import fuzz_mutations as mutations
import torch
from fuzz_mutations import Target
from safetensors.torch import save
from torch import nn

from xraylab.errors import WeightsError
from xraylab.model import pickle_reader, weights


def convert(data: bytes) -> bytes:
    """As the confined process does it."""
    written = io.BytesIO()
    problem = pickle_reader.convert(io.BytesIO(data), written)
    if problem:
        raise WeightsError(problem)
    return written.getvalue()


def load_pth(data: bytes) -> object:
    return _load(data, ".pth")


def load_safetensors(data: bytes) -> object:
    return _load(data, ".safetensors")


def _load(data: bytes, suffix: str) -> object:
    path = Path(tempfile.gettempdir()) / f"fuzz-{os.getpid()}{suffix}"
    try:
        path.write_bytes(data)
        return weights.read_tree(path), weights.classes_of(path)
    finally:
        path.unlink()


def pickle_seeds() -> list[bytes]:
    """State dicts and a whole network, in torch's two formats."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    shared = torch.arange(12.0)
    views = OrderedDict(a=shared[:6].reshape(2, 3), b=shared[6:].half(), c=shared.reshape(3, 4).T, d=torch.tensor(3))
    files = []
    for content, zipped in ((network.state_dict(), True), (views, True), (views, False), (network, True)):
        written = io.BytesIO()
        torch.save(content, written, _use_new_zipfile_serialization=zipped)
        files.append(written.getvalue())
    return files


def state_seeds() -> list[bytes]:
    return pickle_seeds()[:3]


def safetensors_seeds() -> list[bytes]:
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2]), "c": torch.zeros(2).bfloat16()}
    return [save(tensors), save(tensors, {"xraylab.classes": '["Healthy", "TB"]'}), save({"x": torch.zeros(0, 3)})]


TARGETS = {
    "pickle": Target(convert, pickle_seeds, (mutations.change_member,)),
    "pth": Target(load_pth, state_seeds, (mutations.change_member,)),
    "safetensors": Target(load_safetensors, safetensors_seeds, (mutations.change_header,)),
}
