"""Several batches a step are one batch of their size, whatever the loss."""

from collections.abc import Callable
from itertools import product

import fits
import numpy as np
import pytest
import torch
from fastai.callback.core import Callback, TrainEvalCallback
from fastai.callback.training import GradientClip
from fastai.data.load import DataLoader
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


@pytest.fixture
def _in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs that show the images as they are numbered."""
    monkeypatch.setattr(DataLoader, "shuffle_fn", lambda self, idxs: idxs)


def trained(size: int, together: int, loss: nn.Module, besides: list[Callback], labels: Tensor | None = None) -> Tensor:
    """The parameters after one epoch of SGD."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    classes = torch.randint(0, 3, (IMAGES,))
    labels = classes if labels is None else labels
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


def some_known() -> Tensor:
    """Labels of three findings, of which the first batch of all knows one, and the second none."""
    drawn = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 2, (IMAGES, 3), generator=drawn).double()
    labels[torch.rand(labels.shape, generator=drawn) < 0.4] = torch.nan
    labels[: 2 * SIZE] = torch.nan
    labels[0, 0] = 1
    return labels


OF_FINDINGS: dict[str, Callable[[Tensor | None], nn.Module]] = {
    "bce": lambda weight: losses.bce(weight, 0.1),
    "focal": lambda weight: losses.sigmoid_focal(weight, 2.0),
}


@pytest.mark.usefixtures("_same_mixing", "_in_order")
@pytest.mark.parametrize(("loss", "weight", "besides"), [*product(OF_FINDINGS, WEIGHTS, BESIDES)])
def test_of_findings_a_step_is_the_mean_over_what_counts_in_all_of_its_batches(
    loss: str, weight: str, besides: str
) -> None:
    many, one = (
        trained(size, together, OF_FINDINGS[loss](WEIGHTS[weight]), BESIDES[besides](), some_known())
        for size, together in [(SIZE, TOGETHER), (SIZE * TOGETHER, 1)]
    )
    torch.testing.assert_close(many, one, rtol=1e-6, atol=1e-8)  # counts are divided in float32


@pytest.mark.usefixtures("_in_order")
@pytest.mark.parametrize("together", [1, 2])
def test_a_step_without_any_label_learns_nothing_and_breaks_nothing(together: int) -> None:
    parameters = trained(SIZE, together, losses.bce(None, 0.0), [], torch.full((IMAGES, 3), torch.nan))
    assert parameters.isfinite().all()
    assert torch.equal(parameters, trained(SIZE, together, ZeroLoss(), [], torch.full((IMAGES, 3), torch.nan)))


class ZeroLoss(nn.Module):
    """Leaves the weight decay alone at work."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return logits.sum() * 0
