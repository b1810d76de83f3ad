"""Schedules, optimizers and losses, each against another's own."""

import numpy as np
import pytest
import torch
from fastai.losses import FocalLossFlat
from optimization import fastai_rates, one_step, our_rates
from torch import nn
from torch.optim import lr_scheduler

from xraylab.model import losses, optimizers, schedules


def by_torch(make: object, epochs: int, batches: int = 1) -> list[float]:
    """The rates that a scheduler of torch's sets, before each of its steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = make(optimizer)
    rates = []
    for step in range(epochs * batches):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step((step + 1) / batches) if batches > 1 else scheduler.step()
    return rates


@pytest.mark.parametrize("name", sorted({*schedules.SCHEDULES} - {"fine_tune"}))
def test_a_schedule_of_one_phase_trains_all_layers_in_it(name: str) -> None:
    options = {
        "flat_cos": {"pct_start": 0.75}, "cosine_restarts": {"cycle_len": 2, "cycle_mult": 1},
        "step": {"decay_epochs": 3, "decay_rate": 0.5}, "plateau": {"patience_epochs": 2, "decay_rate": 0.5},
    }  # fmt: skip
    (phase,) = schedules.SCHEDULES[name](4, 0.01, 3, True, **options.get(name, {}))
    assert (phase.name, phase.epochs, phase.frozen) == (name, 4, False)
    assert phase.plateau == (schedules.Plateau(0.01, 2, 0.5) if name == "plateau" else None)


def test_a_constant_rate_is_the_rate_throughout() -> None:
    (phase,) = schedules.constant(4, 0.01, 3, cycle_momentum=True)
    assert [phase.curves["lr"](fraction) for fraction in (0.0, 0.5, 1.0)] == [0.01] * 3


def test_flat_cos_is_fastais() -> None:
    theirs = fastai_rates("fit_flat_cos", n_epoch=4, lr=0.01)
    ours = our_rates(schedules.flat_cos(4, 0.01, 3, cycle_momentum=True, pct_start=0.75), batches=4)
    np.testing.assert_allclose(ours["lr"], [rates[-1] for rates in theirs["lr"]], rtol=1e-5)


def test_a_fall_ends_at_fastais_fraction_of_the_rate() -> None:
    (phase,) = schedules.flat_cos(4, 0.01, 3, cycle_momentum=True, pct_start=0.75)
    assert phase.curves["lr"](1.0) == pytest.approx(0.01 / 1e5, rel=1e-6, abs=0)


@pytest.mark.parametrize("mult", [1, 2])
def test_cosine_restarts_are_torchs(mult: int) -> None:
    theirs = by_torch(lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=2, T_mult=mult), 9, batches=5)
    ours = our_rates(schedules.cosine_restarts(9, 0.1, 3, True, cycle_len=2, cycle_mult=mult), batches=5)
    np.testing.assert_allclose(ours["lr"], theirs, atol=1e-6)


def test_step_decay_is_torchs() -> None:
    theirs = by_torch(lambda o: lr_scheduler.StepLR(o, step_size=3, gamma=0.5), 10)
    ours = our_rates(schedules.step(10, 0.1, 3, True, decay_epochs=3, decay_rate=0.5), batches=3)
    np.testing.assert_allclose(ours["lr"][::3], theirs, rtol=1e-12)
    np.testing.assert_allclose(ours["lr"][2::3], theirs, rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_reduce_on_plateau_is_torchs_which_counts_from_one_less(seed: int) -> None:
    shown = np.random.default_rng(seed).random(30).tolist()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2, threshold=0, eps=0)
    ours = schedules.Plateau(0.1, patience=3, factor=0.5)
    for epoch in range(30):
        assert ours.rate(shown[:epoch]) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        theirs.step(shown[epoch])


def test_fastais_optimizers_decay_apart_from_the_gradient() -> None:
    """RAdam's first steps are momentum alone, with dampening: (1 - 0.95) times the gradient."""
    assert one_step("ranger") == pytest.approx(1 - 0.01 * 0.1 - 0.01 * 0.2, rel=1e-5)
    assert one_step("rmsprop", momentum=0.0) == pytest.approx(1 - 0.01 * 0.3 / np.sqrt(0.01 * 0.3**2), rel=1e-4)
    norm = 1 - 0.01 * 0.1  # of the decayed weight; the step's is 1, and LAMB's ratio of the two is the step
    assert one_step("lamb") == pytest.approx(norm * (1 - 0.01), rel=1e-4)


def test_adafactor_keeps_momentum_in_16_bits_and_means_of_squares() -> None:
    """Its first step by hand: the gradient over the root of the factored squares, a tenth of it, in bfloat16."""
    torch.manual_seed(0)
    weight, bias = nn.Parameter(torch.randn(32, 48)), nn.Parameter(torch.randn(32))
    before, grad = weight.detach().clone(), torch.randn(32, 48)
    opt = optimizers.factory("adafactor", weight_decay=0.1, momentum=None)([[weight], [bias]], lr=0.01)
    weight.grad, bias.grad = grad, torch.randn(32)
    opt.step()
    squares = grad.square()
    factored = squares.mean(dim=1, keepdim=True) * squares.mean(dim=0, keepdim=True) / squares.mean()
    momentum = (0.1 * grad / factored.sqrt()).bfloat16().float()
    torch.testing.assert_close(weight.detach(), before * (1 - 0.01 * 0.1) - 0.01 * momentum, rtol=1e-2, atol=2e-5)
    state = opt.opt.state[weight]
    assert {name: (tensor.dtype, tensor.numel()) for name, tensor in state.items() if name != "step"} == {
        "exp_avg": (torch.bfloat16, 32 * 48),
        "exp_avg_sq_r": (torch.float32, 32),
        "exp_avg_sq_c": (torch.float32, 48),
    }
    again = optimizers.factory("adafactor", weight_decay=0.1, momentum=None)([[weight], [bias]], lr=0.01)
    again.load_state_dict(optimizers.state(opt))  # torch's own way makes it float32
    loaded = again.opt.state[weight]
    assert all(loaded[name].dtype == state[name].dtype and torch.equal(loaded[name], state[name]) for name in state)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_an_optimizers_state_is_plain_and_goes_on_where_it_was(name: str, tmp_path: object) -> None:
    def steps(count: int, p: nn.Parameter, opt: object, first: int = 0) -> None:
        for number in range(first, first + count):
            p.grad = torch.tensor([0.1, -0.2]) * (number + 1)
            opt.step()

    momentum = 0.9 if name in {"sgd", "rmsprop"} else None
    make = optimizers.factory(name, weight_decay=0.01, momentum=momentum)
    whole, half = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    steps(10, whole, make([[whole], []], lr=0.01))
    first = make([[half], []], lr=0.01)
    steps(5, half, first)
    torch.save(optimizers.state(first), tmp_path / "state.pt")
    second = make([[half], []], lr=0.01)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    steps(5, half, second, first=5)
    assert torch.equal(half, whole)


LOGITS = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(20) % 3


def test_the_focal_loss_is_fastais_without_weights_and_cross_entropy_without_gamma() -> None:
    theirs = FocalLossFlat(gamma=2.0)(LOGITS, LABELS)
    torch.testing.assert_close(losses.focal(None, 2.0)(LOGITS, LABELS), torch.as_tensor(theirs))
    weights = torch.tensor([1.0, 2.0, 0.5])
    plain = losses.cross_entropy(weights, 0.0)(LOGITS, LABELS)
    torch.testing.assert_close(losses.focal(weights, 0.0)(LOGITS, LABELS), plain)


def test_weights_of_the_focal_loss_do_not_enter_the_probability() -> None:
    p = LOGITS.softmax(dim=1)[torch.arange(20), LABELS].double()
    weights = torch.tensor([1.0, 2.0, 0.5])
    w = weights[LABELS].double()
    expected = (w * (1 - p) ** 2 * -p.log()).sum() / w.sum()
    assert losses.focal(weights, 2.0)(LOGITS, LABELS).item() == pytest.approx(expected.item(), rel=1e-5)


def test_label_smoothing_gives_every_class_a_share() -> None:
    target = torch.full((20, 3), 0.1 / 3).scatter_(1, LABELS[:, None], 0.9 + 0.1 / 3)
    expected = -(target * LOGITS.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(losses.cross_entropy(None, 0.1)(LOGITS, LABELS), expected)
