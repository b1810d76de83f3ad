"""Callbacks of a training step: seeds, penalties, mixing, accumulation, freezing, precision.

None of it keeps anything from one epoch to the next but what `state` returns, which is part of a run's state: that is
what makes a stopped run go on to the same bits.
"""

import random
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from fastai.callback.core import Callback, CancelBatchException
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from xraylab.data.dataloaders import epoch_seed
from xraylab.model import compiling, distributed, features, losses
from xraylab.model.hardware import Hardware, in_memory_format, memory_format
from xraylab.train.averaging import UpdateBatchNorm

FINDER_EPOCH = 2**31  # numbers the learning rate finder's draws apart from those of any epoch

# fastai carries no types, so to mypy each callback subclasses Any: hence the ignores below


@runtime_checkable
class Stateful(Protocol):
    """A callback that carries something from one batch to the next, which is part of a run's state."""

    saved_as: str

    def state(self) -> dict[str, Any]: ...

    def load(self, state: dict[str, Any]) -> None: ...


class Reproducible(Callback):  # type: ignore[misc]
    """Makes every epoch's random numbers a function of (seed, epoch), so that a resumed run draws the same ones.

    The loader draws its images by the same rule. A learning rate finder leaves epochs and states as they were.
    """

    def before_fit(self) -> None:
        if hasattr(self.learn, "lr_finder"):
            self.snapshot = self.dls.train.epoch, {each: each.state() for each in stateful(self.learn)}
            self.dls.train.epoch = FINDER_EPOCH

    def before_train(self) -> None:
        seed = epoch_seed(self.dls.train.seed, self.dls.train.epoch)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)

    def after_fit(self) -> None:
        if hasattr(self.learn, "lr_finder"):
            self.dls.train.epoch, states = self.snapshot
            for callback, state in states.items():
                callback.load(state)


def stateful(learn: Any) -> list[Stateful]:
    """The Learner's callbacks that carry something from one batch to the next."""
    return [callback for callback in learn.cbs if isinstance(callback, Stateful)]


class L2Penalty(Callback):  # type: ignore[misc]
    """Adds the penalty to what is differentiated; the recorded loss stays without it."""

    order, run_valid = 5, False

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def after_loss(self) -> None:
        self.learn.loss_grad = self.loss_grad + losses.l2_penalty(self.model.parameters(), self.strength)


class Mix(Callback):  # type: ignore[misc]
    """Mixes each training batch with itself in another order, and its loss in the same shares.

    The larger share is the image's own, whose label the accuracy looks at. The share is drawn once a batch, from
    Beta(alpha, alpha). `mixed`, one of the functions below, makes a batch of two, and says the first one's share in it.
    Targets of findings are numbers and mixed themselves; what either image does not know the mixed one does not.

    fastai's MixUp and CutMix put a loss of their own in the place of `loss_func`, whose class weights `Accumulate` and
    the losses over sources ask for, and draw from torch's generator, so that published runs would come out otherwise.
    """

    order, run_valid = -1, False

    def __init__(self, mixed: Callable[[Tensor, Tensor, float], tuple[Tensor, float]], alpha: float) -> None:
        self.mixed, self.alpha = mixed, alpha

    def before_batch(self) -> None:
        (images,), (labels,) = self.xb, self.yb
        order = torch.from_numpy(np.random.permutation(len(labels))).to(labels.device)
        share = np.random.beta(self.alpha, self.alpha)
        partners = images[order] if len(images) == len(labels) else _partners(images, order)
        mixed, self.share = self.mixed(images, partners, max(share, 1 - share))
        self.learn.xb, self.partner_labels = (mixed,), labels[order]
        if labels.is_floating_point():
            self.learn.yb = (torch.lerp(self.partner_labels, labels, self.share),)

    def after_loss(self) -> None:
        if self.partner_labels.is_floating_point():
            return
        other = self.loss_func(self.pred, self.partner_labels)
        self.learn.loss_grad = torch.lerp(other, self.loss_grad, self.share)
        self.learn.loss = self.loss_grad.detach().clone()


def _partners(images: Tensor, order: Tensor) -> Tensor:
    """The whole batch in another order, where several processes share it: this one's part of that."""
    partners = distributed.gather(images, len(order))[order[distributed.part(len(order))]]
    return torch.empty_like(images).copy_(partners)  # in the layout of the images


def mixup(images: Tensor, partners: Tensor, share: float) -> tuple[Tensor, float]:
    """Every pixel is a mean of the two images: Zhang et al. 2018, arXiv:1710.09412."""
    return torch.lerp(partners, images, share), share


def cutmix(images: Tensor, partners: Tensor, share: float) -> tuple[Tensor, float]:
    """A rectangle of the image is the other image's: Yun et al. 2019, arXiv:1905.04899."""
    height, width = images.shape[-2:]
    half = (1 - share) ** 0.5 / 2
    y, x = np.random.random(2)
    top, bottom = (int(np.clip(round((y + side) * height), 0, height)) for side in (-half, half))
    left, right = (int(np.clip(round((x + side) * width), 0, width)) for side in (-half, half))
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = partners[..., top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


class Accumulate(Callback):  # type: ignore[misc]
    """Accumulate gradients over batches: a step has the gradient of the (weighted) mean over their images.

    Of several findings it is the mean over all entries that count, wherever they are.

    An epoch's last step takes what is left. How much the images of a step weigh is known only once all are seen: until
    then each counts as one, and the gradient is put right before the step. fastai's GradientAccumulation carries
    gradients over to the next epoch, which an interrupted run would lose.
    """

    order, run_valid = 10, False  # after the penalty has joined the loss, before gradients are bounded

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def before_train(self) -> None:
        size = self.dls.train.bs
        images = min(self.dls.train.n, len(self.dls.train) * size)
        self.remaining, self.group = images, self.batches * size

    def after_loss(self) -> None:
        if self.iter % self.batches == 0:
            self.step_images = min(self.remaining, self.group)
            self.weight: Tensor | float = 0
        self.remaining -= len(self.yb[0])
        weight = losses.divisor(self.loss_func, self.yb[0])
        self.weight = self.weight + weight
        self.learn.loss_grad = self.loss_grad * (weight / self.step_images)

    def before_step(self) -> None:
        if (self.iter + 1) % self.batches and self.iter + 1 < self.n_iter:
            raise CancelBatchException
        if isinstance(self.weight, Tensor):
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            factor = torch.where(self.weight > 0, self.step_images / self.weight, 0)  # 0: nothing to learn from
            torch._foreach_mul_(gradients, factor)


class FreezeModules(Callback):  # type: ignore[misc]
    """Freezes modules: their weights and their batch norm statistics."""

    def __init__(self, modules: list[nn.Module]) -> None:
        self.modules = modules

    def before_fit(self) -> None:
        parameters = (p for module in self.modules for p in module.parameters())
        self.trained = [p for p in parameters if p.requires_grad]  # some may be frozen throughout
        self._require_gradients(False)

    def before_train(self) -> None:
        for module in self.modules:
            module.eval()

    def after_fit(self) -> None:
        self._require_gradients(True)

    def _require_gradients(self, required: bool) -> None:
        for parameter in self.trained:
            parameter.requires_grad_(required)


class FreezeBatchNorm(Callback):  # type: ignore[misc]
    """Keeps modules whose weights are frozen in evaluation mode; with `adapt` their batch norms go on learning.

    fastai's `unfreeze`, as in `fine_tune`, does not thaw them.
    """

    def __init__(self, modules: list[nn.Module], adapt: bool) -> None:
        self.modules, self.adapt = modules, adapt
        self.frozen = [p for module in modules for p in module.parameters() if not p.requires_grad]

    def before_fit(self) -> None:
        for parameter in self.frozen:
            parameter.requires_grad_(False)

    def before_train(self) -> None:
        for module in self.modules:
            module.eval()
            for part in module.modules():
                if self.adapt and isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.train()


class FrozenBackbone(Callback):  # type: ignore[misc]
    """Replaces images by the frozen backbone's output, with fused batch norms, as in cached features."""

    order = 1  # within Autocast

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone, _ = compiling.fuse_batch_norm(backbone)

    def before_fit(self) -> None:
        device = torch.device(self.dls.device)
        self.backbone.to(memory_format=memory_format(device.type)).to(device)

    def before_batch(self) -> None:
        self.learn.xb = (features.run_backbone(self.backbone, *self.xb),)


class Autocast(Callback):  # type: ignore[misc]
    """Forward pass and loss in the chosen precision, weights and predictions in float32.

    fastai's MixedPrecision works on CUDA alone and says nothing elsewhere.
    """

    def __init__(self, hardware: Hardware) -> None:
        self.hardware, self.open = hardware, ExitStack()

    def before_batch(self) -> None:
        self.learn.xb = tuple(in_memory_format(images, self.hardware.device) for images in self.xb)
        self.open.enter_context(self.hardware.autocast())

    def after_pred(self) -> None:
        self.learn.pred = self.pred.float()

    def after_loss(self) -> None:
        self.open.close()


class KeepStatistics(Callback):  # type: ignore[misc]
    """Leaves batch norm statistics as the forward pass left them, where the backward pass computes blocks once more.

    Such a norm computes and saves for its gradient what it did before, but moves its statistics by nothing.
    """

    order = 90  # once everything else is ready for the backward pass

    def __init__(self) -> None:
        self.open = ExitStack()

    def before_fit(self) -> None:
        self.open.close()  # where an error ended a backward pass

    def before_backward(self) -> None:
        for norm in self.model.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.training and norm.track_running_stats:
                self.open.callback(self._restore, norm, norm.momentum, norm.num_batches_tracked)
                norm.momentum, norm.num_batches_tracked = 0.0, None

    def after_backward(self) -> None:
        self.open.close()

    @staticmethod
    def _restore(norm: nn.modules.batchnorm._BatchNorm, momentum: float | None, batches: Tensor | None) -> None:
        norm.momentum, norm.num_batches_tracked = momentum, batches


class CompiledSteps(Callback):  # type: ignore[misc]
    """Lets a compiled network compute the full batches of training, and itself uncompiled all others.

    For an epoch's last batch, for scoring and for the statistics of averages it would be compiled anew, for little.
    """

    def __init__(self) -> None:
        self.open = ExitStack()

    def before_fit(self) -> None:
        self.steps = not any(isinstance(callback, UpdateBatchNorm) for callback in self.learn.cbs)

    def before_batch(self) -> None:
        self.open.close()  # where an error ended the last one
        if not (self.steps and self.training and len(self.yb[0]) == self.dls.train.bs):
            self.open.enter_context(torch.compiler.set_stance("force_eager"))

    def after_batch(self) -> None:
        self.open.close()


class LossScaling(Callback):  # type: ignore[misc]
    """Differentiates the loss times a scale, so that float16 holds the small gradients too; a step sees the true ones.

    Where they overflow there is no step at all, and the next one has half the scale (Micikevicius et al., "Mixed
    precision training", ICLR 2018).
    """

    order, run_valid = 10.5, False  # after batches have accumulated, before gradients are bounded
    saved_as = "loss_scaling"

    def __init__(self, device: str) -> None:
        self.scaler = GradScaler(device)

    def before_backward(self) -> None:
        self.learn.loss_grad = self.scaler.scale(self.loss_grad)

    def before_step(self) -> None:
        step = _Step(self.model.parameters())
        self.scaler.step(step)  # type: ignore[arg-type]  # it needs no more of an optimizer than that
        self.scaler.update()
        if not step.applied:
            self.opt.zero_grad()
            raise CancelBatchException  # after CancelStepException, fastai would say that there was a step

    def state(self) -> dict[str, Any]:
        return dict(self.scaler.state_dict())

    def load(self, state: dict[str, Any]) -> None:
        self.scaler.load_state_dict(state)


class _Step:
    """An optimizer for the scaler, which unscales the gradients and then calls `step` or not."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.param_groups = [{"params": list(parameters)}]
        self.applied = False

    def step(self) -> None:
        self.applied = True
