"""Every option has a usable value: another choice takes one flag, and what a choice does not use changes nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import small

from xraylab import files
from xraylab.params import config, names
from xraylab.params.config import OVERRIDABLE, Params, merge
from xraylab.params.images import STRENGTHS
from xraylab.params.loss import Loss
from xraylab.params.model import Freeze, Model
from xraylab.params.search import unflatten
from xraylab.params.section import Option, Section
from xraylab.params.split import Split
from xraylab.params.train import Course
from xraylab.paths import Paths
from xraylab.stages import configure

SHIPPED = files.read_yaml(small.REPOSITORY / "params.yaml")
SECTIONS: dict[str, type[Section]] = {"model": Model, "loss": Loss, "train": Course, "split": Split}
OPTIONS: dict[str, Option] = {
    f"{section}.{name}": option for section, cls in SECTIONS.items() for name, option in cls.OPTIONS.items()
}
OTHERS: dict[str, Any] = {
    "model.head_hidden": 64, "model.head_batch_norm": False, "loss.focal_gamma": 1.0, "loss.label_smoothing": 0.1,
    "loss.gamma_pos": 1.0, "loss.gamma_neg": 2.0, "loss.clip": 0.1,
    "train.freeze_epochs": 2, "train.lr_mult": 10, "train.pct_start": 0.5, "train.cycle_len": 3,
    "train.cycle_mult": 1, "train.decay_epochs": 3, "train.patience_epochs": 2, "train.decay_rate": 0.5,
    "train.momentum": 0.8, "split.test_pct": 0.3, "split.folds": 4, "split.files": "lists",
}  # fmt: skip
"""Another value of each option than the shipped one."""
PRETRAINED = {"model.pretrained": "default"}  # which fine_tune needs


def choices(chooser: str) -> list[str]:
    """All values that the key may have."""
    section, _, key = chooser.partition(".")
    found = get_args(SECTIONS[section].model_fields[key].annotation)
    return list(found) or names.BUILT_IN["loss"]


CASES = [(name, choice) for name, option in OPTIONS.items() for choice in choices(option.chooser)]


def loaded(overrides: dict[str, Any], base: dict[str, Any] | None = None) -> Params:
    """The shipped parameters with `base` (dotted key -> value), and with one experiment that overrides `overrides`."""
    findings = {overrides.get("loss.name"), (base or {}).get("loss.name")} & {"bce", "asymmetric"}
    task = (
        {"data.task": "multi-label", "data.demo.task": "multi-label", "data.positive": None, "loss.name": "bce"}
        if findings
        else {}
    )
    tree = merge(SHIPPED, unflatten({**PRETRAINED, **task, **(base or {})}))
    return config.validate({**tree, "experiments": {"baseline": unflatten(overrides)}}, "params.yaml")


def used(name: str, values: dict[str, Any]) -> Any:
    """What is made of the section of `name`, as it is resolved."""
    if name.startswith("split."):
        return loaded({}, values).split
    return loaded(values).experiment("baseline")


def test_each_option_has_another_value_here() -> None:
    assert list(OTHERS) == sorted(OPTIONS, key=list(OTHERS).index)
    for name, value in OTHERS.items():
        section, key = name.split(".")
        assert SHIPPED[section][key] != value
        assert SHIPPED[section][key] is not None or name == "split.files"


@pytest.mark.parametrize(("name", "choice"), CASES)
def test_an_option_changes_the_config_where_its_choice_is_made_and_nowhere_else(name: str, choice: str) -> None:
    option = OPTIONS[name]
    usual = used(name, {option.chooser: choice})  # which one flag asks for
    other = used(name, {option.chooser: choice, name: OTHERS[name]})
    assert (usual != other) == (choice in option.choices)
    if choice not in option.choices:
        section, key = name.split(".")
        assert getattr(usual if section == "split" else getattr(usual, section), key) in (None, 0)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_strength_of_what_never_happens_changes_no_config(strength: str) -> None:
    name, often = f"augment.{strength}", f"augment.{STRENGTHS[strength]}"
    assert used(name, {name: 5.0}) == used(name, {})
    assert used(name, {often: 0.5, name: 5.0}) != used(name, {often: 0.5})


@pytest.mark.parametrize(("key", "value"), [("batch_norm", "train"), ("cache", True)])
def test_how_something_is_frozen_changes_no_config_where_nothing_is(key: str, value: Any) -> None:
    name, frozen = f"model.freeze.{key}", {"model.freeze.until": "layer2"}
    assert set(Freeze.OFF) == {"batch_norm", "cache"}
    assert used(name, {name: value}) == used(name, {})
    assert used(name, {**frozen, name: value}) != used(name, frozen)


@pytest.mark.parametrize("key", [key for key in Course.model_fields if key != "schedule"])
def test_what_every_phase_names_itself_or_none_uses_changes_no_config(key: str) -> None:
    other = {"lr": 0.5, "epochs": 9, "weight_decay": 0.5, "optimizer": "lamb"}.get(key) or OTHERS[f"train.{key}"]
    whole: dict[str, Any] = {"schedule": "step", "epochs": 5, "lr": 0.1, "decay_epochs": 1, "decay_rate": 0.3}
    whole |= {"optimizer": "sgd", "momentum": 0.7, "weight_decay": 0.0}
    phases = [whole, {**whole, "lr": 0.01}]
    usual = loaded({"train.phases": phases}).experiment("baseline")
    assert loaded({"train.phases": phases, f"train.{key}": other}).experiment("baseline") == usual
    if key in whole:  # and what one of them leaves to `train` does
        rest = {name: value for name, value in whole.items() if name != key}
        one = {"train.phases": [whole, rest]}
        left = loaded(one).experiment("baseline")
        assert loaded({**one, f"train.{key}": other}).experiment("baseline") != left


def test_a_config_with_phases_is_read_as_it_was_written(tmp_path: Path) -> None:
    phases = [{"epochs": 2}, {"optimizer": "sgd", "schedule": "step"}]
    made = loaded({"train.phases": phases}).experiment("baseline")
    files.write_yaml({**made.model_dump(), "pretrained_sha256": None}, tmp_path / "baseline.yaml")
    again = config.read_config(tmp_path / "baseline.yaml")
    assert {name: getattr(again, name) for name in OVERRIDABLE} == dict(made)
    assert again.resolved() == again


def test_the_stage_writes_what_is_used_and_warns_of_what_an_experiment_sets_in_vain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(tree: small.Tree) -> None:
        tree["train"].update(phases=[{"schedule": "constant", "decay_epochs": 1}, {}])
        tree["experiments"] = {
            "baseline": {},
            "slow": {"train": {"phases": None, "decay_epochs": 1, "momentum": None}, "loss": {"focal_gamma": 3.0}},
            "sharp": {"augment": {"sharpness_factor": 2.0}, "model": {"freeze": {"cache": True}}},
            "named": {"train": {"lr": 0.1, "phases": [{"lr": 0.2}]}},
            "used": {"train": {"phases": None, "optimizer": "sgd", "momentum": 0.5}},
        }

    study = small.study(tmp_path, change)
    configure.run(config.read(study / "params.yaml"), Paths(study))
    assert capsys.readouterr().out.splitlines() == [
        "warning: train.phases.0.decay_epochs is not used by schedule constant",
        "warning: experiments.slow.loss.focal_gamma is not used by loss cross_entropy",
        "warning: experiments.slow.train.decay_epochs is not used by schedule one_cycle",
        "warning: experiments.sharp.model.freeze.cache is not used by a network of which nothing is frozen",
        "warning: experiments.sharp.augment.sharpness_factor is not used by p_sharpness 0",
        "warning: experiments.named.train.lr is not used by any phase of train.phases",
    ]
    written = {name: files.read_yaml(study / f"configs/{name}.yaml")["train"] for name in ("slow", "used")}
    assert (written["slow"]["momentum"], written["used"]["momentum"]) == (None, 0.5)
    assert {name for name in Course.OPTIONS if written["slow"][name] is not None} == set()


@pytest.mark.parametrize(
    ("kind", "key"), [("loss", "loss.name"), ("sampler", "sampling.strategy"), ("layout", "data.layout")]
)
def test_a_name_that_nobody_offers_is_refused_with_those_that_there_are(kind: str, key: str) -> None:
    with pytest.raises(config.ParamsError) as refused:
        loaded({}, {key: "mine"})
    *others, last = (repr(name) for name in names.BUILT_IN[kind])
    assert refused.value.problems == (f"{key}: should be {', '.join(others)} or {last}, got 'mine'",)


def problems_of(tree: dict[str, Any]) -> Iterator[str]:
    with pytest.raises(config.ParamsError) as refused:
        config.validate(tree, "params.yaml")
    yield from refused.value.problems


def test_sections_and_experiments_are_refused_at_once() -> None:
    tree = merge(
        SHIPPED,
        unflatten({"train.lrr": 1, "augment.mixup_alpha": 0.1, "augment.cutmix_alpha": 0.1, "split.test_pct": None}),
    )
    tree = {**tree, "experiments": {"a": {"model": {"dropuot": 0.1}}, "b": {"train": {"epochs": 0}}, "C": {}}}
    assert list(problems_of(tree)) == [
        "augment.cutmix_alpha: augment.mixup_alpha mixes each batch already: set one of the two to 0",
        "train.lrr: unknown key; did you mean train.lr?",
        "split.test_pct: split.strategy is sorted-id, which needs a fraction here",
        "experiments.a.model.dropuot: unknown key; did you mean experiments.a.model.dropout?",
        "experiments.b.train.epochs: input should be greater than 0, got 0",
        f"experiments.C: {config.BAD_NAME}",
    ]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("train.decay_epoch", "did you mean train.decay_epochs?"),
        ("augment.p_flip", "did you mean augment.p_vflip or augment.p_hflip?"),
        ("augment.shar", "did you mean augment.shear?"),
        ("data.demo.n_health", "did you mean data.demo.n_healthy?"),
        ("predict.copies", "there is tta"),
    ],
)
def test_an_unknown_key_names_what_is_near(key: str, said: str) -> None:
    assert list(problems_of(merge(SHIPPED, unflatten({key: 1})))) == [f"{key}: unknown key; {said}"]
