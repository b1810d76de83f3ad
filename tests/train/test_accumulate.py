"""Several batches a step are one batch of their size, whatever the loss."""

from collections.abc import Callable
from itertools import product

import fits
import numpy as np
import pytest
import torch
from fastai.callback.core import Callback, TrainEvalCallback
from fastai.callback.training import GradientClip
from fastai.learner import Learner
from torch import Tensor, nn

from xraylab.model import losses, optimizers
from xraylab.train import callbacks

LOSSES: dict[str, Callable[[Tensor | None], nn.Module]] = {
    "cross_entropy": lambda weight: losses.cross_entropy(weight, 0.0),
    "smoothed": lambda weight: losses.cross_entropy(weight, 0.2),
    "focal": lambda weight: losses.focal(weight, 2.0),
}
WEIGHTS = {"unweighted": None, "weighted": torch.tensor([0.2, 3.0, 1.0], dtype=torch.float64)}
BESIDES: dict[str, Callable[[], list[Callback]]] = {
    "alone": list,
    "l2": lambda: [callbacks.L2Penalty(0.5)],
    "mixup": lambda: [callbacks.Mix(callbacks.mixup, 1.0)],
    "cutmix": lambda: [callbacks.Mix(callbacks.cutmix, 1.0)],
    "clip": lambda: [GradientClip(0.1), callbacks.L2Penalty(0.5)],
}
IMAGES, SIZE, TOGETHER = 22, 4, 2  # the last step has six images, in batches of four and two


@pytest.fixture
def _same_mixing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws that mix the images of a large batch as those of small ones are mixed."""

    def within_small_batches(number: int) -> np.ndarray:
        return np.concatenate([np.arange(start, min(start + SIZE, number))[::-1] for start in range(0, number, SIZE)])

    monkeypatch.setattr(np.random, "permutation", within_small_batches)
    monkeypatch.setattr(np.random, "beta", lambda alpha, beta: 0.3)
    monkeypatch.setattr(np.random, "random", lambda size: np.full(size, 0.4))


def trained(size: int, together: int, loss: nn.Module, besides: list[Callback]) -> Tensor:
    """The parameters after one epoch of SGD."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    labels = torch.randint(0, 3, (IMAGES,))
    dls = fits.loaders(torch.randn(IMAGES, 1, 4, 4, dtype=torch.float64), labels, size)
    cbs = [TrainEvalCallback(), *besides, *([callbacks.Accumulate(together)] if together > 1 else [])]
    opt_func = optimizers.factory("sgd", weight_decay=0.1, momentum=0.9)
    learn = Learner(dls, network, loss, opt_func=opt_func, cbs=cbs, default_cbs=False, train_bn=False)
    with learn.no_logging():
        learn.fit(1, lr=0.1)
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.usefixtures("_same_mixing")
@pytest.mark.parametrize(("loss", "weight", "besides"), [*product(LOSSES, WEIGHTS, BESIDES)])
def test_several_batches_a_step_are_one_batch_of_their_size(loss: str, weight: str, besides: str) -> None:
    many, one = (
        trained(size, together, LOSSES[loss](WEIGHTS[weight]), BESIDES[besides]())
        for size, together in [(SIZE, TOGETHER), (SIZE * TOGETHER, 1)]
    )
    torch.testing.assert_close(many, one, rtol=1e-12, atol=1e-14)
