"""Losses, their options and monitors that do not fit data.task are refused, with what to set."""

from typing import Any

import pytest
import small

from xraylab import files
from xraylab.errors import ParamsError
from xraylab.params import config
from xraylab.params.config import Params, merge
from xraylab.params.search import unflatten

SHIPPED = files.read_yaml(small.REPOSITORY / "params.yaml")
FINDINGS = {
    "data.task": "multi-label",
    "data.demo.task": "multi-label",
    "data.positive": None,
    "data.classes": ["Edema", "Effusion", "Nodule"],
}
BCE = {"loss.name": "bce"}


def read(values: dict[str, Any], experiments: dict[str, Any] | None = None) -> Params:
    tree = merge(SHIPPED, unflatten(values))
    return config.validate({**tree, "experiments": experiments or {"baseline": {}}}, "params.yaml")


def problems(values: dict[str, Any], experiments: dict[str, Any] | None = None) -> list[str]:
    with pytest.raises(ParamsError) as caught:
        read(values, experiments)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (FINDINGS, "loss.name: cross_entropy is no loss for data.task: multi-label; take bce, focal or asymmetric"),
        (BCE, "loss.name: bce is no loss for data.task: single-label; take cross_entropy or focal"),
        (
            {"loss.name": "asymmetric"},
            "loss.name: asymmetric is no loss for data.task: single-label; take cross_entropy or focal",
        ),
        (
            FINDINGS | BCE | {"loss.class_weights": "balanced"},
            "loss.class_weights: data.task is multi-label: an image has no one class to be weighted by: set it to "
            "none, and loss.pos_weight",
        ),
        (
            FINDINGS | BCE | {"loss.group_dro_step": 0.01},
            "loss.group_dro_step: data.task is multi-label: its groups are pairs of source and class, and an image can "
            "have several findings: set it to 0",
        ),
        (
            FINDINGS | BCE | {"loss.pos_weight": [1.0, 2.0]},
            "loss.pos_weight: 2 weights for the findings Edema, Effusion, Nodule",
        ),
        (
            FINDINGS | BCE | {"loss.uncertain": {"Edema": "smooth", "Effusion": "ignore"}},
            "loss.uncertain: needs one value, or one for each of Edema, Effusion, Nodule; has Edema, Effusion",
        ),
        (
            {"loss.pos_weight": "balanced"},
            "loss.pos_weight: data.task is single-label: set it to none, and weight classes by loss.class_weights",
        ),
        (
            {"loss.uncertain": "smooth"},
            "loss.uncertain: data.task is single-label, which has no uncertain labels: set it to null",
        ),
        (
            {"train.monitor": "valid_auroc"},
            "train.monitor: auroc is recorded with data.task: multi-label alone: take valid_f1, valid_accuracy or "
            "valid_loss",
        ),
        (
            {"train.monitor": "test_auprc", "split.valid_pct": 0},
            "train.monitor: auprc is recorded with data.task: multi-label alone: take test_f1, test_accuracy or "
            "test_loss",
        ),
    ],
)
def test_what_misfits_the_task_is_refused_with_what_to_set(values: dict[str, Any], expected: str) -> None:
    assert problems(values) == [expected]


def test_an_experiment_that_misfits_is_named() -> None:
    assert problems(FINDINGS | BCE, {"baseline": {}, "old": {"loss": {"name": "cross_entropy"}}}) == [
        "experiments.old.loss.name: cross_entropy is no loss for data.task: multi-label; take bce, focal or asymmetric"
    ]


def test_a_search_over_losses_of_the_other_task_is_refused() -> None:
    (problem,) = problems(FINDINGS | BCE | {"search.space": {"loss.name": ["bce", "cross_entropy"]}})
    assert problem.startswith("search.space: loss.name: cross_entropy is no loss for data.task: multi-label")


def test_exponents_between_0_and_1_are_refused() -> None:
    assert problems(FINDINGS | {"loss.name": "asymmetric", "loss.gamma_neg": 0.5}) == [
        "loss.gamma_neg: should be 0, or 1 and more: below 1 the gradient of an easy label has no bound, got 0.5"
    ]


def test_experiments_compare_what_is_made_of_uncertain_labels() -> None:
    each = {"Edema": "positive", "Effusion": "smooth", "Nodule": "ignore"}
    params = read(
        FINDINGS | BCE,
        {"baseline": {}, "ones": {"loss": {"uncertain": "positive"}}, "each": {"loss": {"uncertain": each}}},
    )
    assert [params.experiment(name).loss.uncertain for name in params.experiments] == [None, "positive", each]
