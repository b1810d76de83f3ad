"""What a model card says of the training: every way of training, told from the config and the finished runs."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import finished_study
import pytest

from xraylab import files
from xraylab.model.names import built_by
from xraylab.params import config
from xraylab.params.config import ExperimentConfig, Params
from xraylab.params.train import OptimizerName, ScheduleName
from xraylab.report import provenance
from xraylab.report.records import Run
from xraylab.stages import evaluate, report

SHIPPED = Path(__file__).parents[2] / "params.yaml"
RUN = {
    **dict.fromkeys(field.name for field in fields(Run)),
    "repeat": 0,
    "lr_found": None,
    "last_epoch": 5,
    "frozen": {"layers_frozen": 20, "layers_in_all": 41, "parameters": 676_800},
    "hardware": {"precision": "float32"},
}


def told(changes: dict[str, Any], **facts: Any) -> list[str]:
    """The sentences on the shipped experiment with `changes`, whose only run says `facts`; or its `runs`."""
    tree = config.merge(files.read_yaml(SHIPPED), {**changes, "experiments": {}})
    tree["experiments"] = {"baseline": {}}
    given = Params.model_validate(tree)
    cfg = ExperimentConfig.model_validate(given.experiment("baseline").model_dump() | {"pretrained_sha256": None})
    runs = [Run(**run) for run in facts.get("runs", [RUN | facts])]
    return provenance.training(cfg, runs, built_by(cfg.model.arch))


def test_the_shipped_experiment_is_told_in_five_sentences() -> None:
    assert told({}) == [
        "Starts from random weights.",
        "6 epochs in one cycle with a peak learning rate of 0.001, with Adam and weight decay 0.0001.",
        "Cross-entropy.",
        "Batches of 32, in float32.",
        "Seed 0.",
    ]


SCHEDULES: dict[str, tuple[dict[str, Any], str]] = {
    "constant": ({}, "6 epochs at a constant learning rate of 0.001"),
    "one_cycle": ({}, "6 epochs in one cycle with a peak learning rate of 0.001"),
    "flat_cos": (
        {"pct_start": 0.75},
        "6 epochs at a learning rate of 0.001, with cosine decay after 75 % of them",
    ),
    "cosine_restarts": (
        {"cycle_len": 2, "cycle_mult": 3},
        "6 epochs of cosine annealing from a learning rate of 0.001, restarted after 2 epochs, each later cycle "
        "3 times as long",
    ),
    "step": (
        {"decay_epochs": 2, "decay_rate": 0.1},
        "6 epochs from a learning rate of 0.001, multiplied by 0.1 every 2 epochs",
    ),
    "plateau": (
        {"patience_epochs": 1, "decay_rate": 0.5},
        "6 epochs from a learning rate of 0.001, multiplied by 0.5 after 1 epoch without a lower validation loss",
    ),
    "fine_tune": (
        {"freeze_epochs": 1, "lr_mult": 100},
        "Fine-tuning: 1 epoch of the last layer only at up to 0.001, then 6 epochs of all unfrozen layers "
        "at up to half that rate, 100 times lower in the first layers",
    ),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_schedule_is_told(schedule: str) -> None:
    options, sentence = SCHEDULES[schedule]
    assert set(SCHEDULES) == set(ScheduleName.__args__)
    assert f"{sentence}, with Adam and weight decay 0.0001." in told(
        {"model": {"pretrained": "default"}, "train": {"schedule": schedule, **options}}
    )


OPTIMIZERS = {
    "adam": ("Adam", None),
    "adamw": ("AdamW", None),
    "sgd": ("SGD (momentum 0.9)", 0.9),
    "rmsprop": ("RMSprop (momentum 0)", 0),
    "adafactor": ("Adafactor", None),
    "ranger": ("Ranger", None),
    "lamb": ("LAMB", None),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimizer_is_told_with_its_momentum(optimizer: str) -> None:
    name, momentum = OPTIMIZERS[optimizer]
    assert set(OPTIMIZERS) == set(OptimizerName.__args__)
    said = told({"train": {"optimizer": optimizer, "momentum": momentum, "weight_decay": 0}})
    assert said[1].endswith(f", with {name} and no weight decay.")


def test_phases_are_told_and_not_what_they_override() -> None:
    phases = [
        {"schedule": "constant", "epochs": 2, "optimizer": "sgd", "momentum": 0.9, "frozen": True, "lr": 0.5},
        {"lr": 0.25, "weight_decay": 0.5},
    ]
    assert told({"model": {"pretrained": "default"}, "train": {"phases": phases}})[1] == (
        "Phase 1: 2 epochs at a constant learning rate of 0.5, training only the last layer, with SGD (momentum "
        "0.9) and "
        "weight decay 0.0001; phase 2: 6 epochs in one cycle with a peak learning rate of 0.25, with Adam and weight "
        "decay 0.5."
    )


def test_a_rate_that_was_found_is_told() -> None:
    found = "6 epochs in one cycle with a peak learning rate of {} (from fastai’s learning rate finder{})"
    changes = {"train": {"lr": "find"}}
    assert told(changes, lr_found=0.0014454)[1].startswith(found.format("0.0014", ""))
    runs = [RUN | {"repeat": repeat, "lr_found": rate} for repeat, rate in ((3, 0.0014454), (5, 0.002))]
    said = told(changes, runs=runs)
    assert said[1].startswith(found.format("0.0014 and 0.002", ", separately for each run"))
    assert said[-1] == "Seeds 3 and 5."
    phases = [{"epochs": 1}, {"lr": 0.5}]
    both = told({"train": {"lr": "find", "phases": phases}}, lr_found=0.0014454)[1]
    assert "0.0014 (from fastai’s" in both
    assert "a peak learning rate of 0.5," in both


FREEZES = {
    "upto head": ({"until": "head"}, "All layers but the head were frozen"),
    "upto a block": ({"until": "layer3"}, "Everything up to the end of layer3 was frozen"),
    "layers": ({"layer_fraction": 0.75}, "The first 75 % of the layers were frozen"),
    "blocks": ({"n_blocks": 4}, "Everything up to the end of block 4 was frozen"),
    "one block": ({"n_blocks": 1}, "Everything up to the end of block 1 was frozen"),
    "last blocks": ({"n_blocks": -2}, "Everything before the last 2 blocks was frozen"),
}


@pytest.mark.parametrize("freeze", FREEZES)
@pytest.mark.parametrize("norms", ["eval", "train"])
def test_what_was_frozen_is_told_with_its_size(freeze: str, norms: str) -> None:
    given, sentence = FREEZES[freeze]
    said = told({"model": {"pretrained": "default", "freeze": {**given, "batch_norm": norms}}})
    end = "; their batch norm layers kept adapting" if norms == "train" else ""
    assert said[1] == f"{sentence} (20 of 41 layers, 676\u202f800 parameters){end}."


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ({"pretrained": "none"}, "random weights"),
        ({"pretrained": "default"}, "the ImageNet weights of torchvision"),
        ({"pretrained": "default", "arch": "vit_b_16"}, "the weights of timm’s vit_base_patch16_224"),
        ({"pretrained": "default", "arch": "swin_tiny"}, "the weights of timm’s swin_tiny"),
        ({"pretrained": "other/start.pth"}, "the weights in other/start.pth"),
        ({"pretrained": "models/l2/0"}, "the best weights of the earlier run models/l2/0"),
    ],
)
def test_where_the_weights_came_from_is_told(model: dict[str, Any], sentence: str) -> None:
    assert told({"model": model})[0] == f"Starts from {sentence}."


def test_the_loss_and_its_weights_are_told() -> None:
    for loss, sentence in (
        ({"class_weights": "balanced"}, "Cross-entropy, classes weighted by inverse frequency."),
        (
            {"class_weights": [1, 2.5], "label_smoothing": 0.1},
            "Cross-entropy, label smoothing 0.1, class weights 1 and 2.5.",
        ),
        ({"name": "focal", "focal_gamma": 2, "l2": 0.01}, "Focal loss, gamma 2, L2 penalty 0.01."),
    ):
        assert told({"loss": loss})[2] == sentence


def test_steps_and_precision_are_told() -> None:
    assert told({"train": {"grad_accum": 4, "grad_clip": 1}}, hardware={"precision": "bfloat16"})[3] == (
        "Batches of 32, gradients accumulated over 4 batches (128 images per step), gradients clipped to a norm "
        "of 1, in "
        "bfloat16 mixed precision."
    )
    runs = [RUN, RUN | {"repeat": 1, "hardware": {"precision": "bfloat16"}}]
    assert told({}, runs=runs)[3] == "Batches of 32, in float32 and bfloat16 mixed precision."


def test_averaged_weights_are_told() -> None:
    for key, value, sentence in (
        ("ema_decay", 0.999, "Weights are an exponential moving average (decay 0.999)."),
        ("swa_epochs", 3, "After the last epoch, the weights of the last 3 were averaged."),
        ("soup_epochs", 2, "After the last epoch, the weights of the best 2 were averaged."),
    ):
        assert told({"train": {key: value}})[4] == sentence


def test_early_stopping_is_told_with_what_became_of_it() -> None:
    stop = "Early stopping after 2 epochs without a better validation F1; "
    assert told({"train": {"early_stop_patience": 2}})[4] == stop + "all 6 epochs were trained."
    assert told({"train": {"early_stop_patience": 2}}, last_epoch=3)[4] == stop + "this run stopped after 4 of 6."
    runs = [RUN | {"last_epoch": last} for last in (3, 5, 2)]
    assert told({"train": {"early_stop_patience": 2}}, runs=runs)[4] == stop + "2 runs stopped after 4 and 3 of 6."
    lower = told({"train": {"early_stop_patience": 1, "monitor": "valid_loss"}})[4]
    assert lower == "Early stopping after 1 epoch without a lower validation loss; all 6 epochs were trained."
    phases = [{"epochs": 1}, {"schedule": "fine_tune", "freeze_epochs": 2, "lr_mult": 10, "epochs": 3}]
    pretrained = {"pretrained": "default"}
    said = told({"model": pretrained, "train": {"early_stop_patience": 2, "phases": phases}}, last_epoch=4)[4]
    assert said == stop + "this run stopped after 5 of 6."


def test_cards_and_checklist_tell_what_each_experiment_overrides(tmp_path: Path) -> None:
    changes = {
        "train": {"lr": "find"},
        "experiments": {"l2": {"train": {"monitor": "valid_loss", "lr": 0.5}, "model": {"arch": "vit_b_16"}}},
    }
    given, paths = finished_study.make(tmp_path, changes)
    evaluate.run(given, paths)
    report.run(given, paths)
    cards = {name: (paths.cards / f"{name}.md").read_text(encoding="utf-8") for name in ("baseline", "l2")}
    assert "a peak learning rate of 0.0014 (from fastai’s learning rate finder)" in cards["baseline"]
    assert "- Selected: the epoch with the best F1 on the validation images." in cards["baseline"]
    assert "a peak learning rate of 0.5, with Adam" in cards["l2"]
    assert "- Selected: the epoch with the lowest loss on the validation images." in cards["l2"]
    page = paths.report.read_text(encoding="utf-8")
    assert (
        "baseline: the epoch with the best F1 on the validation images; "
        "l2: the epoch with the lowest loss on the validation images</td>"
    ) in page
