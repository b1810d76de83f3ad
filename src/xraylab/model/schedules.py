"""A training run as explicit phases, each with its own learning rates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from fastai.callback.schedule import combined_cos
from fastai.torch_core import even_mults

Curve = Callable[[float], object]

# fastai's one-cycle policy (Smith 2018, arXiv:1803.09820): a rise over the first quarter, momentum the other way round
ONE_CYCLE_RISE, START_DIVISOR, END_DIVISOR = 0.25, 25.0, 1e5
MOMENTUM = (0.95, 0.85, 0.95)
# fastai's fine_tune: the head alone rises nearly to the end; then half the rate, a rise over 30 % from a fifth
FROZEN_RISE, UNFROZEN_RISE, UNFROZEN_START_DIVISOR = 0.99, 0.3, 5.0


@dataclass(frozen=True)
class Phase:
    """`epochs` epochs under `curves`: hyperparameter -> its value at a fraction of the phase from 0 to 1.

    The schedules below make phases; `groups` is the number of parts of the network with rates of their own, and
    `cycle_momentum` lets a cycle move Adam's first beta, which is not a parameter, as fastai does.
    """

    name: str
    epochs: int
    frozen: bool
    curves: dict[str, Curve]


def constant(epochs: int, lr: float, groups: int, cycle_momentum: bool) -> list[Phase]:
    """One rate throughout."""
    return [Phase("constant", epochs, frozen=False, curves={"lr": lambda _: lr})]


def one_cycle(epochs: int, lr: float, groups: int, cycle_momentum: bool) -> list[Phase]:
    """A rise to `lr` and a long fall, by cosines."""
    curves = _cycle(ONE_CYCLE_RISE, [lr] * groups, START_DIVISOR, cycle_momentum)
    return [Phase("one_cycle", epochs, frozen=False, curves=curves)]


def fine_tune(
    epochs: int, lr: float, groups: int, cycle_momentum: bool, freeze_epochs: int, lr_mult: float
) -> list[Phase]:
    """The head alone, then all, where the first layers learn at half of lr / `lr_mult` and the head at half of `lr`."""
    half = lr / 2
    rates = even_mults(half / lr_mult, half, groups)
    head = _cycle(FROZEN_RISE, [lr] * groups, START_DIVISOR, cycle_momentum)
    whole = _cycle(UNFROZEN_RISE, rates, UNFROZEN_START_DIVISOR, cycle_momentum)
    return [
        Phase("frozen", freeze_epochs, frozen=True, curves=head),
        Phase("unfrozen", epochs, frozen=False, curves=whole),
    ]


SCHEDULES: dict[str, Callable[..., list[Phase]]] = {
    "constant": constant,
    "one_cycle": one_cycle,
    "fine_tune": fine_tune,
}


def _cycle(rise: float, rates: Sequence[float], start_divisor: float, cycle_momentum: bool) -> dict[str, Curve]:
    """Learning rates, one per part of the network, and, unless it is a parameter, momentum, over a phase."""
    peak = np.array(rates)
    lr = combined_cos(rise, peak / start_divisor, peak, peak / END_DIVISOR)
    curves: dict[str, Curve] = {"lr": lambda fraction: lr(fraction).tolist()}
    return curves | {"mom": combined_cos(rise, *MOMENTUM)} if cycle_momentum else curves
