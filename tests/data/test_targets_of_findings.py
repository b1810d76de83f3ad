"""What a network learns of several findings per image: labels, policies of uncertain ones, batches and samplers."""

from dataclasses import replace

import fits
import numpy as np
import pandas as pd
import pytest
import torch
from fastai.torch_core import TensorMultiCategory

from xraylab import targets
from xraylab.data.dataloaders import Subset, XrayDataLoaders
from xraylab.data.sampling import EpochSampler, rarest_finding
from xraylab.data.uncertain import Uncertain, known_labels
from xraylab.task import MULTI_LABEL

FINDINGS = ["Edema", "Effusion", "Mass", "Nodule"]
NAN = np.nan
LABELS = np.array([[1, 0, -1, NAN], [-1, -1, -1, -1], [0, 0, 0, 0], [NAN, NAN, NAN, NAN], [0, 1, 1, 0]], float)


def table(labels: np.ndarray = LABELS, seed: int = 0) -> pd.DataFrame:
    """Images and their labels, with ids in the order of a draw."""
    ids = [f"{number}.png" for number in np.random.default_rng(seed).permutation(len(labels))]
    return targets.to_columns(labels, FINDINGS).assign(id=ids, source="")


def of(policy: object, rows: pd.DataFrame | None = None, seed: int = 0) -> np.ndarray:
    return Uncertain.of(policy, FINDINGS, seed).targets(table() if rows is None else rows)


@pytest.mark.parametrize(("policy", "value"), [("ignore", NAN), ("positive", 1.0), ("negative", 0.0)])
def test_a_policy_changes_uncertain_labels_alone(policy: str, value: float) -> None:
    expected = np.where(LABELS == -1, value, LABELS)
    np.testing.assert_array_equal(of(policy), expected.astype(np.float32))


def test_each_finding_can_have_a_policy_of_its_own() -> None:
    each = dict(zip(FINDINGS, ("positive", "negative", "ignore", "smooth"), strict=True))
    row = of(each)[1]
    np.testing.assert_array_equal(row[:3], [1, 0, NAN])
    assert 0.55 <= row[3] <= 0.85


def test_smooth_targets_are_uniform_between_055_and_085() -> None:
    rows = table(np.full((2000, 4), -1.0))
    drawn = of("smooth", rows)
    assert drawn.dtype == np.float32
    assert np.float32(0.55) <= drawn.min() < 0.551
    assert 0.849 < drawn.max() <= np.float32(0.85)
    counts, _ = np.histogram(drawn, bins=10, range=(0.55, 0.85))
    np.testing.assert_allclose(counts / drawn.size, 0.1, atol=0.01)
    assert abs(np.corrcoef(drawn.T)[np.triu_indices(4, 1)]).max() < 0.08


def test_a_smooth_target_depends_on_seed_image_and_finding_alone() -> None:
    rows = table(np.full((20, 4), -1.0))
    drawn = of("smooth", rows)
    np.testing.assert_array_equal(of("smooth", rows[::-1][:7]), drawn[::-1][:7])
    mapped = dict.fromkeys(FINDINGS, "ignore") | {"Mass": "smooth"}
    np.testing.assert_array_equal(of(mapped, rows)[:, 2], drawn[:, 2])
    assert (of("smooth", rows, seed=1) != drawn).mean() > 0.99


def test_what_metrics_count_is_the_same_under_every_policy() -> None:
    np.testing.assert_array_equal(known_labels(table(), FINDINGS), np.where(LABELS == -1, NAN, LABELS))


def loaders(policy: str = "smooth") -> XrayDataLoaders:
    return fits.loaders(torch.zeros(5, 1, 8, 8), torch.from_numpy(LABELS), 5, uncertain=policy)


@pytest.mark.parametrize("policy", ["ignore", "positive", "smooth"])
def test_policies_are_for_training_batches_and_never_for_what_is_scored(policy: str) -> None:
    dls = loaders(policy)
    known = np.where(LABELS == -1, NAN, LABELS).astype(np.float32)
    for loader in (dls.valid, dls.train.new(shuffle=False)):
        (batch,) = loader
        np.testing.assert_array_equal(batch[1], known)
    _, learnt = dls.train_ds.batch(range(5))
    np.testing.assert_array_equal(np.isnan(learnt), np.isnan(known) & ((LABELS != -1) | (policy == "ignore")))
    assert (dls.task, dls.valid_ds.task, learnt.dtype) == (MULTI_LABEL, MULTI_LABEL, torch.float32)


def test_images_without_labels_make_batches_without_them() -> None:
    dls = loaders()
    dls.row_of.update({str(number): number for number in range(5)})
    items = dls.valid_ds.items
    assert [len(batch) for batch in dls.test_dl(items)] == [1]
    ((_, labels),) = dls.test_dl(items, with_labels=True)
    np.testing.assert_array_equal(labels, dls.valid_ds.known_labels)
    assert [len(batch) for batch in dls.test_dl(["3", "0"])] == [1]


def test_a_sample_is_decoded_to_the_findings_that_are_there() -> None:
    dls = loaders("smooth")
    image = torch.zeros(1, 8, 8)
    rows = [torch.from_numpy(row) for row in dls.train_ds.targets]
    decoded = [dls.train_ds.decode((image, TensorMultiCategory(row)))[1] for row in rows]
    assert [list(names) for names in decoded] == [["A", "C"], ["A", "B", "C", "D"], [], [], ["B", "C"]]
    assert list(dls.valid_ds.decode((image, torch.tensor([True, False, False, True])))[1]) == ["A", "D"]


def test_an_image_counts_as_its_rarest_finding() -> None:
    labels = np.zeros((100, 3), np.float32)
    labels[:60, 0], labels[50:70, 1], labels[55:58, 2] = 1, 1, 1
    labels[90:, 2] = NAN
    classes = rarest_finding(labels)
    assert np.bincount(classes).tolist() == [50, 17, 3, 30]
    assert classes[[0, 52, 56, 65, 80, 95]].tolist() == [0, 1, 2, 1, 3, 3]


@pytest.mark.parametrize("strategy", ["weighted", "source_balanced"])
def test_balancing_shows_each_rarest_finding_equally_often(strategy: str) -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((200, 3)) < [0.6, 0.2, 0.05]).astype(float)
    items = targets.to_columns(labels, FINDINGS[:3]).assign(id=[str(n) for n in range(200)], source=["A", "B"] * 100)
    base = fits.loaders(torch.zeros(5, 1, 8, 8), torch.zeros(5, 3), 5).train_ds
    subset: Subset = replace(base, items=items.set_axis(["label", "y_A", "y_B", "y_C", "id", "source"], axis=1))
    groups = subset.groups if strategy == "source_balanced" else subset.labels
    sampler = EpochSampler(strategy, groups, 0)
    counts = np.zeros(groups.max() + 1)
    for number in range(100):
        sampler.start(number)
        counts += np.bincount(groups[sampler.of(range(200))], minlength=len(counts))
    shares = counts[np.unique(groups)] / counts.sum()
    np.testing.assert_allclose(shares, 1 / len(shares), atol=0.01)
    assert len(shares) == (8 if strategy == "source_balanced" else 4)
    assert (subset.source_numbers == [0, 1] * 100).all()
