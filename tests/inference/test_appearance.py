"""Distances from the training images, and limits that a known share of validation images is beyond."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from xraylab.inference import appearance
from xraylab.inference.appearance import Appearance, Measurements
from xraylab.inference.distances import MOST_COMPONENTS, Gaussian


def test_with_few_dimensions_the_distance_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    mixed = (rng.normal(size=(200, 20)) @ rng.normal(size=(20, 20)) + 3).astype(np.float32)
    reference = LedoitWolf().fit(mixed[:150].astype(np.float64))
    squares = Gaussian.fit(mixed[:150]).distance(mixed[150:]) ** 2 * 20
    assert squares == pytest.approx(reference.mahalanobis(mixed[150:].astype(np.float64)), rel=1e-3)


def test_with_many_dimensions_the_rest_shares_one_variance() -> None:
    rng = np.random.default_rng(1)
    scales = np.r_[np.full(10, 5.0), np.full(190, 1.0)]
    vectors = (rng.normal(size=(2000, 200)) * scales).astype(np.float32)
    fitted = Gaussian.fit(vectors)
    assert fitted.components.shape == (MOST_COMPONENTS, 200)
    assert np.sort(fitted.variances)[-10:] == pytest.approx(np.full(10, 25), rel=0.15)
    assert fitted.distance(vectors).mean() == pytest.approx(1, abs=0.05)
    one = np.zeros((1, 200), np.float32)
    one[0, 150] = 20
    assert fitted.distance(one)[0] > 1.3


@pytest.mark.parametrize(("n", "within"), [(1, 1), (20, 20), (98, 98), (99, 99), (100, 100), (199, 198), (1000, 991)])
def test_a_limit_leaves_out_what_one_per_cent_leaves_out(n: int, within: int) -> None:
    assert appearance.rank(n, 0.01) == within
    values = np.random.default_rng(n).permutation(n).astype(float)
    assert (values <= appearance.upper_limit(values, 0.01)).sum() == within


def measurements(rng: np.random.Generator, n: int, lungs: float) -> Measurements:
    features = rng.normal(size=(n, 12)).astype(np.float32) + 4
    layouts = rng.normal(size=(n, appearance.LAYOUT_SIZE**2)).astype(np.float32)
    return Measurements(features, layouts, lungs + 0.05 * rng.normal(size=n))


def test_images_like_those_of_validation_are_seldom_far() -> None:
    """At most 1 in 100 on average, whatever the distribution: three limits, each with 1 of 300."""
    shares, rng = [], np.random.default_rng(0)
    images = np.zeros((200, 4, 4), np.uint8)
    for _ in range(40):
        train, valid, other = (measurements(rng, n, 0.6) for n in (60, 299, 200))
        fitted = Appearance.fit(train, valid, np.full(299, -1.0))
        assert fitted is not None
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Measurements, "of", lambda *_, other=other: other)
            patched.setattr(appearance, "excess_of_negatives", lambda *_: np.full(200, -1.0))
            warned = fitted.check(images, other.features)
        shares.append(np.mean([bool(each) for each in warned]))
    assert np.mean(shares) == pytest.approx(0.01, abs=0.003)


def test_without_enough_validation_images_nothing_is_far_and_without_lungs_they_do_not_count() -> None:
    rng = np.random.default_rng(0)
    train, few, many = measurements(rng, 60, 0.6), measurements(rng, 49, 0.6), measurements(rng, 50, 0.0)
    assert Appearance.fit(train, few, np.full(49, -1.0)) is None
    hands = Appearance.fit(train, many, np.full(50, -1.0))
    assert hands is not None
    assert hands.lungs is None
    assert set(hands.limits) == {"features", "layout"}
