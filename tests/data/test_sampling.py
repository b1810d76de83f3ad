"""What an epoch shows of each class, drawn from seed and epoch alone."""

import numpy as np
import pytest

from xraylab.data import sampling
from xraylab.data.sampling import EpochSampler

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [300, 90, 30]))


def epoch(strategy: str, seed: int = 0, number: int = 0) -> np.ndarray:
    order = EpochSampler(strategy, LABELS, seed)
    order.start(number)
    return order.of(range(len(order))).copy()


@pytest.mark.parametrize("strategy", sampling.SAMPLINGS)
def test_an_epoch_depends_on_seed_and_number_alone(strategy: str) -> None:
    order = EpochSampler(strategy, LABELS, 0)
    for number in (0, 3, 1):
        order.start(number)
    assert (order.of(range(len(order))) == epoch(strategy, number=1)).all()
    assert (epoch(strategy, number=1) != epoch(strategy, number=2)).any()
    assert (epoch(strategy, seed=0) != epoch(strategy, seed=1)).any()


def test_without_sampling_every_image_stands_at_its_own_place() -> None:
    order = EpochSampler("none", LABELS, 0)
    assert (len(order), order.ordered) == (420, False)
    assert order.of([3, 1]).tolist() == [3, 1]
    assert order.latest.tolist() == [3, 1]


def test_weighted_shows_each_class_equally_often() -> None:
    counts = sum(np.bincount(LABELS[epoch("weighted", number=number)]) for number in range(50))
    assert counts.sum() == 50 * 420
    np.testing.assert_allclose(counts / counts.sum(), 1 / 3, atol=0.01)


@pytest.mark.parametrize("number", range(3))
def test_stratified_shows_each_image_once_and_every_batch_the_shares(number: int) -> None:
    chosen = epoch("stratified", number=number)
    assert sorted(chosen) == list(range(420))
    for size in (7, 14, 42):
        for start in range(0, 420, size):
            counts = np.bincount(LABELS[chosen[start : start + size]], minlength=3)
            assert np.abs(counts - size * np.bincount(LABELS) / 420).max() < 2


def test_downsampling_shows_as_many_of_each_class_others_in_every_epoch() -> None:
    one, other = epoch("downsample"), epoch("downsample", number=1)
    assert np.bincount(LABELS[one]).tolist() == [30, 30, 30]
    assert len(set(one)) == 90
    common = set(one[LABELS[one] == 0]) & set(other[LABELS[other] == 0])
    assert len(common) < 12  # of 30; three are expected
    smallest = set(np.flatnonzero(LABELS == 2))
    assert set(one[LABELS[one] == 2]) == smallest == set(other[LABELS[other] == 2])
