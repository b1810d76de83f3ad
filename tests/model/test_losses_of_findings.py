"""Losses of several findings per image are their papers' formulas, over the entries that count."""

from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import BCEWithLogitsLoss

from xraylab.errors import TrainingError
from xraylab.model import losses

DRAWN = torch.Generator().manual_seed(0)
LOGITS = 3 * torch.randn(12, 3, generator=DRAWN)
HARD = torch.randint(0, 2, (12, 3), generator=DRAWN).float()
SOFT = torch.where(torch.rand(12, 3, generator=DRAWN) < 0.3, 0.7, HARD)
UNKNOWN = torch.rand(12, 3, generator=DRAWN) < 0.3
WEIGHTS = torch.tensor([0.5, 4.0, 1.0])

Formula = Callable[[np.ndarray, np.ndarray, np.ndarray | float], np.ndarray]


def cross_entropy(p: np.ndarray, y: np.ndarray, w: np.ndarray | float, smoothing: float) -> np.ndarray:
    y = y * (1 - smoothing) + smoothing / 2
    return -w * y * np.log(p) - (1 - y) * np.log(1 - p)


def retinanet(p: np.ndarray, y: np.ndarray, w: np.ndarray | float, gamma: float) -> np.ndarray:
    """Lin et al. 2017, equation 5, with w : 1 for alpha : 1 - alpha."""
    p_t = p * y + (1 - p) * (1 - y)
    return (w * y + 1 - y) * (1 - p_t) ** gamma * cross_entropy(p, y, 1.0, 0.0)


def asl(p: np.ndarray, y: np.ndarray, w: np.ndarray | float) -> np.ndarray:
    """Ridnik et al. 2021, equation 7, of hard labels."""
    shifted = np.maximum(p - 0.1, 0)
    return -w * y * (1 - p) * np.log(p) - (1 - y) * shifted**4 * np.log(1 - shifted)


LOSSES: dict[str, tuple[str, dict[str, float], Formula]] = {
    "bce": ("bce", {"label_smoothing": 0.0}, partial(cross_entropy, smoothing=0.0)),
    "smoothed": ("bce", {"label_smoothing": 0.2}, partial(cross_entropy, smoothing=0.2)),
    "focal": ("focal", {"gamma": 2.0}, partial(retinanet, gamma=2.0)),
    "asymmetric": ("asymmetric", {"gamma_pos": 1.0, "gamma_neg": 4.0, "clip": 0.1}, asl),
}
CASES = list(product(LOSSES, [None, WEIGHTS]))


def create(name: str, weights: Tensor | None) -> torch.nn.Module:
    loss, options, _ = LOSSES[name]
    return losses.create_loss(loss, weights, options, multi_label=True)


@pytest.mark.parametrize(("name", "weights"), CASES)
def test_a_loss_is_its_papers_formula_over_the_entries_that_count(name: str, weights: Tensor | None) -> None:
    targets = HARD if name == "asymmetric" else SOFT
    p, w = LOGITS.double().sigmoid().numpy(), 1.0 if weights is None else weights.numpy()
    expected = LOSSES[name][2](p, targets.double().numpy(), w)
    count = ~UNKNOWN.numpy()
    masked, loss = torch.where(UNKNOWN, torch.nan, targets), create(name, weights)
    assert loss(LOGITS, targets).item() == pytest.approx(expected.mean(), rel=1e-5)
    assert loss(LOGITS, masked).item() == pytest.approx(expected[count].mean(), rel=1e-5)
    loss.reduction = "none"
    of_images = [row[counts].mean() if counts.any() else 0 for row, counts in zip(expected, count, strict=True)]
    assert loss(LOGITS, masked).tolist() == pytest.approx(of_images, rel=1e-5)


@pytest.mark.parametrize(("name", "weights"), CASES)
def test_what_does_not_count_has_no_gradient_and_nothing_at_all_no_loss(name: str, weights: Tensor | None) -> None:
    logits, loss = LOGITS.clone().requires_grad_(), create(name, weights)
    loss(logits, torch.where(UNKNOWN, torch.nan, HARD)).backward()
    assert not logits.grad[UNKNOWN].any()
    assert logits.grad.isfinite().all()
    assert logits.grad[~UNKNOWN].count_nonzero() > 0.5 * (~UNKNOWN).sum()
    logits.grad = None
    empty = loss(logits, torch.full_like(HARD, torch.nan))
    empty.backward()
    assert empty == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("gammas", [*product([0.0, 1.0, 2.0], [0.0, 1.0, 4.0])])
def test_easy_labels_leave_the_asymmetric_gradient_finite(gammas: tuple[float, float]) -> None:
    logits = torch.tensor([[-40.0, 40.0, -4.0, 0.0]]).requires_grad_()
    options = dict(zip(("gamma_pos", "gamma_neg"), gammas, strict=True))
    losses.asymmetric(None, **options, clip=0.05)(logits, torch.tensor([[0.0, 1.0, 0.0, 1.0]])).backward()
    assert logits.grad.isfinite().all()


def test_binary_cross_entropy_is_torchs_own() -> None:
    expected = BCEWithLogitsLoss(pos_weight=WEIGHTS)(LOGITS, SOFT)
    torch.testing.assert_close(create("bce", WEIGHTS)(LOGITS, SOFT), expected)


def test_losses_without_their_extras_are_binary_cross_entropy() -> None:
    plain = create("bce", WEIGHTS)(LOGITS, HARD)
    torch.testing.assert_close(losses.sigmoid_focal(WEIGHTS, 0.0)(LOGITS, HARD), plain)
    torch.testing.assert_close(losses.asymmetric(WEIGHTS, 0.0, 0.0, 0.0)(LOGITS, HARD), plain)


def test_probabilities_are_sigmoids_and_findings_are_there_from_one_half_on() -> None:
    loss = create("bce", None)
    p = loss.activation(torch.tensor([[0.0, -1.0, 2.0]]))
    assert p.tolist()[0] == pytest.approx([0.5, 0.26894, 0.88080], abs=1e-5)
    assert loss.decodes(p).tolist() == [[True, False, True]]


def test_balanced_weights_are_negatives_over_positives_of_what_counts() -> None:
    targets = np.array([[1, 0, np.nan], [0, 0, 1], [0, 0.5, 0], [0, np.nan, 0]], np.float32)
    weights = losses.pos_weights("balanced", targets, ["A", "B", "C"])
    assert weights.tolist() == [3.0, 5.0, 2.0]
    assert losses.pos_weights([1.0, 2.0, 3.0], targets, ["A", "B", "C"]).tolist() == [1.0, 2.0, 3.0]
    assert losses.pos_weights("none", targets, ["A", "B", "C"]) is None


@pytest.mark.parametrize(("value", "missing"), [(0.0, "positive"), (1.0, "negative"), (np.nan, "positive")])
def test_a_finding_without_positive_or_negative_labels_cannot_be_balanced(value: float, missing: str) -> None:
    targets = np.array([[1, value], [0, value]], np.float32)
    with pytest.raises(TrainingError) as caught:
        losses.pos_weights("balanced", targets, ["Edema", "Hernia"])
    assert str(caught.value) == (
        "loss.pos_weight: balanced needs training images with and without Hernia, and there is no "
        f"{missing} one: give one number per finding, or set it to none"
    )
