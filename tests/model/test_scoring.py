"""Scoring is quick, and says what the plain network says."""

import copy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import TypeVar

import pytest
import torch
import torchvision.models as tv
from torch import Tensor, nn

from xraylab.errors import TrainingError
from xraylab.model import compiling, memory, networks, scoring
from xraylab.model.hardware import Hardware

N = TypeVar("N", bound=nn.Module)
CPU = Hardware("cpu", "test", "float32", threads=1, torch=torch.__version__)
HALF = Hardware("cpu", "test", "bfloat16", threads=1, torch=torch.__version__)


def trained(network: N, seed: int = 0) -> N:
    """With statistics as training leaves them, no longer zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
    return network


def resnet(arch: str = "resnet18", seed: int = 0) -> tv.ResNet:
    torch.manual_seed(seed)
    return trained(networks.build(arch, classes=3, channels=1, dropout=0.5), seed)


def images(count: int, channels: int = 1, pixels: int = 64) -> Tensor:
    """Channels last in memory, as the cache's batches are."""
    generator = torch.Generator().manual_seed(9)
    return torch.randn(count, pixels, pixels, channels, generator=generator).permute(0, 3, 1, 2)


def plain(network: nn.Module, batch: Tensor) -> Tensor:
    """The reference: the network as it was trained, contiguous, float32."""
    with torch.no_grad():
        contiguous = torch.empty(batch.shape).copy_(batch)
        answer: Tensor = copy.deepcopy(network).eval()(contiguous).softmax(dim=1)
    return answer


def test_nothing_is_said_of_batch_norms_where_there_are_none() -> None:
    assert compiling.fuse_batch_norm(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()))[1] == ""


@pytest.mark.parametrize(("arch", "norms"), [("resnet18", 20), ("resnet34", 36), ("resnet50", 53)])
def test_folded_networks_give_the_same_probabilities(arch: str, norms: int) -> None:
    network, batch = resnet(arch), images(4)
    ours, how = compiling.fuse_batch_norm(network)
    assert how == f"{norms} of {norms} batch norms folded into convolutions"
    assert not [module for module in ours.modules() if isinstance(module, nn.BatchNorm2d)]
    assert (plain(ours, batch) - plain(network, batch)).abs().max() < 1e-5


def test_folding_leaves_the_given_network_as_it_was() -> None:
    network = resnet().train()
    before = copy.deepcopy(network.state_dict())
    compiling.fuse_batch_norm(network)
    assert network.training
    assert list(network.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_of_other_architectures_what_can_be_folded_is() -> None:
    network, batch = trained(tv.densenet121(num_classes=2)), images(2, channels=3)
    ours, how = compiling.fuse_batch_norm(network)
    # before the first pool, and between the two convolutions of each of the 6 + 12 + 24 + 16 dense layers
    assert how == f"{1 + 6 + 12 + 24 + 16} of 121 batch norms folded into convolutions"
    assert (plain(ours, batch) - plain(network, batch)).abs().max() < 1e-5


class Doubling(nn.BatchNorm2d):
    def forward(self, batch: Tensor) -> Tensor:
        return 2 * super().forward(batch)


class Pair(nn.Module):
    """A convolution and its batch norm, used in a way that forbids to fold them."""

    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), norm or nn.BatchNorm2d(3)

    def forward(self, batch: Tensor) -> Tensor:
        answer: Tensor = self.norm(self.conv(batch))
        return answer.mean(dim=(2, 3))


class CalledTwice(Pair):
    def forward(self, batch: Tensor) -> Tensor:
        return super().forward(self.conv(batch))


class ReadTwice(Pair):
    def forward(self, batch: Tensor) -> Tensor:
        between = self.conv(batch)
        answer: Tensor = self.norm(between) + between
        return answer.mean(dim=(2, 3))


class WeightReadElsewhere(Pair):
    def forward(self, batch: Tensor) -> Tensor:
        return super().forward(batch) + self.conv.weight.sum(dim=(1, 2, 3))


def listened() -> Pair:
    network = Pair()
    network.conv.register_forward_hook(lambda module, given, answer: answer + 1)
    return network


@pytest.mark.parametrize(
    "network",
    [
        CalledTwice(),
        ReadTwice(),
        WeightReadElsewhere(),
        listened(),
        Pair(Doubling(3)),
        Pair(nn.BatchNorm2d(3, track_running_stats=False)),
    ],
    ids=["called twice", "read twice", "weight read elsewhere", "a hook", "a subclass", "no statistics"],
)
def test_what_cannot_be_folded_stays(network: Pair) -> None:
    batch = images(4, channels=3, pixels=8)
    ours, how = compiling.fuse_batch_norm(trained(network))
    assert how == "0 of 1 batch norms folded into convolutions"
    assert torch.equal(plain(ours, batch), plain(network, batch))


class Deciding(Pair):
    def forward(self, batch: Tensor) -> Tensor:
        return super().forward(batch if batch.sum() > 0 else -batch)


def test_a_network_that_cannot_be_traced_is_scored_as_it_is() -> None:
    network, batch = trained(Deciding()), images(4, channels=3, pixels=8)
    ours, how = compiling.fuse_batch_norm(network)
    assert how == (
        "batch norms not folded, since the network cannot be traced "
        "(TraceError: symbolically traced variables cannot be used as inputs to control flow)"
    )
    assert torch.equal(plain(ours, batch), plain(network, batch))


def test_whether_a_network_is_compiled_depends_on_the_work_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert compiling.least_images(10**9, CPU) == 20_000
    assert compiling.least_images(10**9, Hardware("cpu", "test", "bfloat16", 4, "2")) == 80_000
    assert compiling.least_images(10**9, Hardware("cuda", "test", "bfloat16", 4, "2")) is None
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert compiling.least_images(10**9, CPU) == 20_000
    for hardware, count in ((HALF, 10**9), (CPU, 19_999)):
        _, notes = scoring.prepare(resnet(), hardware, count, (1, 64, 64), 10**9)
        assert notes == []  # nothing that a user could act upon


def test_a_compiler_that_fails_is_said_and_the_network_scores_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(network: nn.Module, **options: object) -> nn.Module:
        def fails(batch: Tensor) -> Tensor:
            raise torch._dynamo.exc.TorchDynamoException("no compiler\nand much more")

        return fails  # type: ignore[return-value]

    monkeypatch.setattr(torch, "compile", no_compiler)
    network, batch = resnet(), images(2)
    ready, notes = scoring.prepare(network, CPU, 20_000, (1, 64, 64), 10**9)
    assert notes[0] == "not compiled, since that fails here (TorchDynamoException: no compiler)"
    [ours] = scoring.probabilities([ready], [batch], CPU)
    assert (ours - plain(network, batch)).abs().max() < 1e-5


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_compiled_networks_keep_their_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "SCORING_BATCH", 4)
    pair = [trained(Pair(), seed) for seed in (1, 2)]
    ready, notes = zip(*[scoring.prepare(one, CPU, 20_000, (3, 16, 16), 10**9) for one in pair], strict=True)
    assert [said[0] for said in notes] == ["compiled", "compiled"]
    batches = [images(4, 3, 16), images(3, 3, 16)]
    for network, ours in zip(pair, scoring.probabilities(ready, batches, CPU), strict=True):
        expected = torch.cat([plain(network, batch) for batch in batches])
        assert (ours - expected).abs().max() < 1e-5


def test_networks_share_one_pass_over_the_images() -> None:
    pair, taken = [resnet(seed=1), resnet(seed=2)], []

    def batches() -> Iterator[Tensor]:
        for batch in images(5).split(2):
            taken.append(len(batch))
            yield batch

    ready = [scoring.prepare(network, CPU, 5, (1, 64, 64), 10**9)[0] for network in pair]
    both = scoring.probabilities(ready, batches(), CPU)
    assert taken == [2, 2, 1]
    for network, ours in zip(pair, both, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - plain(network, images(5))).abs().max() < 1e-5


class Narrow(nn.Module):
    """Has room for so many images; says how many it was shown, and of each its mean."""

    def __init__(self, largest: int) -> None:
        super().__init__()
        self.largest, self.shown = largest, list[int]()

    def forward(self, batch: Tensor) -> Tensor:
        if len(batch) > self.largest:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.shown.append(len(batch))
        mean = batch.mean(dim=(1, 2, 3))
        return torch.stack([mean, -mean], dim=1)


def test_batches_that_do_not_fit_are_halved_for_good_and_nothing_is_scored_twice() -> None:
    network, batch = Narrow(20), images(90)

    def make(start: int, stop: int) -> Tensor:
        return batch[start:stop]

    [ours], size = scoring.score([network], make, 90, CPU, "scoring images")
    assert network.shown == [16, 16, 16, 16, 16, 10]
    assert size == 16
    assert torch.equal(ours, Narrow(90)(batch).softmax(dim=1))
    [roomy], usual = scoring.score([Narrow(64)], make, 90, CPU, "scoring images")
    assert torch.equal(ours, roomy)
    [of_findings], _ = scoring.score([Narrow(64)], make, 90, CPU, "scoring images", multi_label=True)
    assert torch.equal(of_findings, Narrow(90)(batch).sigmoid())
    assert torch.equal(ours, scoring.probabilities([Narrow(20)], batch.split(64), CPU)[0])
    assert [memory.note_smaller_batches(each, 64) for each in (size, usual)] == [
        ["in batches of 16, since memory ran out with larger ones"],
        [],
    ]


def test_where_not_one_image_fits_the_phase_is_named() -> None:
    with pytest.raises(TrainingError) as caught:
        scoring.score([Narrow(0)], lambda start, stop: images(4)[start:stop], 4, CPU, "scoring the test images")
    assert str(caught.value).startswith("memory ran out while scoring the test images, with one image at a time: set")


def test_a_compiler_without_memory_leaves_the_network_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_without_memory(network: nn.Module, **options: object) -> nn.Module:
        return Narrow(0)

    monkeypatch.setattr(torch, "compile", compile_without_memory)
    network = resnet()
    ready, notes = scoring.prepare(network, CPU, 20_000, (1, 64, 64), 10**9)
    assert notes[0] == "not compiled, since memory does not suffice for a whole batch"
    assert (scoring.probabilities([ready], [images(2)], CPU)[0] - plain(network, images(2))).abs().max() < 1e-5


@pytest.mark.parametrize("hardware", [CPU, HALF], ids=["float32", "bfloat16"])
def test_scoring_again_gives_the_same_bits(hardware: Hardware) -> None:
    def once() -> Tensor:
        ready, _ = scoring.prepare(resnet(), hardware, 4, (1, 64, 64), 10**9)
        return scoring.probabilities([ready], [images(4)], hardware)[0]

    assert torch.equal(once(), once())


def test_bfloat16_is_near_float32_with_probabilities_that_sum_to_one() -> None:
    network = resnet()
    ready, _ = scoring.prepare(network, HALF, 4, (1, 64, 64), 10**9)
    [ours] = scoring.probabilities([ready], [images(4)], HALF)
    assert ours.dtype == torch.float32
    assert (ours.sum(dim=1) - 1).abs().max() < 1e-6
    difference = (ours - plain(network, images(4))).abs().max()
    assert 0 < difference < 0.02


def test_predict_loads_neither_fastai_nor_scikit_learn_nor_matplotlib() -> None:
    code = "import sys, xraylab.stages.predict; print({'fastai', 'sklearn', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
