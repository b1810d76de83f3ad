"""Averages of weights: a moving one along with the training, and means of several epochs at its end."""

from pathlib import Path
from typing import Any

import torch
from fastai.callback.core import Callback, CancelBatchException
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from xraylab.model import weights

Tensors = tuple[Tensor, ...] | list[Tensor]
WARMUP_POWER = 2 / 3  # timm's

# fastai carries no types, so to mypy each callback subclasses Any: hence the ignores below


def warmup_decay(decay: float, updates: int) -> float:
    """The decay after so many updates, 0 before the first: as timm's ModelEmaV3 warms up, with its gamma and power.

    The average follows the network closely at first, or it would hold on to the weights that the run began with.
    """
    return min(decay, 1 - float((1 + updates) ** -WARMUP_POWER))


class EMA(Callback):  # type: ignore[misc]
    """Keeps an exponential moving average of weights and statistics, which is what is scored and kept.

    The network itself goes on training; `trained` is that network. The number of updates is part of the state. Where
    weights are loaded, as by fastai's SaveModelCallback, the average begins anew with these.
    """

    saved_as = "average"
    order = 80  # the average steps in before anything is scored, and back only after it is kept

    def __init__(self, trained: nn.Module, decay: float) -> None:
        self.trained, self.decay = trained, decay
        self.average = AveragedModel(trained, multi_avg_fn=self._move, use_buffers=True)
        self.checksum = self._sum()

    def before_fit(self) -> None:
        self.run = not hasattr(self.learn, "lr_finder")  # whose steps are taken back

    def after_step(self) -> None:
        self.average.update_parameters(self.trained)

    @torch.no_grad()
    def _move(self, averages: Tensors, currents: Tensors, _: Tensor | int) -> None:
        if averages[0].is_floating_point():
            decay = warmup_decay(self.decay, int(self.average.n_averaged))
            torch._foreach_lerp_(averages, currents, 1 - decay)
        else:
            torch._foreach_copy_(averages, currents)  # counters

    def before_train(self) -> None:
        self.learn.model = self.trained  # also where an error ended the last epoch within its validation

    def after_train(self) -> None:
        self.checksum = self._sum()

    def before_validate(self) -> None:
        if self._sum() != self.checksum:
            self.average.module.load_state_dict(self.trained.state_dict())
            self.average.n_averaged.zero_()
        self.learn.model = self.average.module.eval()

    def after_epoch(self) -> None:
        self.learn.model = self.trained

    def _sum(self) -> float:
        return float(torch.stack([p.detach().double().sum() for p in self.trained.parameters()]).sum())

    def state(self) -> dict[str, Any]:
        return dict(self.average.state_dict())

    def load(self, state: dict[str, Any]) -> None:
        self.average.load_state_dict(state)


def mean(files: list[Path]) -> dict[str, Tensor]:
    """The mean of each tensor over the files, computed in float64; whole numbers are the first file's."""
    states = [weights.read(file) for file in files]
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(first.dtype)
        if first.is_floating_point()
        else first
        for name, first in states[0].items()
    }


class UpdateBatchNorm(Callback):  # type: ignore[misc]
    """Shows the training images once without a step: batch norm statistics become the averaged network's own.

    As torch's `update_bn`: the plain mean over the epoch's batches. Batch norms that are frozen keep theirs.
    """

    order = 3  # once everything that is frozen is held still

    def before_train(self) -> None:
        norms = [module for module in self.model.modules() if isinstance(module, _BatchNorm) and module.training]
        self.momenta = {norm: norm.momentum for norm in norms}
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None

    def before_backward(self) -> None:
        raise CancelBatchException

    def after_train(self) -> None:
        for norm, momentum in self.momenta.items():
            norm.momentum = momentum
