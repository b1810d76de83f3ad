"""What is frozen stays as it was, costs no backward pass, and is not kept again after every epoch."""

from collections.abc import Callable
from pathlib import Path

import pytest
import small
import tiny
import torch
from conftest import Loaded
from model_configs import model_config
from safetensors.torch import load_file

from xraylab import files
from xraylab.errors import ParamsError
from xraylab.model import create, features, freezing, networks
from xraylab.model.freezing import FreezeSpec
from xraylab.params import config
from xraylab.stages import train
from xraylab.train.state import TrainingState

Prepare = Callable[..., Loaded]
Tensors = dict[str, torch.Tensor]
BODY = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
FROZEN = {"layer1": BODY[:3], "layer3": BODY[:5], "head": BODY}


@pytest.fixture(autouse=True)
def _tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)


def prepared_frozen(prepared: Prepare, tmp_path: Path, upto: str, change: small.Change = lambda tree: None) -> Loaded:
    begin = tiny.pretrained(tmp_path / "start.safetensors")

    def freeze(tree: small.Tree) -> None:
        begin(tree)
        tree["model"]["freeze"]["until"] = upto
        change(tree)

    return prepared(freeze)


def changed(before: Tensors, after: Tensors) -> set[str]:
    """The blocks in which any number differs."""
    names = [name for name in after if not name.startswith("fc.")]
    return {name.split(".")[0] for name in names if not torch.equal(before[name], after[name])}


HARD = {
    "weight decay and penalty": lambda tree: (
        tree["train"].update(optimizer="adamw", weight_decay=0.1, lr=0.01),
        tree["loss"].update(l2=0.1),
    ),
    "fine_tune": lambda tree: tree["train"].update(schedule="fine_tune", epochs=2, freeze_epochs=1, lr_mult=10),
    "sgd": lambda tree: tree["train"].update(optimizer="sgd", momentum=0.9, weight_decay=0.1, schedule="constant"),
}


@pytest.mark.parametrize(
    ("upto", "case"), [(upto, case) for upto in FROZEN for case in HARD if (upto, case) != ("head", "fine_tune")]
)
def test_frozen_weights_and_statistics_stay_as_they_were(
    upto: str, case: str, prepared: Prepare, tmp_path: Path
) -> None:
    loaded = prepared_frozen(prepared, tmp_path, upto, HARD[case])
    train.run(*loaded, "baseline", 0)
    folder = loaded[1].model("baseline", 0)
    after = load_file(folder / "last.safetensors")
    before = load_file(tmp_path / "start.safetensors")
    assert changed(before, after) == set(BODY) - set(FROZEN[upto])
    count = sum(before[name].numel() for name in before if name.split(".")[0] in FROZEN[upto] and counted(name))
    layers = {"layer1": 4, "layer3": 8, "head": 10}[upto]  # conv1, bn1, and a convolution and a norm in each block
    assert files.read_json(folder / "model.json")["frozen"] == {
        "until": upto, "layer_fraction": None, "n_blocks": None, "batch_norm": "eval", "modules": FROZEN[upto],
        "layers_frozen": layers, "layers_in_all": 11, "parameters": count, "cached": False,
    }  # fmt: skip


@pytest.mark.parametrize("average", ["swa", "soup"])
def test_averaged_weights_get_new_statistics_where_they_trained_and_nowhere_else(
    average: str, prepared: Prepare, tmp_path: Path
) -> None:
    """Half of the layers end within a block, which trains its norm beside a frozen convolution."""
    begin = tiny.pretrained(tmp_path / "start.safetensors")

    def freeze(tree: small.Tree) -> None:
        begin(tree)
        tree["model"]["freeze"]["layer_fraction"] = 0.5
        tree["train"].update({"epochs": 3, "checkpoints": "all", f"{average}_epochs": 2})

    loaded = prepared(freeze)
    train.run(*loaded, "baseline", 0)
    folder = loaded[1].model("baseline", 0)
    modules = files.read_json(folder / "model.json")["frozen"]["modules"]
    assert "layer2.0" in modules
    assert "layer2" not in modules
    start = load_file(tmp_path / "start.safetensors")
    *epochs, averaged = (load_file(folder / f"epoch-{n:03d}.safetensors") for n in range(4))
    for name in start:
        if any(name.startswith(f"{module}.") for module in modules):
            assert torch.equal(averaged[name], start[name]), name
        elif name.endswith("running_mean"):
            assert not any(torch.equal(averaged[name], epoch[name]) for epoch in epochs), name
            assert not torch.allclose(averaged[name], torch.stack([each[name] for each in epochs[1:]]).mean(dim=0)), (
                name
            )


def divided(network: torch.nn.Module, upto: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    frozen = freezing.freeze(network, FreezeSpec(until=upto))
    assert frozen.frozen_modules == []
    return frozen.backbone, frozen.trainable


def counted(name: str) -> bool:
    return not name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def test_the_frozen_phase_of_fine_tune_adds_to_what_is_frozen_anyway(prepared: Prepare, tmp_path: Path) -> None:
    def tune(tree: small.Tree) -> None:
        tree["train"].update(schedule="fine_tune", epochs=1, freeze_epochs=1, lr_mult=10, checkpoints="all")

    loaded = prepared_frozen(prepared, tmp_path, "layer3", tune)
    train.run(*loaded, "baseline", 0)
    start = load_file(tmp_path / "start.safetensors")
    frozen, unfrozen = (load_file(loaded[1].model("baseline", 0) / f"epoch-00{n}.safetensors") for n in (0, 1))
    assert changed(start, frozen) == set()
    assert changed(frozen, unfrozen) == {"layer4"}
    assert not torch.equal(frozen["fc.1.weight"], unfrozen["fc.1.weight"])


def test_without_freezing_model_json_says_so(prepared: Prepare) -> None:
    loaded = prepared()
    train.run(*loaded, "baseline", 0)
    assert files.read_json(loaded[1].model("baseline", 0) / "model.json")["frozen"] == {
        "until": None, "layer_fraction": None, "n_blocks": None, "batch_norm": "eval", "modules": [],
        "layers_frozen": 0, "layers_in_all": 11, "parameters": 0, "cached": False,
    }  # fmt: skip


@pytest.mark.parametrize("arch", ["resnet34", "resnet50"])
@pytest.mark.parametrize("upto", ["layer1", "layer2", "layer3", "layer4", "head"])
def test_the_two_parts_make_the_whole(arch: str, upto: str) -> None:
    torch.manual_seed(0)
    network = networks.build(arch, classes=2, channels=1, dropout=0.0).eval()
    frozen, trained = divided(network, upto)
    images = torch.randn(3, 1, 32, 32)
    assert torch.equal(trained(features.run_backbone(frozen, images)), network(images))
    whole, rest = network.state_dict(), trained.state_dict()
    assert all(tensor.data_ptr() == whole[name].data_ptr() for name, tensor in rest.items())
    others = {tensor.data_ptr() for name, tensor in whole.items() if name not in rest}
    assert {tensor.data_ptr() for tensor in frozen.state_dict().values()} == others


def test_nothing_runs_backward_through_what_is_frozen() -> None:
    network = networks.build("resnet18", classes=2, channels=1, dropout=0.0)
    frozen, trained = divided(network, "layer2")
    handed = features.run_backbone(frozen, torch.randn(2, 1, 32, 32))
    assert handed.grad_fn is None
    trained(handed).sum().backward()
    assert all(p.grad is None for p in frozen.parameters())
    assert all(p.grad is not None for p in trained.parameters())


def test_rates_of_what_is_left_are_those_of_the_whole_network() -> None:
    network = networks.build("resnet18", classes=2, channels=1, dropout=0.0)
    whole = networks.parameter_groups(network)
    _, trained = divided(network, "layer3")
    left = networks.parameter_groups(trained)
    assert len(left) == networks.PARTS
    assert left[0] == []
    layer4 = list(network.layer4.parameters())
    assert [id(p) for p in left[1]] == [id(p) for p in layer4] == [id(p) for p in whole[1][-len(layer4) :]]
    assert [id(p) for p in left[2]] == [id(p) for p in whole[2]]


def test_an_epoch_keeps_the_trained_part_alone_and_the_result_is_whole(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[set[str]] = []
    save = TrainingState.save

    def look(self: TrainingState, scored: torch.nn.Module, **states: object) -> None:
        save(self, scored, **states)
        kept.append(set(load_file(self.weights(self.last))))

    monkeypatch.setattr(TrainingState, "save", look)
    loaded = prepared_frozen(prepared, tmp_path, "head")
    train.run(*loaded, "baseline", 0)
    assert kept == [{"fc.1.weight", "fc.1.bias"}] * 2
    whole = set(networks.build("resnet18", 2, 1, 0.0).state_dict())
    assert set(load_file(loaded[1].model("baseline", 0) / "best.safetensors")) == whole


def test_a_body_that_has_learnt_nothing_is_not_frozen(tmp_path: Path) -> None:
    study = small.study(tmp_path, lambda tree: tree["model"]["freeze"].update(until="head"))
    with pytest.raises(ParamsError) as caught:
        config.read(study / "params.yaml")
    assert str(caught.value) == (
        "params.yaml cannot be used:\n"
        "  - model.freeze.until: model.pretrained is none, so what would be frozen has learnt nothing: "
        "set model.pretrained to default or a file, or this to null"
    )


NOTHING = {
    "less than a layer": (
        {"layer_fraction": 0.05},
        "model.freeze.layer_fraction: 0.05 of the 11 layers of resnet18 is less than one, so that nothing is frozen: "
        "raise it, or set it to null",
    ),
    "no batch norm": (
        {"until": "conv1", "batch_norm": "train"},
        "model.freeze.batch_norm: what is frozen of resnet18 has no batch norm, so that train changes nothing: set it "
        "to eval",
    ),
}


@pytest.mark.parametrize("case", NOTHING)
def test_a_choice_that_nothing_comes_of_is_refused(case: str) -> None:
    freeze, message = NOTHING[case]
    assert create.check(model_config(freeze, arch="resnet18", pretrained="default"), 2) == message
