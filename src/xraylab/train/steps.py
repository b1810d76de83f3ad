"""What a training step may do besides: mixed images, several batches a step, bounded gradients, averaged weights.

None of it keeps anything from one epoch to the next but the average, which is part of a run's state: that is what makes
a stopped run go on to the same bits. fastai's GradientAccumulation carries gradients over, so it is not used.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from fastai.callback.core import Callback, CancelBatchException
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from xraylab.data.sampling import EpochSampler
from xraylab.model import losses

Tensors = tuple[Tensor, ...] | list[Tensor]

# fastai carries no types, so to mypy each callback subclasses Any: hence the ignores below


class Mix(Callback):  # type: ignore[misc]
    """Mixes each training batch with itself in another order, and its loss in the same shares.

    The larger share is the image's own, whose label the accuracy looks at. The share is drawn once a batch, from
    Beta(alpha, alpha). `mixed`, one of the functions below, makes a batch of two, and says the first one's share in it.
    """

    order, run_valid = -1, False

    def __init__(self, mixed: Callable[[Tensor, Tensor, float], tuple[Tensor, float]], alpha: float) -> None:
        self.mixed, self.alpha = mixed, alpha

    def before_batch(self) -> None:
        (images,), (labels,) = self.xb, self.yb
        order = torch.from_numpy(np.random.permutation(len(labels))).to(labels.device)
        share = np.random.beta(self.alpha, self.alpha)
        mixed, self.share = self.mixed(images, images[order], max(share, 1 - share))
        self.learn.xb, self.others = (mixed,), labels[order]

    def after_loss(self) -> None:
        other = self.loss_func(self.pred, self.others)
        self.learn.loss_grad = torch.lerp(other, self.loss_grad, self.share)
        self.learn.loss = self.loss_grad.detach().clone()


def mixup(images: Tensor, others: Tensor, share: float) -> tuple[Tensor, float]:
    """Every pixel is a mean of the two images: Zhang et al. 2018, arXiv:1710.09412."""
    return torch.lerp(others, images, share), share


def cutmix(images: Tensor, others: Tensor, share: float) -> tuple[Tensor, float]:
    """A rectangle of the image is the other image's: Yun et al. 2019, arXiv:1905.04899."""
    height, width = images.shape[-2:]
    half = (1 - share) ** 0.5 / 2
    y, x = np.random.random(2)
    top, bottom = (int(np.clip(round((y + side) * height), 0, height)) for side in (-half, half))
    left, right = (int(np.clip(round((x + side) * width), 0, width)) for side in (-half, half))
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


class Accumulate(Callback):  # type: ignore[misc]
    """One step per so many batches, with the gradient of the (weighted) mean over their images.

    An epoch's last step takes what is left. How much the images of a step weigh is known only once all are seen: until
    then each counts as one, and the gradient is put right before the step.
    """

    order, run_valid = 10, False  # after the penalty has joined the loss, before gradients are bounded

    def __init__(self, batches: int, shown: EpochSampler) -> None:
        self.batches, self.shown = batches, shown

    def before_train(self) -> None:
        size = self.dls.train.bs
        images = min(len(self.shown), len(self.dls.train) * size)
        self.left, self.group = images, self.batches * size

    def after_loss(self) -> None:
        if self.iter % self.batches == 0:
            self.together = min(self.left, self.group)
            self.weight: Tensor | float = 0
        self.left -= len(self.yb[0])
        weight = losses.divisor(self.loss_func, self.yb[0])
        self.weight = self.weight + weight
        self.learn.loss_grad = self.loss_grad * (weight / self.together)

    def before_step(self) -> None:
        if (self.iter + 1) % self.batches and self.iter + 1 < self.n_iter:
            raise CancelBatchException
        if isinstance(self.weight, Tensor):
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, self.together / self.weight)


WARMUP_POWER = 2 / 3  # timm's


def warmed_up(decay: float, updates: int) -> float:
    """The decay after so many updates, 0 before the first: as timm's ModelEmaV3 warms up, with its gamma and power.

    The average follows the network closely at first, or it would hold on to the weights that the run began with.
    """
    return min(decay, 1 - float((1 + updates) ** -WARMUP_POWER))


class Average(Callback):  # type: ignore[misc]
    """Keeps an exponential moving average of weights and statistics, which is what is scored and kept.

    The network itself goes on training; `trained` is that network. The number of updates is part of the state.
    """

    order = 80  # the average steps in before anything is scored, and back only after it is kept

    def __init__(self, trained: nn.Module, decay: float) -> None:
        self.trained, self.decay = trained, decay
        self.average = AveragedModel(trained, multi_avg_fn=self._move, use_buffers=True)

    def after_step(self) -> None:
        self.average.update_parameters(self.trained)

    @torch.no_grad()
    def _move(self, averages: Tensors, currents: Tensors, _: Tensor | int) -> None:
        if averages[0].is_floating_point():
            decay = warmed_up(self.decay, int(self.average.n_averaged))
            torch._foreach_lerp_(averages, currents, 1 - decay)
        else:
            torch._foreach_copy_(averages, currents)  # counters

    def before_validate(self) -> None:
        self.learn.model = self.average.module.eval()

    def after_epoch(self) -> None:
        self.learn.model = self.trained

    def state(self) -> dict[str, Any]:
        return dict(self.average.state_dict())

    def load(self, state: dict[str, Any]) -> None:
        self.average.load_state_dict(state)
