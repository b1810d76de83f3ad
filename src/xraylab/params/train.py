"""The section `train` of params.yaml, and what no single key of it can know."""

import difflib
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from xraylab.params.images import BATCHWISE, Augment, augment_contradictions
from xraylab.params.loss import Loss, loss_contradictions
from xraylab.params.model import Freeze, Model
from xraylab.params.section import Fraction, Section, belongs

ScheduleName = Literal["constant", "one_cycle", "flat_cos", "cosine_restarts", "step", "plateau", "fine_tune"]
OptimizerName = Literal["adam", "adamw", "sgd", "rmsprop", "ranger", "lamb"]
# which schedules use which options, and which optimizers take a momentum that is a parameter
OPTIONS: dict[str, tuple[str, ...]] = {
    "freeze_epochs": ("fine_tune",),
    "lr_mult": ("fine_tune",),
    "flat_share": ("flat_cos",),
    "cycle_epochs": ("cosine_restarts",),
    "cycle_mult": ("cosine_restarts",),
    "decay_epochs": ("step",),
    "decay_patience": ("plateau",),
    "decay_factor": ("step", "plateau"),
}
HEAD = "head"  # of model.freeze.upto: all but the head
WITH_MOMENTUM = ("sgd", "rmsprop")


class Course(Section):
    """Some epochs under one schedule and one optimizer."""

    schedule: ScheduleName
    epochs: PositiveInt
    lr: PositiveFloat | Literal["find"]
    freeze_epochs: PositiveInt | None
    lr_mult: Annotated[float, Field(ge=1)] | None
    flat_share: Fraction | None
    cycle_epochs: PositiveInt | None
    cycle_mult: PositiveInt | None
    decay_epochs: PositiveInt | None
    decay_patience: PositiveInt | None
    decay_factor: Annotated[float, Field(gt=0, lt=1)] | None
    optimizer: OptimizerName
    momentum: Fraction | None
    weight_decay: NonNegativeFloat


class TrainPhase(Course):
    """One of several such courses, perhaps with all but the head frozen."""

    frozen: bool

    @property
    def all_epochs(self) -> int:
        """Those before `epochs`, in which the head alone is trained, included."""
        return self.epochs + (self.freeze_epochs or 0)


class Train(Course):
    phases: Annotated[list[dict[str, Any]], Field(min_length=1)] | None
    batch_size: Annotated[int, Field(ge=2)]
    accumulate: PositiveInt
    clip: PositiveFloat | None
    ema: Annotated[float, Field(gt=0, lt=1)] | None
    swa: Annotated[int, Field(ge=2)] | None
    soup: Annotated[int, Field(ge=2)] | None
    early_stop: PositiveInt | None
    min_epochs: NonNegativeInt
    select_on: Literal["valid", "test"]
    select_by: Literal["f1", "accuracy", "loss"]
    keep: Literal["best_and_last", "all"]
    precision: Literal["auto", "float32", "tf32", "bfloat16", "float16"]


def phases(train: Train) -> list[TrainPhase]:
    """What is trained one after another: `train.phases`, or the one that `train` itself describes.

    A phase takes what it does not name from `train`, in so far as its own schedule and optimizer use it.
    Errors: ValidationError.
    """
    return [_phase(train, overrides) for overrides in train.phases or [{}]]


def _phase(train: Train, overrides: dict[str, Any]) -> TrainPhase:
    taken = {name: getattr(train, name) for name in Course.model_fields}
    whole = {"frozen": False, **taken, **overrides}
    if train.phases is not None:
        unused = {name for name, users in OPTIONS.items() if whole["schedule"] not in users}
        unused |= set() if whole["optimizer"] in WITH_MOMENTUM else {"momentum"}
        whole |= dict.fromkeys(unused - set(overrides))
    return TrainPhase.model_validate(whole)


def contradictions(model: Model, augment: Augment, loss: Loss, train: Train, classes: list[str]) -> dict[str, str]:
    """What no single key can know: dotted key -> problem."""
    of_options = _of_phases(train) if train.phases else _below("train", _of_options(train))
    of_phases = {} if of_options else {**_of_unused(train), **_of_course(train, model), **_of_epochs(train)}
    return {
        **augment_contradictions(augment),
        **loss_contradictions(loss, classes),
        **_of_sources(model, augment, loss),
        **of_options,
        **of_phases,
    }


def _below(where: str, problems: dict[str, str]) -> dict[str, str]:
    return {f"{where}.{key}": problem for key, problem in problems.items()}


def _of_sources(model: Model, augment: Augment, loss: Loss) -> dict[str, str]:
    """Losses that look at sources, which mixed images have two of."""
    found = {}
    mixed = [f"augment.{name}" for name in BATCHWISE if getattr(augment, name) > 0]
    for name in ("group_dro_step", "coral_weight"):
        if getattr(loss, name) > 0 and mixed:
            found[f"loss.{name}"] = f"{mixed[0]} mixes images of several sources: set one of the two to 0"
    if loss.coral_weight > 0 and model.freeze.upto == HEAD:
        found["loss.coral_weight"] = "model.freeze.upto: head freezes the features that it would align: set it to 0"
    return found


def _of_options(phase: Course) -> dict[str, str]:
    """Options that the schedule or the optimizer lacks, or has no use for."""
    found = {}
    for option, users in OPTIONS.items():
        if (phase.schedule in users) != ((value := getattr(phase, option)) is not None):
            found[option] = belongs("train.schedule", phase.schedule if value is None else " or ".join(users), value)
    if (phase.optimizer in WITH_MOMENTUM) != (phase.momentum is not None):
        choice = phase.optimizer if phase.momentum is None else " or ".join(WITH_MOMENTUM)
        found["momentum"] = belongs("train.optimizer", choice, phase.momentum)
    return found


def _of_phases(train: Train) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, overrides in enumerate(train.phases or ()):
        where = f"train.phases.{number}"
        unknown = {key: _unknown(key, where) for key in overrides if key not in TrainPhase.model_fields}
        try:
            problems = unknown or _of_options(_phase(train, overrides))
        except ValidationError as error:
            problems = {".".join(map(str, item["loc"][:1])): _said(item) for item in error.errors()}
        found |= _below(where, problems)
    return found


def _of_unused(train: Train) -> dict[str, str]:
    """Options of `train` that every phase names itself, or has no use for."""
    if train.phases is None:
        return {}
    inherited = [
        name
        for overrides, phase in zip(train.phases, phases(train), strict=True)
        for name in (*OPTIONS, "momentum")
        if name not in overrides and getattr(phase, name) is not None
    ]
    unused = [name for name in (*OPTIONS, "momentum") if getattr(train, name) is not None and name not in inherited]
    return {f"train.{name}": "no phase of train.phases uses it; set it to null" for name in unused}


def _of_course(train: Train, model: Model) -> dict[str, str]:
    """What each phase does, or would have to do and cannot."""
    found: dict[str, str] = {}
    for number, phase in enumerate(phases(train)):
        where = f"train.phases.{number}" if train.phases else "train"
        found |= _below(where, {**_of_length(phase), **_of_frozen(phase, model.freeze)})
        if number == 0 and model.pretrained == "none" and (phase.frozen or phase.freeze_epochs):
            found[f"{where}.{'frozen' if phase.frozen else 'freeze_epochs'}"] = (
                "model.pretrained is none, so what would be frozen has learnt nothing: set model.pretrained to default "
                "or a file, or begin with a schedule that trains everything"
            )
    return found


def _of_length(phase: TrainPhase) -> dict[str, str]:
    """Options that nothing can come of before the phase ends."""
    epochs, decay, patience, cycle = phase.epochs, phase.decay_epochs, phase.decay_patience, phase.cycle_epochs
    found = {}
    if decay is not None and decay >= epochs:
        found["decay_epochs"] = f"after {decay} of {epochs} epochs no rate is left to fall: lower it"
    if patience is not None and patience > epochs - 2:
        found["decay_patience"] = (
            f"the rate falls after {patience + 1} epochs at the earliest, and there are {epochs}: lower it, or raise "
            "epochs"
        )
    if cycle is not None and cycle >= epochs and phase.cycle_mult != 1:
        found["cycle_mult"] = f"the first cycle takes all {epochs} epochs, so that there is no longer one: set it to 1"
    return found


def _of_frozen(phase: TrainPhase, freeze: Freeze) -> dict[str, str]:
    """Parts that are to be frozen, thawed or slowed, and are frozen otherwise."""
    found = {}
    if freeze.upto == HEAD and phase.schedule == "fine_tune":
        found["schedule"] = (
            "model.freeze.upto: head leaves nothing for fine_tune to unfreeze or to slow: take another, such as "
            "one_cycle, or set that to null"
        )
    if freeze.upto == HEAD and phase.frozen:
        found["frozen"] = "model.freeze.upto: head freezes the same throughout: set one of the two to false or null"
    if phase.frozen and phase.schedule == "fine_tune":
        found["frozen"] = "fine_tune unfreezes after freeze_epochs: set it to false, or take another schedule"
    return found


def _unknown(key: str, where: str) -> str:
    known = list(TrainPhase.model_fields)
    near = difflib.get_close_matches(key, known, n=1)
    return f"unknown key; did you mean {where}.{near[0]}?" if near else f"unknown key; there is {', '.join(known)}"


def _said(item: Any) -> str:
    return f"{item['msg'][0].lower()}{item['msg'][1:]}, got {item['input']!r}"


def _of_epochs(train: Train) -> dict[str, str]:
    """Numbers of epochs that do not fit together."""
    course = phases(train)
    epochs = sum(phase.all_epochs for phase in course)
    found = {}
    if train.min_epochs >= epochs:
        found["train.min_epochs"] = f"{train.min_epochs} of {epochs} epochs leave none to be the best: lower it"
    if train.swa is not None and train.swa > epochs:
        found["train.swa"] = f"there are only {epochs} epochs to average {train.swa} of: lower it"
    if train.soup is not None and train.soup > max(epochs - train.min_epochs, 0):
        found["train.soup"] = (
            f"there are only {epochs - train.min_epochs} epochs to average the best {train.soup} of: lower it"
        )
    waiting = _waits_from(train.min_epochs, epochs - course[-1].epochs)
    if train.early_stop is not None and waiting + train.early_stop > epochs - 2:
        found["train.early_stop"] = (
            f"the {epochs} epochs are over before {train.early_stop} can have passed without a better one: lower it, "
            "or set it to null"
        )
    return found


def _waits_from(min_epochs: int, last_phase: int) -> int:
    """The earliest epoch after which patience counts: the first that may be the best, or the one before a last phase.

    In a phase that follows others the best epoch may lie before it.
    """
    return min_epochs if min_epochs >= last_phase else last_phase - 1
