"""The section `train` of params.yaml: one course of epochs, or several phases one after another."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError

from xraylab.params import messages
from xraylab.params.data import Data
from xraylab.params.names import CallbackName
from xraylab.params.section import (
    MANY,
    Count,
    CountOrZero,
    Epochs,
    Fraction,
    NonNegative,
    Option,
    Positive,
    Problem,
    Section,
)
from xraylab.task import MULTI_LABEL, is_multi

ScheduleName = Literal["constant", "one_cycle", "flat_cos", "cosine_restarts", "step", "plateau", "fine_tune"]
OF_FINDINGS = ("auroc", "auprc")  # monitored metrics of multi-label studies alone
OptimizerName = Literal["adam", "adamw", "sgd", "rmsprop", "adafactor", "ranger", "lamb"]


class Course(Section):
    """Some epochs under one schedule and one optimizer."""

    OPTIONS: ClassVar = {
        "freeze_epochs": Option("train.schedule", ("fine_tune",)),
        "lr_mult": Option("train.schedule", ("fine_tune",)),
        "pct_start": Option("train.schedule", ("flat_cos",)),
        "cycle_len": Option("train.schedule", ("cosine_restarts",)),
        "cycle_mult": Option("train.schedule", ("cosine_restarts",)),
        "decay_epochs": Option("train.schedule", ("step",)),
        "patience_epochs": Option("train.schedule", ("plateau",)),
        "decay_rate": Option("train.schedule", ("step", "plateau")),
        "momentum": Option("train.optimizer", ("sgd", "rmsprop")),
    }

    schedule: ScheduleName
    epochs: Epochs
    lr: Positive | Literal["find"]
    freeze_epochs: Epochs | None
    lr_mult: Annotated[float, Field(ge=1, le=MANY)] | None
    pct_start: Fraction | None
    cycle_len: Epochs | None
    cycle_mult: Epochs | None
    decay_epochs: Epochs | None
    patience_epochs: Epochs | None
    decay_rate: Annotated[float, Field(gt=0, lt=1)] | None
    optimizer: OptimizerName
    momentum: Fraction | None
    weight_decay: NonNegative

    @property
    def schedule_options(self) -> dict[str, Any]:
        """The options that the schedule uses, by name."""
        return {
            name: getattr(self, name)
            for name, (chooser, choices, _) in self.OPTIONS.items()
            if chooser == "train.schedule" and self.schedule in choices
        }


class TrainPhase(Course):
    """One of several such courses, perhaps with all but the head frozen."""

    frozen: bool

    @property
    def all_epochs(self) -> int:
        """Those before `epochs`, in which the head alone is trained, included."""
        return self.epochs + (self.freeze_epochs or 0)

    def problems(self) -> Iterator[Problem]:
        """Options that are missing, or that nothing can come of before the phase ends."""
        yield from super().problems()
        course, epochs = self.resolved(), self.epochs
        decay, patience, cycle = course.decay_epochs, course.patience_epochs, course.cycle_len
        if decay is not None and decay >= epochs:
            yield "decay_epochs", f"after {decay} of {epochs} epochs no rate is left to fall: lower it"
        if patience is not None and patience > epochs - 2:
            yield (
                "patience_epochs",
                f"the rate falls after {patience + 1} epochs at the earliest, and there are {epochs}: lower it, or "
                "raise epochs",
            )
        if cycle is not None and cycle >= epochs and course.cycle_mult not in (1, None):
            yield (
                "cycle_mult",
                f"the first cycle takes all {epochs} epochs, so that there is no longer one: set it to 1",
            )
        if self.frozen and self.schedule == "fine_tune":
            yield "frozen", "fine_tune unfreezes after freeze_epochs: set it to false, or take another schedule"


class Train(Course):
    OFF: ClassVar = {"sync_bn": False}

    phases: Annotated[list[dict[str, Any]], Field(min_length=1)] | None
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)]
    grad_accum: Count
    grad_clip: Positive | None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None
    swa_epochs: Annotated[int, Field(ge=2, le=100_000)] | None
    soup_epochs: Annotated[int, Field(ge=2, le=100_000)] | None
    early_stop_patience: Epochs | None
    min_epochs: CountOrZero
    monitor: Literal[
        "valid_f1", "valid_accuracy", "valid_loss", "valid_auroc", "valid_auprc",
        "test_f1", "test_accuracy", "test_loss", "test_auroc", "test_auprc",
    ]  # fmt: skip
    checkpoints: Literal["best_and_last", "all"]
    callbacks: dict[CallbackName, dict[str, Any]]
    precision: Literal["auto", "float32", "tf32", "bfloat16", "float16"]
    compile: bool
    grad_checkpointing: bool
    devices: Literal["auto", "all"] | Count
    sync_bn: bool

    @property
    def on_one_device(self) -> bool:
        """Whether the training is sure to run on one device; how many `all` are is the machine's to say."""
        return self.devices in ("auto", 1)

    @property
    def monitored_split(self) -> str:
        """The split that selects the best epoch: valid, or in published mode test."""
        return self.monitor.partition("_")[0]

    @property
    def monitored_metric(self) -> str:
        """The metric that selects it: f1, accuracy or loss, of findings also auroc and auprc."""
        return self.monitor.partition("_")[2]

    def where(self, number: int) -> str:
        """The path of a phase below `train`, with its last dot."""
        return f"phases.{number}." if self.phases else ""

    def problems(self) -> Iterator[Problem]:
        course: list[TrainPhase] = []
        problems: list[Problem] = []
        for number, overrides in enumerate(self.phases or [{}]):
            try:
                course.append(_phase(self, overrides))
            except ValidationError as error:
                wrong = messages.problems(error, TrainPhase, f"train.{self.where(number)}")
                problems += [(key.removeprefix("train."), text) for key, text in wrong]
        if isinstance(self.devices, int) and self.batch_size < 2 * self.devices:
            problems.append(("batch_size", f"{self.devices} devices share it, two images or more each: raise it"))
        yield from problems or self._of_epochs(course)

    def misfits(self, data: Data) -> Iterator[Problem]:
        """A monitor that one label per image has no value for."""
        if self.monitored_metric in OF_FINDINGS and not is_multi(data.task):
            yield (
                "monitor",
                f"{self.monitored_metric} is recorded with data.task: {MULTI_LABEL} alone: take "
                f"{self.monitored_split}_f1, {self.monitored_split}_accuracy or {self.monitored_split}_loss",
            )

    def unused(self) -> dict[str, str]:
        """With phases, an option of `train` that each phase names itself or has no use for, and those of each phase."""
        alone = {"sync_bn": f"devices {self.devices}"} if self.on_one_device else {}
        if self.phases is None:
            return super().unused() | alone
        idle = [_phase(self, overrides).unused() for overrides in self.phases]
        options = {
            key: "any phase of train.phases"
            for key in Course.model_fields
            if all(key in overrides or key in each for overrides, each in zip(self.phases, idle, strict=True))
        }
        for number, each in enumerate(idle):
            options |= {self.where(number) + key: choice for key, choice in each.items()}
        return options | alone

    def resolved(self) -> "Train":
        """With phases, each written out whole; the keys that they share are then the first one's."""
        if self.phases is None:
            return super().resolved()
        course = [phase.model_dump() for phase in phases(self)]
        first = {key: value for key, value in course[0].items() if key in Course.model_fields}
        return self.model_copy(update={**first, "phases": course, "sync_bn": self.sync_bn and not self.on_one_device})

    def _of_epochs(self, course: list[TrainPhase]) -> Iterator[Problem]:
        """Numbers of epochs that do not fit together."""
        epochs = sum(phase.resolved().all_epochs for phase in course)
        if self.min_epochs >= epochs:
            yield "min_epochs", f"{self.min_epochs} of {epochs} epochs leave none to be the best: lower it"
        if self.swa_epochs is not None and self.swa_epochs > epochs:
            yield "swa_epochs", f"there are only {epochs} epochs to average {self.swa_epochs} of: lower it"
        if self.soup_epochs is not None and self.soup_epochs > max(epochs - self.min_epochs, 0):
            best = epochs - self.min_epochs
            yield "soup_epochs", f"there are only {best} epochs to average the best {self.soup_epochs} of: lower it"
        waiting = _waits_from(self.min_epochs, epochs - course[-1].epochs)
        if self.early_stop_patience is not None and waiting + self.early_stop_patience > epochs - 2:
            yield (
                "early_stop_patience",
                f"the {epochs} epochs are over before {self.early_stop_patience} can have passed without a better one: "
                "lower it, or set it to null",
            )


def phases(train: Train) -> list[TrainPhase]:
    """What is trained one after another: `train.phases`, or the one that `train` itself describes.

    A phase takes what it does not name from `train`, in so far as its own schedule and optimizer use it.
    """
    return [_phase(train, overrides).resolved() for overrides in train.phases or [{}]]


def _phase(train: Train, overrides: dict[str, Any]) -> TrainPhase:
    """Errors: ValidationError."""
    inherited = {name: getattr(train, name) for name in Course.model_fields}
    return TrainPhase.model_validate({"frozen": False, **inherited, **overrides})


def _waits_from(min_epochs: int, last_phase: int) -> int:
    """The earliest epoch after which patience counts: the first that may be the best, or the one before a last phase.

    In a phase that follows others the best epoch may lie before it.
    """
    return min_epochs if min_epochs >= last_phase else last_phase - 1
