"""Phases in which the head alone trains, with every optimizer, and what a moving average makes of them."""

from pathlib import Path

import fits
import pytest
import tiny
import torch
from fits import State
from safetensors.torch import load_file
from timm.utils import ModelEmaV3
from torch import nn

from xraylab.model import networks, optimizers
from xraylab.model.schedules import Phase
from xraylab.train import callbacks
from xraylab.train.averaging import EMA, warmup_decay


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)
    return built()


def built() -> nn.Module:
    torch.manual_seed(0)
    return networks.build("resnet18", classes=2, channels=1, dropout=0.0)


def changed(before: State, after: State) -> set[str]:
    return {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}


BODY = {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}


@pytest.mark.parametrize("optimizer", optimizers.OPTIMIZERS)
@pytest.mark.parametrize("held", [False, True])
def test_what_is_frozen_in_a_phase_stays_the_same_to_the_bit(
    optimizer: str, held: bool, network: nn.Module, tmp_path: Path
) -> None:
    """Also after a phase that trained it; with `held`, a moving average, accumulation, and a part frozen throughout."""
    throughout = {"layer2"} if held else set[str]()
    for name in throughout:
        network.get_submodule(name).requires_grad_(False)
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    cbs = [callbacks.Accumulate(2)] if held else []
    parts = [fits.phase(optimizer, 1, frozen=frozen) for frozen in (True, False, True)]
    first, second, third = fits.fit(tmp_path, parts, network, cbs, ema=0.9 if held else None).trained
    assert changed(start, first) == {"fc"}
    learnt = {name: tensor for name, tensor in second.items() if "running" not in name and "batches" not in name}
    assert changed(first, learnt) == (BODY | {"fc"}) - throughout
    assert changed(second, third) == {"fc"}


@pytest.mark.parametrize("optimizer", optimizers.OPTIMIZERS)
def test_a_frozen_phase_that_was_stopped_goes_on_to_the_same_bits(
    optimizer: str, network: nn.Module, tmp_path: Path
) -> None:
    def parts() -> list[Phase]:
        return [fits.phase(optimizer, 2, frozen=frozen) for frozen in (False, True)]

    whole = fits.fit(tmp_path / "whole", parts(), network, ema=0.99).run
    for stop in (1, 2, None):
        stopped = fits.fit(tmp_path / "stopped", parts(), built(), ema=0.99, stop=stop).run
    assert stopped.rows == whole.rows
    for epoch in range(4):
        assert stopped.weights(epoch).read_bytes() == whole.weights(epoch).read_bytes()


def test_a_moving_average_warms_up_as_timms(network: nn.Module) -> None:
    ours, theirs = EMA(network, 0.9), ModelEmaV3(network, decay=0.9, use_warmup=True)
    drawn = torch.Generator().manual_seed(0)
    for step in range(1, 41):
        with torch.no_grad():
            for tensor in network.state_dict().values():
                tensor.add_(torch.randn(tensor.shape, generator=drawn).to(tensor.dtype))
        ours.after_step()
        theirs.update(network, step=step)
        assert warmup_decay(0.9, step - 1) == pytest.approx(theirs.get_decay(step), abs=1e-12)
    assert warmup_decay(0.9, 39) == 0.9
    for name, tensor in theirs.module.state_dict().items():
        torch.testing.assert_close(ours.average.module.state_dict()[name], tensor, rtol=1e-5, atol=1e-5)


def test_a_slow_average_leaves_the_weights_that_a_run_began_with(network: nn.Module, tmp_path: Path) -> None:
    """After 25 steps or so, where an average without warm-up would be the initial network to within 3 %."""
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fitted = fits.fit(tmp_path, [fits.phase("sgd", 8, frozen=False, lr=0.05)], network, ema=0.999)
    average = load_file(fitted.run.weights(7))
    trained = fitted.trained[-1]
    moved, way = ((state["fc.1.weight"] - start["fc.1.weight"]).norm() for state in (average, trained))
    assert moved > way / 2
    assert fitted.rows[-1]["valid_accuracy"] == 1
