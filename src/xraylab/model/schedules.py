"""A training run as explicit phases, each with its own learning rates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastai.callback.schedule import combined_cos
from fastai.torch_core import even_mults

Curve = Callable[[float], object]

# fastai's one-cycle policy (Smith 2018, arXiv:1803.09820): a rise over the first quarter, momentum the other way round
ONE_CYCLE_RISE, START_DIVISOR, END_DIVISOR = 0.25, 25.0, 1e5
MOMENTUM = (0.95, 0.85, 0.95)
# fastai's fine_tune: the head alone rises nearly to the end; then half the rate, a rise over 30 % from a fifth
FROZEN_RISE, UNFROZEN_RISE, UNFROZEN_START_DIVISOR = 0.99, 0.3, 5.0
ROUNDING = 1e-6  # of an epoch: fractions of a phase are sums of floats


@dataclass(frozen=True)
class Plateau:
    """The rate is `lr` times `factor` for every time that `patience` epochs in a row brought no lower loss."""

    lr: float
    patience: int
    factor: float

    def rate(self, losses: Sequence[float]) -> float:
        """After epochs of the phase that ended with these losses; counted as fastai's ReduceLROnPlateau counts."""
        rate, lowest, waited = self.lr, np.inf, 0
        for loss in losses:
            lowest, waited = (loss, 0) if loss < lowest else (lowest, waited + 1)
            if waited == self.patience:
                rate, waited = rate * self.factor, 0
        return rate


@dataclass(frozen=True)
class Phase:
    """`epochs` epochs under `curves`: hyperparameter -> its value at a fraction of the phase from 0 to 1.

    The schedules below make phases; `groups` is the number of parts of the network with rates of their own, and
    `cycle_momentum` lets a cycle move Adam's first beta, which is not a parameter, as fastai does. With a `plateau` the
    rate follows the losses instead.
    """

    name: str
    epochs: int
    frozen: bool
    curves: dict[str, Curve]
    plateau: Plateau | None = None
    opt_func: Callable[..., Any] | None = None
    """Makes the optimizer that the phase begins with."""


def constant(epochs: int, lr: float, groups: int, cycle_momentum: bool) -> list[Phase]:
    """One rate throughout."""
    return [Phase("constant", epochs, frozen=False, curves={"lr": lambda _: lr})]


def one_cycle(epochs: int, lr: float, groups: int, cycle_momentum: bool) -> list[Phase]:
    """A rise to `lr` and a long fall, by cosines."""
    curves = _cycle(ONE_CYCLE_RISE, [lr] * groups, START_DIVISOR, cycle_momentum)
    return [Phase("one_cycle", epochs, frozen=False, curves=curves)]


def flat_cos(epochs: int, lr: float, groups: int, cycle_momentum: bool, pct_start: float) -> list[Phase]:
    """`lr` for so much of the phase, then a fall to nearly nothing by a cosine: fastai's fit_flat_cos."""
    curves: dict[str, Curve] = {"lr": combined_cos(pct_start, lr, lr, lr / END_DIVISOR)}
    return [Phase("flat_cos", epochs, frozen=False, curves=curves)]


def cosine_restarts(
    epochs: int, lr: float, groups: int, cycle_momentum: bool, cycle_len: int, cycle_mult: int
) -> list[Phase]:
    """Falls from `lr` to 0 by cosines, each `cycle_mult` times as long as the one before.

    Loshchilov & Hutter 2017, arXiv:1608.03983. The last is cut off where the epochs end.
    """

    def rate(fraction: float) -> float:
        start, length = 0, cycle_len
        epoch = fraction * epochs + ROUNDING
        while epoch >= start + length:
            start, length = start + length, length * cycle_mult
        return float(lr * (1 + np.cos(np.pi * max(epoch - ROUNDING - start, 0) / length)) / 2)

    return [Phase("cosine_restarts", epochs, frozen=False, curves={"lr": rate})]


def step(
    epochs: int, lr: float, groups: int, cycle_momentum: bool, decay_epochs: int, decay_rate: float
) -> list[Phase]:
    """The rate times `decay_rate` after each `decay_epochs` epochs."""

    def rate(fraction: float) -> float:
        return lr * decay_rate ** int((fraction * epochs + ROUNDING) // decay_epochs)

    return [Phase("step", epochs, frozen=False, curves={"lr": rate})]


def plateau(
    epochs: int, lr: float, groups: int, cycle_momentum: bool, patience_epochs: int, decay_rate: float
) -> list[Phase]:
    """The rate times `decay_rate` whenever `patience_epochs` epochs in a row brought no lower loss."""
    follow = Plateau(lr, patience_epochs, decay_rate)
    return [Phase("plateau", epochs, frozen=False, curves={}, plateau=follow)]


def fine_tune(
    epochs: int, lr: float, groups: int, cycle_momentum: bool, freeze_epochs: int, lr_mult: float
) -> list[Phase]:
    """The head alone, then all, where the first layers learn at half of lr / `lr_mult` and the head at half of `lr`."""
    half = lr / 2
    rates = even_mults(half / lr_mult, half, groups)
    head = _cycle(FROZEN_RISE, [lr] * groups, START_DIVISOR, cycle_momentum)
    everything = _cycle(UNFROZEN_RISE, rates, UNFROZEN_START_DIVISOR, cycle_momentum)
    return [
        Phase("frozen", freeze_epochs, frozen=True, curves=head),
        Phase("unfrozen", epochs, frozen=False, curves=everything),
    ]


SCHEDULES: dict[str, Callable[..., list[Phase]]] = {
    "constant": constant,
    "one_cycle": one_cycle,
    "flat_cos": flat_cos,
    "cosine_restarts": cosine_restarts,
    "step": step,
    "plateau": plateau,
    "fine_tune": fine_tune,
}


def _cycle(rise: float, rates: Sequence[float], start_divisor: float, cycle_momentum: bool) -> dict[str, Curve]:
    """Learning rates, one per part of the network, and, unless it is a parameter, momentum, over a phase."""
    peak = np.array(rates)
    lr = combined_cos(rise, peak / start_divisor, peak, peak / END_DIVISOR)
    curves: dict[str, Curve] = {"lr": lambda fraction: lr(fraction).tolist()}
    return curves | {"mom": combined_cos(rise, *MOMENTUM)} if cycle_momentum else curves
