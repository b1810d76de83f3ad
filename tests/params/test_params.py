"""params.yaml is strict, and says everything that is wrong with it at once."""

from pathlib import Path

import pytest
import small
from refused import problems

from xraylab.params import config
from xraylab.params.config import OVERRIDABLE, Experiment


def test_the_shipped_file_is_the_tb_study() -> None:
    shipped = config.read(small.REPOSITORY / "params.yaml")
    assert list(shipped.experiments) == ["baseline", "l2", "dropout", "sharpness", "contrast"]
    assert shipped.experiment("baseline") == Experiment(
        **{name: getattr(shipped, name).resolved() for name in OVERRIDABLE}
    )
    assert shipped.experiment("dropout").model.dropout == 0.5
    assert shipped.experiment("l2").loss.l2 == 0.001
    assert shipped.train.lr == 1e-3  # YAML 1.2: a number, not the text '1e-3'


def test_every_problem_is_reported_at_once_under_its_dotted_path(tmp_path: Path) -> None:
    def spoil(tree: small.Tree) -> None:
        tree["train"].update(lrr=1, epochs=0, schedule="cyclic", lr="fast")
        tree["modle"] = {}
        del tree["images"]["resize_method"]
        tree["data"]["classes"] = ["Healthy", "<b>"]

    assert sorted(problems(tmp_path, spoil)) == [
        "data.classes.1: a class name is a folder name of letters, digits, spaces and _ . ( ) -, got '<b>'",
        "images.resize_method: missing; it has no default outside params.yaml",
        "modle: unknown key; did you mean model?",
        "train.epochs: input should be greater than 0, got 0",
        "train.lr: input should be 'find', got 'fast'",
        "train.lr: input should be a valid number, got 'fast'",
        "train.lrr: unknown key; did you mean train.lr?",
        "train.schedule: input should be 'constant', 'one_cycle', 'flat_cos', 'cosine_restarts', 'step', 'plateau' or "
        "'fine_tune', got 'cyclic'",
    ]


def test_experiments_are_checked_under_their_own_names(tmp_path: Path) -> None:
    def spoil(tree: small.Tree) -> None:
        tree["experiments"]["a; rm -rf x"] = {}
        tree["experiments"]["typo"] = {"train": {"lrr": 1}}
        tree["experiments"]["elsewhere"] = {"images": {"size": 32}}
        tree["experiments"]["tuned"] = {"train": {"schedule": "fine_tune", "freeze_epochs": None}}

    assert problems(tmp_path, spoil) == [
        "experiments.a; rm -rf x: a name is up to 64 lower-case letters, digits, - and _, "
        "and begins with a letter or digit; it becomes a folder and part of a command",
        "experiments.typo.train.lrr: unknown key; did you mean experiments.typo.train.lr?",
        "experiments.elsewhere.images: unknown key; there is model, augment, sampling, loss, train",
        "experiments.tuned.train.freeze_epochs: train.schedule is fine_tune, which needs a number here",
    ]


@pytest.mark.parametrize("name", ["$(reboot)", "a b", "-x", "Ä", "x" * 65, "a'b", "../up", ""])
def test_names_that_a_shell_or_a_folder_would_misread_are_refused(name: str, tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, lambda tree: tree["experiments"].update({name: {}}))
    assert problem.startswith(f"experiments.{name}: a name is up to 64 lower-case letters")


FINE_TUNE = {"schedule": "fine_tune", "freeze_epochs": 1, "lr_mult": 10}


def upto_head(tree: small.Tree) -> None:
    tree["model"]["pretrained"] = "default"
    tree["model"]["freeze"]["until"] = "head"


CONTRADICTIONS = {
    "weights for other classes": (
        lambda tree: tree["loss"].update(class_weights=[1.0, 2.0, 3.0]),
        "loss.class_weights: 3 weights for the classes Healthy, TB",
    ),
    "features of images that change": (
        lambda tree: (
            tree["model"].update(pretrained="default"),
            tree["model"]["freeze"].update(until="head", cache=True),
            tree["augment"].update(mixup_alpha=0.2, crop_scale=0.8),
            tree.update(experiments={"baseline": {}}),
        ),
        "model.freeze.cache: augment.crop_scale and augment.mixup_alpha shows the frozen part another image in every "
        "epoch, so its output cannot be computed once: switch that off, or set this to false",
    ),
    "two ways of mixing": (
        lambda tree: tree["augment"].update(mixup_alpha=0.2, cutmix_alpha=1.0),
        "augment.cutmix_alpha: augment.mixup_alpha mixes each batch already: set one of the two to 0",
    ),
    "a focal loss without its gamma": (
        lambda tree: tree["loss"].update(name="focal", focal_gamma=None),
        "loss.focal_gamma: loss.name is focal, which needs a number here",
    ),
    "a step without its length": (
        lambda tree: tree["train"].update(schedule="step", decay_epochs=None),
        "train.decay_epochs: train.schedule is step, which needs a number here",
    ),
    "an unknown key of a phase": (
        lambda tree: tree["train"].update(phases=[{"epochs": 1}, {"optimiser": "sgd"}]),
        "train.phases.1.optimiser: unknown key; did you mean train.phases.1.optimizer?",
    ),
    "a wrong value in a phase": (
        lambda tree: tree["train"].update(phases=[{"epochs": 0}]),
        "train.phases.0.epochs: input should be greater than 0, got 0",
    ),
    "a phase that lacks what its optimizer needs": (
        lambda tree: tree["train"].update(momentum=None, phases=[{}, {"optimizer": "sgd"}]),
        "train.phases.1.momentum: train.optimizer is sgd, which needs a number here",
    ),
    "a best epoch that never comes": (
        lambda tree: tree["train"].update(phases=[{"epochs": 2}, {"epochs": 3}], min_epochs=5),
        "train.min_epochs: 5 of 5 epochs leave none to be the best: lower it",
    ),
    "more epochs to average than there are": (
        lambda tree: tree["train"].update(swa_epochs=3),
        "train.swa_epochs: there are only 2 epochs to average 3 of: lower it",
    ),
    "a soup of more epochs than may be the best": (
        lambda tree: tree["train"].update(epochs=4, min_epochs=2, soup_epochs=3),
        "train.soup_epochs: there are only 2 epochs to average the best 3 of: lower it",
    ),
    "a patience that outlasts the run": (
        lambda tree: tree["train"].update(epochs=6, min_epochs=1, early_stop_patience=4),
        "train.early_stop_patience: the 6 epochs are over before 4 can have passed without a better one: lower it, or "
        "set it to null",
    ),
    "a patience that outlasts the last phase": (
        lambda tree: tree["train"].update(phases=[{"epochs": 9}, {"epochs": 3}], early_stop_patience=3),
        "train.early_stop_patience: the 12 epochs are over before 3 can have passed without a better one: lower it, or "
        "set it to null",
    ),
    "a rate that never falls by steps": (
        lambda tree: tree["train"].update(schedule="step", epochs=5, decay_epochs=5, decay_rate=0.1),
        "train.decay_epochs: after 5 of 5 epochs no rate is left to fall: lower it",
    ),
    "a rate that never falls from a plateau": (
        lambda tree: tree["train"].update(schedule="plateau", epochs=5, patience_epochs=4, decay_rate=0.1),
        "train.patience_epochs: the rate falls after 5 epochs at the earliest, and there are 5: lower it, or raise "
        "epochs",
    ),
    "restarts without a second cycle": (
        lambda tree: tree["train"].update(schedule="cosine_restarts", epochs=5, cycle_len=5, cycle_mult=2),
        "train.cycle_mult: the first cycle takes all 5 epochs, so that there is no longer one: set it to 1",
    ),
    "a random body frozen at first": (
        lambda tree: tree["train"].update(FINE_TUNE),
        "train.freeze_epochs: model.pretrained is none, so what would be frozen has learnt nothing: set "
        "model.pretrained to default or a file, or begin with a schedule that trains everything",
    ),
    "a random body frozen in the first phase": (
        lambda tree: tree["train"].update(phases=[{"frozen": True}, {"frozen": True}]),
        "train.phases.0.frozen: model.pretrained is none, so what would be frozen has learnt nothing: set "
        "model.pretrained to default or a file, or begin with a schedule that trains everything",
    ),
    "nothing to unfreeze": (
        lambda tree: (upto_head(tree), tree["train"].update(FINE_TUNE)),
        "train.schedule: model.freeze.until: head leaves nothing for fine_tune to unfreeze or to slow: take another, "
        "such as one_cycle, or set that to null",
    ),
    "nothing to freeze in a phase": (
        lambda tree: (upto_head(tree), tree["train"].update(phases=[{}, {"frozen": True}])),
        "train.phases.1.frozen: model.freeze.until: head freezes the same throughout: set one of the two to false or "
        "null",
    ),
    "a frozen phase that unfreezes": (
        lambda tree: tree["train"].update(phases=[{"epochs": 2}, {"frozen": True, **FINE_TUNE}]),
        "train.phases.1.frozen: fine_tune unfreezes after freeze_epochs: set it to false, or take another schedule",
    ),
    "weights that weigh nothing": (
        lambda tree: tree["loss"].update(class_weights=[2.0, 2.0]),
        "loss.class_weights: all classes weigh the same, which is what none does: set it to none",
    ),
    "a sharpness that sharpens nothing": (
        lambda tree: (tree["augment"].update(sharpness_factor=1.0), tree["augment"].update(p_sharpness=0.5)),
        "augment.sharpness_factor: 1 leaves every image as it is: set it to another factor, or augment.p_sharpness to "
        "0",
    ),
    "a scale from more to less": (
        lambda tree: tree["augment"].update(scale=[1.1, 0.9]),
        "augment.scale: the lower bound comes first, got [1.1, 0.9]",
    ),
    "copies that are all alike": (
        lambda tree: (
            tree["predict"].update(tta=4),
            tree["augment"].update(mixup_alpha=0.4, noise_std=0.1, p_erase=0.5),
            tree.update(experiments={"baseline": {}}),
        ),
        "predict.tta: no experiment's augmentation changes a copy (noise, erasing, histogram matching, mixup and "
        "cutmix are left out of them), so all would be alike: set it to 0",
    ),
    "copies that every experiment makes alike": (
        lambda tree: (
            tree["predict"].update(tta=4),
            tree["augment"].update(contrast=0.4),
            tree.update(experiments={"baseline": {"augment": {"contrast": 0.0}}}),
        ),
        "predict.tta: no experiment's augmentation changes a copy (noise, erasing, histogram matching, mixup and "
        "cutmix are left out of them), so all would be alike: set it to 0",
    ),
    "more pixels than are kept": (
        lambda tree: tree["model"].update(img_size=64),
        "model.img_size: 64 is more than images.size (32): raise images.size",
    ),
    "nothing to select on": (
        lambda tree: tree["split"].update(valid_pct=0),
        "train.monitor: there are no validation images for valid_f1 (split.valid_pct is 0): set split.valid_pct to a "
        "fraction such as 0.15, or train.monitor to test_f1, the published mode",
    ),
    "a positive class that is none": (
        lambda tree: tree["data"].update(positive="Tuberculosis"),
        "data.positive: must be one of Healthy, TB, got 'Tuberculosis'",
    ),
    "a positive class among three": (
        lambda tree: tree["data"].update(classes=["A", "B", "C"], positive="A"),
        "data.positive: must be null with more than two classes, whose F1 is the mean over classes",
    ),
    "an unknown baseline": (
        lambda tree: tree["study"].update(baseline="base"),
        "study.baseline: 'base' is not one of the experiments",
    ),
    "labels of other classes": (
        lambda tree: tree["data"].update(labels={"Healthy": ["health"], "Sick": ["sick"]}),
        "data.labels: needs the keys Healthy, TB, has Healthy, Sick",
    ),
    "a label of two classes": (
        lambda tree: tree["data"].update(labels={"Healthy": ["health"], "TB": ["tb", "health"]}),
        "data.labels: 'health' is listed twice",
    ),
    "no test fraction": (
        lambda tree: tree["split"].update(test_pct=None),
        "split.test_pct: split.strategy is sorted-id, which needs a fraction here",
    ),
    "folds without their number": (
        lambda tree: tree["split"].update(strategy="folds", folds=None),
        "split.folds: split.strategy is folds, which needs a number here",
    ),
    "a validation split that nobody gives": (
        lambda tree: tree["split"].update(valid_pct=None),
        "split.valid_pct: null keeps the given validation split, which split.strategy given alone has",
    ),
    "percentiles the wrong way round": (
        lambda tree: tree["images"].update(clip_percentiles=[99.0, 1.0]),
        "images.clip_percentiles: the lower percentile comes first, got [99.0, 1.0]",
    ),
    "a normal class that is none": (
        lambda tree: tree["evaluate"].update(negative_class="Normal"),
        "evaluate.negative_class: must be one of Healthy, TB, or null, got 'Normal'",
    ),
    "a normal class that is looked for": (
        lambda tree: tree["evaluate"].update(negative_class="TB"),
        "evaluate.negative_class: is data.positive, the class that is looked for; set it to null",
    ),
    "one prevalence of three classes": (
        lambda tree: (
            tree["data"].update(classes=["A", "B", "C"], positive=None),
            tree["evaluate"].update(prevalence=0.1),
        ),
        "evaluate.prevalence: with more than two classes it needs a list, one per class in their order",
    ),
    "prevalences of other classes": (
        lambda tree: tree["evaluate"].update(prevalence=[0.2, 0.3, 0.5]),
        "evaluate.prevalence: 3 shares for the classes Healthy, TB",
    ),
    "prevalences that are no shares": (
        lambda tree: tree["evaluate"].update(prevalence=[0.2, 0.3]),
        "evaluate.prevalence: must sum to 1, sums to 0.5",
    ),
    "bands that fall": (
        lambda tree: tree["evaluate"].update(age_bands=[40, 18]),
        "evaluate.age_bands: must rise, got [40, 18]",
    ),
    "a goal with two ends": (
        lambda tree: tree["evaluate"].update(goals={"at_least": {"f1": 0.8}, "at_most": {"f1": 0.9}}),
        "evaluate.goals: f1 is in at_least and in at_most",
    ),
    "a class that is called like a mean": (
        lambda tree: tree["data"].update(classes=["Healthy", "macro"], positive="macro"),
        "data.classes: macro names metrics of all classes; call the class otherwise",
    ),
    "a pattern without a patient": (
        lambda tree: tree["data"].update(patient=r"(\d+)"),
        "data.patient: has no group (?P<patient>...), got '(\\\\d+)'",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions_are_named_with_their_remedy(case: str, tmp_path: Path) -> None:
    change, message = CONTRADICTIONS[case]
    assert problems(tmp_path, change) == [message]


ALLOWED = {
    "the last epoch but one may stop it": {"epochs": 6, "min_epochs": 1, "early_stop_patience": 3},
    "a last phase may stop after its first epoch": {"phases": [{"epochs": 9}, {"epochs": 3}], "early_stop_patience": 2},
    "one fall": {"schedule": "step", "epochs": 5, "decay_epochs": 4, "decay_rate": 0.1},
    "one fall from a plateau": {"schedule": "plateau", "epochs": 5, "patience_epochs": 3, "decay_rate": 0.1},
    "a cosine alone": {"schedule": "cosine_restarts", "epochs": 5, "cycle_len": 5, "cycle_mult": 1},
    "one phase uses it": {"decay_rate": 0.1, "phases": [{"schedule": "step", "decay_epochs": 1}, {}]},
    "a body that the phase before has trained": {"phases": [{"epochs": 2}, {"frozen": True}, FINE_TUNE]},
    "as many as there are": {"epochs": 4, "min_epochs": 1, "soup_epochs": 3, "swa_epochs": 4, "ema_decay": 0.9},
}


@pytest.mark.parametrize("case", ALLOWED)
def test_what_something_comes_of_is_allowed(case: str, tmp_path: Path) -> None:
    study = small.study(tmp_path, lambda tree: tree["train"].update(ALLOWED[case]))
    assert config.read(study / "params.yaml").train.model_dump(include=set(ALLOWED[case])) == ALLOWED[case]


def test_published_mode_needs_no_validation_split(tmp_path: Path) -> None:
    def publish(tree: small.Tree) -> None:
        tree["split"]["valid_pct"] = 0
        tree["train"]["monitor"] = "test_f1"

    assert config.read(small.study(tmp_path, publish) / "params.yaml").split.valid_pct == 0
