"""Group DRO and CORAL, against what their papers' formulas say image by image."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fits
import numpy as np
import pytest
import small
import torch
from refused import problems

from xraylab.model import losses
from xraylab.train import source_losses
from xraylab.train.learner import build_learner

GROUPS = np.array([0, 0, 3, 1, 3, 1, 1, 0, 3, 0])  # group 2, a pair without images, has no weight


class Shown:
    """Stands for a Learner whose sampler knows the latest batch."""

    def __init__(self, **own: Any) -> None:
        vars(self).update(own)
        self.sampler = SimpleNamespace(latest=np.arange(0))
        self.dls = SimpleNamespace(train=SimpleNamespace(sampler=self.sampler))


def test_weights_of_groups_rise_as_algorithm_1_has_it() -> None:
    """Written out in numpy, batch by batch, for two batches; absent groups keep their share before normalising."""
    rng = np.random.default_rng(0)
    dro = source_losses.GroupDRO(GROUPS, 0.3, "cpu")
    dro.learn = shown = Shown(loss_func=torch.nn.CrossEntropyLoss())
    q = np.full(3, 1 / 3)
    for batch in ([0, 2, 3, 5, 6], [1, 7, 4, 8]):  # the second has no image of group 1
        shown.sampler.latest = np.array(batch)
        logits, labels = rng.normal(size=(len(batch), 2)), rng.integers(0, 2, len(batch))
        dro.learn.pred, dro.learn.yb = torch.tensor(logits, requires_grad=True), (torch.tensor(labels),)
        dro.after_loss()
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        each = -np.log(p[np.arange(len(batch)), labels])
        own = GROUPS[batch]
        means = np.array([each[own == group].mean() if (own == group).any() else 0.0 for group in (0, 1, 3)])
        q = q * np.exp(0.3 * means)
        q /= q.sum()
        np.testing.assert_allclose(dro.weights.numpy(), q)
        assert float(dro.learn.loss_grad.detach()) == pytest.approx(float(q @ means))
        dro.learn.loss_grad.backward()
        truth = np.eye(2)[labels]
        share = np.array([q[[0, 1, 3].index(group)] / (own == group).sum() for group in own])
        np.testing.assert_allclose(dro.learn.pred.grad.numpy(), (p - truth) * share[:, None], atol=1e-12)


@pytest.mark.parametrize("name", ["class_weights", "focal"])
def test_a_groups_loss_is_the_chosen_loss_of_its_images(name: str) -> None:
    rng = np.random.default_rng(1)
    logits, labels = torch.tensor(rng.normal(size=(10, 2))), torch.tensor(rng.integers(0, 2, 10))
    weights = torch.tensor([0.5, 2.0], dtype=torch.float64)
    loss = losses.focal(None, 2.0) if name == "focal" else losses.cross_entropy(weights, 0.1)
    found = source_losses.group_losses(loss, logits, labels, torch.tensor(GROUPS), 4)
    for group in (0, 1, 3):
        members = np.flatnonzero(group == GROUPS)
        assert float(found[group]) == pytest.approx(float(loss(logits[members], labels[members])))
    assert float(found[2]) == 0


@pytest.mark.parametrize("seed", range(3))
def test_coral_is_the_mean_distance_of_numpys_covariances(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, of = rng.normal(size=(40, 5)) * rng.random(5), np.repeat([0, 1, 3, 4], [15, 14, 10, 1])
    each = [np.cov(features[of == source], rowvar=False) for source in (0, 1, 3)]  # the fourth has one image
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.mean([np.linalg.norm(each[a] - each[b], "fro") ** 2 for a, b in pairs]) / (4 * 5**2)
    assert float(source_losses.coral(torch.tensor(features), torch.tensor(of))) == pytest.approx(expected)


def test_coral_of_one_source_is_nothing_and_can_be_differentiated() -> None:
    features = torch.randn(6, 3, requires_grad=True)
    value = source_losses.coral(features, torch.zeros(6, dtype=torch.int64))
    value.backward()
    assert float(value.detach()) == 0
    assert features.grad is not None
    assert not features.grad.any()


def test_coral_is_of_what_enters_the_head_and_leaves_no_hook() -> None:
    """Its gradient in a training step is that of the formula over the body's own features."""
    pictures, labels = fits.images()
    sources = np.arange(fits.IMAGES) % 3
    seen: list[tuple[np.ndarray, torch.Tensor, torch.Tensor]] = []

    class Look(fits.Callback):  # type: ignore[misc]
        order, run_valid = 6, False

        def after_loss(self) -> None:
            own = sources[self.dls.train.sampler.latest]
            seen.append((own, self.coral.features.detach().clone(), (self.loss_grad - self.loss).detach()))

    dls = fits.loaders(pictures, labels, 8)
    network = small_network()
    learn = build_learner(
        dls, network, torch.nn.CrossEntropyLoss(), fits.phase("adam", 1, False).opt_func, fits.MACHINE,
        [source_losses.Coral(sources, 5.0), Look()],
    )  # fmt: skip
    learn.fit(1)
    assert len(seen) == 3
    for own, features, added in seen:
        expected = 5 * float(source_losses.coral(features.flatten(1), torch.tensor(own)))
        assert float(added) == pytest.approx(expected, rel=1e-4)
    assert float(seen[0][2]) > 0
    assert not network.fc._forward_pre_hooks


def small_network() -> Any:
    import tiny  # noqa: PLC0415

    torch.manual_seed(0)
    network = tiny.Tiny()
    network.fc = torch.nn.Linear(network.fc.in_features, 2)
    network.conv1 = torch.nn.Conv2d(1, network.conv1.out_channels, 7, stride=2, padding=3, bias=False)
    return network


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"loss": {"group_dro_step": 0.1}, "augment": {"mixup_alpha": 0.2}},
            "loss.group_dro_step: augment.mixup_alpha mixes images of several sources: set one of the two to 0",
        ),
        (
            {"loss": {"coral_weight": 1.0}, "augment": {"cutmix_alpha": 0.2}},
            "loss.coral_weight: augment.cutmix_alpha mixes images of several sources: set one of the two to 0",
        ),
        (
            {"loss": {"coral_weight": 1.0}, "model": {"freeze": {"until": "head"}, "pretrained": "default"}},
            "loss.coral_weight: model.freeze.until: head freezes the features that it would align: set it to 0",
        ),
        ({"loss": {"group_dro_step": -1.0}}, "loss.group_dro_step: input should be greater than or equal to 0"),
    ],
)
def test_what_cannot_go_together_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    def change(tree: small.Tree) -> None:
        for section, values in changes.items():
            for key, value in values.items():
                tree[section][key].update(value) if isinstance(value, dict) else tree[section].update({key: value})

    assert any(problem.startswith(message) for problem in problems(tmp_path, change))
