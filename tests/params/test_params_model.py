"""The section `model`: what contradicts what, and what to do about it."""

from pathlib import Path

import pytest
import small
from refused import problems

from xraylab.params import config

CONTRADICTIONS = {
    "a hidden layer without a width": (
        {"head": "dense", "head_hidden": None},
        ["model.head_hidden: model.head is dense, which needs a number here"],
    ),
    "a dense head that leaves batch norm open": (
        {"head": "dense", "head_batch_norm": None},
        ["model.head_batch_norm: model.head is dense, which needs true or false here"],
    ),
    "frozen in two ways": (
        {"pretrained": "default", "freeze": {"until": "layer2", "layer_fraction": 0.5}},
        ["model.freeze.layer_fraction: model.freeze.until says already what is frozen: set one to null"],
    ),
    "frozen without having learnt": (
        {"freeze": {"n_blocks": -4}},
        [
            "model.freeze.n_blocks: model.pretrained is none, so what would be frozen has learnt nothing: set "
            "model.pretrained to default or a file, or this to null"
        ],
    ),
    "no blocks": (
        {"pretrained": "default", "freeze": {"n_blocks": 0}},
        ["model.freeze.n_blocks: 0 blocks freeze nothing: set it to null"],
    ),
    "a cache of what changes": (
        {"pretrained": "default", "freeze": {"until": "head", "batch_norm": "train", "cache": True}},
        [
            "model.freeze.cache: model.freeze.batch_norm: train changes the frozen part's output with every batch, so "
            "it cannot be computed once: set that to eval, or this to false"
        ],
    ),
    "no name at all": (
        {"arch": "hf-hub:someone/network"},
        [
            "model.arch: string should match pattern '^[A-Za-z0-9][A-Za-z0-9_.-]*$', got 'hf-hub:someone/network'",
        ],
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions_are_named_with_their_remedy(case: str, tmp_path: Path) -> None:
    change, expected = CONTRADICTIONS[case]
    assert problems(tmp_path, lambda tree: tree.update(model=config.merge(tree["model"], change))) == expected


@pytest.mark.parametrize("freeze", [{"until": "stages.1"}, {"layer_fraction": 0.75}, {"n_blocks": -4}], ids=str)
def test_each_way_of_freezing_is_one_of_three_keys(freeze: small.Tree, tmp_path: Path) -> None:
    change = {"arch": "vit_b_16", "pretrained": "default", "freeze": freeze}
    study = small.study(tmp_path, lambda tree: tree.update(model=config.merge(tree["model"], change)))
    assert config.read(study / "params.yaml").model.freeze.choices == freeze
