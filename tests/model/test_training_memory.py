"""The least memory of a training, against real forward passes and sums over real networks."""

from pathlib import Path
from typing import Any

import pytest
import small
import torch
from torch import nn

from xraylab import files
from xraylab.model import create, training_memory
from xraylab.params import config
from xraylab.params.config import ExperimentConfig

PIXELS = 64


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ExperimentConfig:
    study = small.study(tmp_path_factory.mktemp("memory") / "study")
    return config.read(study / "params.yaml").experiment("baseline")


def changed(base: ExperimentConfig, arch: str = "resnet18", **train: Any) -> ExperimentConfig:
    model = base.model.model_copy(update={"arch": arch, "img_size": PIXELS, "pretrained": "none"})
    given = {"precision": "float32", "batch_size": 6, **train}
    return base.model_copy(update={"model": model, "train": base.train.model_copy(update=given)})


def saved(network: nn.Module, images: torch.Tensor) -> int:
    """Bytes of the graph of a real forward pass, besides the weights."""
    weights = {each.untyped_storage().data_ptr() for each in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network.train()(images)
    return sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in weights)


@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny_patch16_224"])
def test_activations_are_those_of_a_real_forward_pass(arch: str, base: ExperimentConfig) -> None:
    """Attention within a hundredth: its random state and the sums of its rows are left out."""
    cfg = changed(base, arch)
    network = create.create_model(cfg.model, 2)
    real = saved(network, torch.rand(6, cfg.model.channels, PIXELS, PIXELS))
    memory = training_memory.estimate(cfg, 2)
    assert memory.activations == pytest.approx(real, rel=0.01)
    assert memory.activations <= real
    assert memory.weights == memory.gradients == sum(each.nbytes for each in network.parameters())


def test_options_take_what_the_docs_say(base: ExperimentConfig) -> None:
    plain = training_memory.estimate(changed(base), 2)
    assert plain.optimizer == 2 * plain.weights  # Adam's
    assert plain.average == 0
    assert training_memory.estimate(changed(base, ema_decay=0.9), 2).average == plain.weights
    assert training_memory.estimate(changed(base, optimizer="adafactor"), 2).optimizer == plain.weights // 2
    assert training_memory.estimate(changed(base, optimizer="sgd", momentum=0.9), 2).optimizer == plain.weights
    assert training_memory.estimate(changed(base, precision="bfloat16"), 2).activations == plain.activations // 2
    assert training_memory.estimate(changed(base, grad_checkpointing=True), 2).activations < 0.7 * plain.activations
    shared = training_memory.estimate(changed(base, devices=2), 2)
    assert shared.activations == training_memory.estimate(changed(base, batch_size=3), 2).activations
    assert shared == training_memory.estimate(changed(base, devices="all"), 2, 2)
    assert training_memory.estimate(changed(base, compile=True), 2).activations == 0  # a compiler may keep less
    assert plain.total == 4 * plain.weights + plain.activations


def test_frozen_layers_keep_neither_gradients_nor_activations(base: ExperimentConfig) -> None:
    freeze = base.model.freeze.model_copy(update={"until": "head"})
    cfg = changed(base)
    cfg = cfg.model_copy(update={"model": cfg.model.model_copy(update={"freeze": freeze})})
    frozen, plain = training_memory.estimate(cfg, 2), training_memory.estimate(changed(base), 2)
    assert frozen.weights == plain.weights
    assert frozen.gradients == 4 * (512 * 2 + 2)  # of the head
    assert frozen.activations < plain.activations / 100


def test_configs_are_asked_about_by_their_files(
    base: ExperimentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write_yaml({**changed(base).model_dump(), "pretrained_sha256": None}, tmp_path / "x.yaml")
    training_memory.main(["2", "1", str(tmp_path / "x.yaml")])
    assert files.json.loads(capsys.readouterr().out) == {
        str(tmp_path / "x.yaml"): training_memory.estimate(changed(base), 2).total
    }
