"""Averages of the weights of several epochs, as one more epoch that is scored like the others."""

from pathlib import Path

import torch
from fastai.callback.core import Callback, CancelBatchException
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from xraylab.model import weights

# fastai carries no types, so to mypy each callback subclasses Any: hence the ignores below


def mean(files: list[Path]) -> dict[str, Tensor]:
    """The mean of each tensor over the files, computed in float64; whole numbers are the first file's."""
    states = [weights.read(file) for file in files]
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(first.dtype)
        if first.is_floating_point()
        else first
        for name, first in states[0].items()
    }


class Refresh(Callback):  # type: ignore[misc]
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
