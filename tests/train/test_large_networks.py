"""What lets large networks train, compiling and gradient checkpointing, changes nothing but time and memory."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small
import tiny
import torch
from conftest import Loaded, load
from fastai.callback.core import Callback
from runs import Killed, kill_after, outcome
from safetensors.torch import load_file
from torch import Tensor, nn

from xraylab import files
from xraylab.errors import ParamsError, TrainingError
from xraylab.model import compiling, grad_checkpointing, networks
from xraylab.model.heads import LINEAR
from xraylab.params import config
from xraylab.stages import configure, features, train
from xraylab.train import learner
from xraylab.train.callbacks import KeepStatistics
from xraylab.train.run import TrainingRun

COMPILED, AGAIN = {"compile": True}, {"grad_checkpointing": True}
BESIDES: dict[str, dict[str, Any]] = {
    "accumulated": {"train": {"grad_accum": 2, "ema_decay": 0.5}},
    "frozen": {"model": {"freeze": {"until": "layer1"}}, "train": {"ema_decay": 0.5, "precision": "bfloat16"}},
    "frozen_accumulated": {
        "model": {"freeze": {"until": "layer2", "batch_norm": "train"}, "dropout": 0.5},
        "train": {"grad_accum": 2, "precision": "bfloat16"},
    },
    "head_first": {
        "model": {"dropout": 0.5},
        "train": {"phases": [{"frozen": True, "epochs": 1}, {"epochs": 1}], "precision": "float16", "swa_epochs": 2},
    },
}
"""What the two options are crossed with, most pairs of it included."""
CROSSED = [
    *((besides, COMPILED | AGAIN) for besides in BESIDES),
    ("accumulated", COMPILED),
    ("frozen_accumulated", AGAIN),
]


def name_of(besides: str, options: dict[str, bool]) -> str:
    return "-".join([besides, *options])


EXPERIMENTS = {
    **BESIDES,
    **{name_of(*case): {**BESIDES[case[0]], "train": {**BESIDES[case[0]]["train"], **case[1]}} for case in CROSSED},
    "vgg": {"model": {"arch": "vgg11"}, "train": AGAIN},
    "nothing": {"model": {"freeze": {"until": "layer4"}}, "train": AGAIN},
}


class Blocks(tiny.Tiny):
    """The tiny network with blocks in its stages, as a ResNet has."""

    def __init__(self) -> None:
        super().__init__()
        for number in range(1, 5):
            setattr(self, f"layer{number}", nn.Sequential(tiny.block(8)))


@pytest.fixture(scope="module")
def study(noise: Path, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A study of noise images that is configured."""
    folder = tmp_path_factory.mktemp("large")
    root = shutil.copytree(noise, folder / "study")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(networks.NETWORKS, "resnet18", Blocks)
        begin = tiny.pretrained(folder / "start.safetensors")

    def change(tree: small.Tree) -> None:
        begin(tree)
        tree["study"]["baseline"] = "accumulated"
        tree["experiments"] = EXPERIMENTS

    small.edit(root, change)
    configure.run(*load(root))
    return load(root)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny network, and of torch's compiler all but the code in C++, so that it computes the same bits."""
    monkeypatch.setitem(networks.NETWORKS, "resnet18", Blocks)
    monkeypatch.setattr(compiling, "FOR_TRAINING", {**compiling.FOR_TRAINING, "options": None, "backend": "aot_eager"})
    torch.ones(1, requires_grad=True).backward()  # else other tests' forks find autograd as a compiler began with it


def weights(study: Loaded, experiment: str) -> dict[str, Tensor]:
    train.run(*study, experiment, 0)
    return load_file(study[1].model(experiment, 0) / "last.safetensors")


@pytest.mark.parametrize(("besides", "options"), CROSSED, ids=lambda value: value if isinstance(value, str) else None)
def test_compiled_and_checkpointed_a_run_ends_in_the_same_bits(
    besides: str, options: dict[str, bool], study: Loaded
) -> None:
    """Files of the same names and bytes: weights, history."""
    if not study[1].model(besides, 0).is_dir():
        train.run(*study, besides, 0)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    train.run(*study, name_of(besides, options), 0)
    assert outcome(study, name_of(besides, options)) == outcome(study, besides)
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"] - graphs
    assert compiled == (("phases" in BESIDES[besides]["train"]) + 1 if "compile" in options else 0)


def test_stopped_between_its_phases_a_run_with_both_ends_in_the_same_bits(
    study: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = name_of("head_first", COMPILED | AGAIN)
    if not study[1].model(both, 0).is_dir():
        train.run(*study, both, 0)
    whole = outcome(study, both)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(0, patched)
        train.run(*study, both, 0)
    train.run(*study, both, 0)
    assert outcome(study, both) == whole


class Calls(Callback):
    """How often each block computes in training and in scoring."""

    def __init__(self, network: nn.Module) -> None:
        self.calls: dict[bool, int] = {True: 0, False: 0}
        network.layer4[0][0].register_forward_hook(self._count)

    def _count(self, *_: object) -> None:
        self.calls[torch.is_grad_enabled()] += 1


@pytest.mark.parametrize(
    ("experiment", "times"), [("frozen_accumulated", 1), ("frozen_accumulated-grad_checkpointing", 2)]
)
def test_blocks_compute_twice_in_training_and_once_in_scoring(experiment: str, times: int, study: Loaded) -> None:
    run = TrainingRun.load(*study, experiment, 0)
    learn = learner.learner(run, learner.dataloaders(run))
    calls = Calls(learn.model)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, cbs=calls)
    assert calls.calls == {True: times * len(learn.dls.train), False: 1}


NETWORKS = {"densenet121": 32, "inception_v3": 80, "vit_tiny_patch16_224": 32, "convnext_atto": 32, "resnet50": 32}


@pytest.mark.parametrize("arch", NETWORKS)
def test_gradients_and_statistics_are_the_same_and_less_is_kept(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    torch.manual_seed(0)
    size = NETWORKS[arch]
    plain = networks.build(arch, 2, 1, 0.5, LINEAR, size)
    again = copy.deepcopy(plain)
    grad_checkpointing.enable(again, arch)
    (grads, kept), (grads_again, kept_again) = (gradients(each, size) for each in (plain, copy.deepcopy(again)))
    assert all(torch.equal(one, other) for one, other in zip(grads, grads_again, strict=True))
    assert kept_again < kept / 2


def gradients(network: nn.Module, size: int) -> tuple[list[Tensor], int]:
    """Of every parameter, then the statistics after one batch; and how many bytes the forward pass keeps."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = network.train()(torch.randn(2, 1, size, size))
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    keep = KeepStatistics()
    keep.learn = type("Learn", (), {"model": network})
    keep.before_backward()
    logits.square().sum().backward()
    keep.after_backward()
    found = [*(p.grad for p in network.parameters()), *network.buffers()]
    return found, sum(size for place, size in kept.items() if place not in own)


def test_what_cannot_be_checkpointed_is_refused_before_anything_trains(study: Loaded) -> None:
    with pytest.raises(ParamsError) as caught:
        features.run(*study)
    assert str(caught.value) == (
        "networks that cannot be built as configured:\n"
        "  - vgg: train.grad_checkpointing: timm has none for vgg11: set it to false, or take another model.arch\n"
        "  - nothing: train.grad_checkpointing: what is trained of resnet18 has no blocks to compute again: set it to "
        "false, or take another model.arch"
    )


def test_a_frozen_body_has_nothing_to_compute_again(study: Loaded) -> None:
    tree = files.read_yaml(study[1].params)
    tree["experiments"] = {"accumulated": {"model": {"freeze": {"until": "head"}}, "train": AGAIN}}
    with pytest.raises(ParamsError) as caught:
        config.validate(tree, "params.yaml")
    assert str(caught.value).endswith(
        "train.grad_checkpointing: model.freeze.until: head keeps no activations of what is frozen: set this to false"
    )


def test_a_network_that_cannot_be_compiled_is_named(study: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(graph: object, inputs: object) -> Callable[..., object]:
        raise FileNotFoundError("no C++ compiler\nand much more")

    monkeypatch.setattr(compiling, "FOR_TRAINING", {**compiling.FOR_TRAINING, "backend": no_compiler})
    with pytest.raises(TrainingError) as caught:
        train.run(*study, "accumulated-compile", 0)
    assert str(caught.value) == (
        "train.compile: resnet18 cannot be compiled on this machine (BackendCompilerFailed: backend='no_compiler' "
        "raised:): set it to false"
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_compiled_code_trains_to_the_same_weights_but_for_rounding(
    study: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = weights(study, "accumulated")
    monkeypatch.undo()
    monkeypatch.setitem(networks.NETWORKS, "resnet18", Blocks)
    compiled, again = (weights(study, name_of("accumulated", COMPILED | AGAIN)) for _ in range(2))
    for name, tensor in plain.items():
        torch.testing.assert_close(compiled[name], tensor, rtol=1e-3, atol=1e-3)
        assert torch.equal(compiled[name], again[name])
