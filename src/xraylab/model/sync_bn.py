"""Batch norm over a batch that several processes share: each normalises its images by the statistics of them all."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from xraylab.errors import TrainingError


class _Sum(torch.autograd.Function):
    """The sum over the processes, which all go on with: so each one's gradient is the sum of theirs."""

    @staticmethod
    def forward(context: Any, local: Tensor) -> Tensor:
        total = local.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class SyncBatchNorm(nn.SyncBatchNorm):
    """torch's, which computes on GPUs alone; on a CPU the same by formula.

    `shared` is false for a batch that every process has whole.
    """

    shared: bool

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        if not self.shared or not self.training:
            return _BatchNorm.forward(self, input)
        result: Tensor = self._over_processes(input)
        return result

    @torch.compiler.disable  # type: ignore[untyped-decorator] # sums over processes are no part of a compiled graph
    def _over_processes(self, images: Tensor) -> Tensor:
        return self._formula(images) if images.device.type == "cpu" else super().forward(images)

    def _formula(self, images: Tensor) -> Tensor:
        dims, shape = [0, *range(2, images.dim())], [1, -1, *[1] * (images.dim() - 2)]
        values = images.float()
        local = values.new_full((), values.numel() / values.shape[1])
        count = _sum(local)
        mean = _sum(values.sum(dims)) / count
        centred = values - mean.view(shape)
        variance = _sum(centred.square().sum(dims)) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        result = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is not None:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        return result.to(images.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def _sum(local: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(local)
    return total


class SyncBatchNormAct(SyncBatchNorm):
    """timm's BatchNormAct2d, with dropout and activation of its own."""

    act: nn.Module
    drop: nn.Module

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        result: Tensor = self.act(self.drop(super().forward(input)))
        return result


def _kinds() -> dict[type[nn.Module], type[SyncBatchNorm]]:
    from timm.layers.norm_act import BatchNormAct2d  # noqa: PLC0415 - takes seconds, and one device needs none of this

    kinds: dict[type[nn.Module], type[SyncBatchNorm]] = dict.fromkeys(
        (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), SyncBatchNorm
    )
    return kinds | {BatchNormAct2d: SyncBatchNormAct}


def convert(network: nn.Module) -> None:
    """Make the network's batch norms such ones in place: whoever holds one of them holds it still.

    Errors: TrainingError for a batch norm of another kind.
    """
    norms = [(name, module) for name, module in network.named_modules() if isinstance(module, _BatchNorm)]
    kinds = _kinds()
    for name, module in norms:
        kind = kinds.get(type(module))
        if kind is None:
            raise TrainingError(
                f"train.sync_bn: {name} is a {type(module).__name__}, which cannot be computed over several devices: "
                "set it to false, or train.devices to 1"
            )
        module.__class__ = kind
        vars(module).update(process_group=None, shared=True)
