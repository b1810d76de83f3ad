"""bench/inference_level.py at a reduced size: bounds that the percentile bootstrap and its p do not keep."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import small


@pytest.fixture(scope="module")
def level() -> Iterator[ModuleType]:
    sys.path.insert(0, str(small.REPOSITORY / "bench"))
    yield importlib.import_module("inference_level")
    sys.path.remove(str(small.REPOSITORY / "bench"))


def test_equally_good_networks_of_patients_with_three_images_are_seldom_told_apart(level: ModuleType) -> None:
    """An inverted percentile bootstrap tells them apart in 7 % of these very studies, by F1 and by AUROC alike."""
    found = level.simulated(lambda rng: level.rejections(rng, 30, 3), 400)
    assert set(found) == {"auroc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1"}
    assert max(found.values()) <= 0.055


def test_no_sentence_about_four_equal_experiments_is_wrong_more_often_than_it_may(level: ModuleType) -> None:
    """Holm's correction of each metric by itself leaves the metrics uncorrected for one another."""
    found = level.simulated(lambda rng: level.families(rng, 30, 3), 120)
    assert found["any primary"] <= 0.09
    assert found["any exploratory"] <= 0.09


@pytest.mark.parametrize("repeats", [3, 5])
def test_one_recipe_under_two_names_is_seldom_told_apart_by_its_seeds(level: ModuleType, repeats: int) -> None:
    """Tests of the mean prediction know of no other seed."""
    found = level.simulated(lambda rng: level.of_seeds(rng, 40, 3, repeats, 0.6), 120)
    assert found["any primary"] <= 0.1
    assert found["any exploratory"] <= 0.1


@pytest.mark.parametrize("shape", [(15, 15, 3, 0.98, 0.5, 2.0), (20, 190, 1, 0.995, 0.0, 3.0)])
def test_the_interval_of_a_high_auroc_contains_it(level: ModuleType, shape: tuple[float, ...]) -> None:
    """Coverage of the bootstrap of patients in the first: 71 %; of DeLong's logit interval in the second: 87 %."""
    found = level.simulated(lambda rng: level.auroc(rng, *shape), 300)
    assert found["coverage"] >= 0.91
    assert found["width"] < 0.2


@pytest.mark.parametrize("alike", [0.2, 0.9])
def test_the_interval_of_a_sensitivity_of_five_patients_contains_it(level: ModuleType, alike: float) -> None:
    """The bootstrap of patients: in 78 and 42 % of these studies."""
    found = level.simulated(lambda rng: level.sensitivity(rng, 5, 0.9, alike), 300)
    assert found["coverage"] >= 0.93
    assert found["width"] < 0.75


def test_intervals_of_eight_classes_that_patients_mix_contain_the_truth(level: ModuleType) -> None:
    """Strata of one patient each leave nothing that varies."""
    found = level.simulated(level.mixed(level.eight_truths(8_000)), 100)
    assert set(found) == {"accuracy", "f1", "auroc", "mcc", "auprc", "brier"}
    assert min(found.values()) >= 0.88
