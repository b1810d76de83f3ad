"""Mixed batches hold the shares that their loss is told."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from xraylab.model import losses
from xraylab.train import callbacks

IMAGES, OTHERS = torch.zeros(4, 1, 20, 30), torch.ones(4, 1, 20, 30)


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
def test_mixup_is_the_mean_of_two_images(share: float) -> None:
    mixed, said = callbacks.mixup(IMAGES, OTHERS, share)
    assert said == share
    torch.testing.assert_close(mixed, torch.full_like(mixed, 1 - share))


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_takes_one_rectangle_and_says_how_much_is_left(seed: int) -> None:
    np.random.seed(seed)
    mixed, said = callbacks.cutmix(IMAGES, OTHERS, 0.7)
    assert 1 - mixed.mean().item() == pytest.approx(said)
    assert 0.65 < said <= 1  # to whole pixels
    rows, columns = mixed[0, 0].any(dim=1), mixed[0, 0].any(dim=0)
    assert mixed[0, 0].sum() == rows.sum() * columns.sum()


def test_cutmix_cuts_out_the_share_that_is_not_the_images_own() -> None:
    """Yun et al. 2019: the rectangle has the image's proportions, and the border of the image cuts off some of it."""
    np.random.seed(0)
    said = [callbacks.cutmix(IMAGES, OTHERS, 0.64)[1] for _ in range(200)]
    assert min(said) == pytest.approx(0.64)  # 12 x 18 of 20 x 30 pixels
    assert np.mean(np.isclose(said, 0.64)) > 0.1


@pytest.mark.parametrize("seed", range(8))
def test_the_larger_share_is_the_images_own(seed: int) -> None:
    np.random.seed(seed)
    labels = torch.zeros(4, dtype=torch.long)
    mix = callbacks.Mix(lambda images, partners, share: (images, share), 1.0)
    mix.learn = SimpleNamespace(xb=(IMAGES,), yb=(labels,))
    mix.before_batch()
    np.random.seed(seed)
    np.random.permutation(4)
    share = np.random.beta(1.0, 1.0)
    assert mix.share == max(share, 1 - share)


def test_the_loss_is_mixed_in_the_same_shares_for_every_image() -> None:
    np.random.seed(0)
    labels = torch.arange(6) % 3
    learn = SimpleNamespace(xb=(torch.randn(6, 1, 8, 8),), yb=(labels,), loss_func=torch.nn.CrossEntropyLoss())
    mix = callbacks.Mix(callbacks.mixup, 0.4)
    mix.learn = learn
    mix.before_batch()
    logits = torch.randn(6, 3)
    learn.pred, learn.loss_grad = logits, learn.loss_func(logits, labels)
    mix.after_loss()
    share = mix.share
    assert share >= 0.5
    target = share * torch.eye(3)[labels] + (1 - share) * torch.eye(3)[mix.partner_labels]
    torch.testing.assert_close(learn.loss_grad, -(target * logits.log_softmax(dim=1)).sum(dim=1).mean())
    assert torch.equal(learn.loss, learn.loss_grad)


def test_targets_of_findings_are_mixed_and_what_one_image_does_not_know_the_mixture_does_not() -> None:
    np.random.seed(0)
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.7, torch.nan], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    loss = losses.bce(None, 0.0)
    learn = SimpleNamespace(xb=(torch.randn(4, 1, 8, 8),), yb=(labels,), loss_func=loss)
    mix = callbacks.Mix(callbacks.mixup, 0.4)
    mix.learn = learn
    mix.before_batch()
    expected = mix.share * labels + (1 - mix.share) * mix.partner_labels
    torch.testing.assert_close(learn.yb[0], expected, equal_nan=True)
    assert 1 <= learn.yb[0].isnan().sum() <= 2
    learn.pred = torch.randn(4, 3)
    learn.loss_grad = before = loss(learn.pred, *learn.yb)
    mix.after_loss()
    assert learn.loss_grad is before
    assert losses.divisor(loss, learn.yb[0]) == (~expected.isnan()).sum()
