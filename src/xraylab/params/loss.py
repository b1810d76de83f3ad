"""The section `loss` of params.yaml."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator

from xraylab.params.data import Data, UncertainPolicy, uncertain_problems
from xraylab.params.names import BUILT_IN, LossName
from xraylab.params.section import Fraction, NonNegative, Option, Positive, Problem, Section
from xraylab.task import MULTI_LABEL, SINGLE_LABEL, is_multi


def _exponent(value: float) -> float:
    if 0 < value < 1:
        raise ValueError("should be 0, or 1 and more: below 1 the gradient of an easy label has no bound")
    return value


Exponent = Annotated[NonNegative, AfterValidator(_exponent)]


LOSSES_OF_TASK = {
    SINGLE_LABEL: ("cross_entropy", "focal"),
    MULTI_LABEL: ("bce", "focal", "asymmetric"),
}
ONE_CLASS = {
    "class_weights": ("none", "an image has no one class to be weighted by: set it to none, and loss.pos_weight"),
    "group_dro_step": (
        0,
        "its groups are pairs of source and class, and an image can have several findings: set it to 0",
    ),
}
"""Options of single-label studies alone: their value that does nothing, and what to say."""


class Loss(Section):
    OPTIONS: ClassVar = {
        "focal_gamma": Option("loss.name", ("focal",)),
        "label_smoothing": Option("loss.name", ("cross_entropy", "bce")),
        "gamma_pos": Option("loss.name", ("asymmetric",)),
        "gamma_neg": Option("loss.name", ("asymmetric",)),
        "clip": Option("loss.name", ("asymmetric",)),
    }
    OFF: ClassVar = {"label_smoothing": 0.0, "options": {}}

    name: LossName
    options: dict[str, Any]
    focal_gamma: Positive | None
    label_smoothing: Fraction
    gamma_pos: Exponent | None
    gamma_neg: Exponent | None
    clip: Fraction | None
    class_weights: Literal["none", "balanced"] | list[Positive]
    pos_weight: Literal["none", "balanced"] | list[Positive]
    uncertain: UncertainPolicy | None
    l2: NonNegative
    group_dro_step: NonNegative
    coral_weight: NonNegative

    def unused(self) -> dict[str, str]:
        needless = self.options and self.name in BUILT_IN["loss"]
        return super().unused() | ({"options": f"loss {self.name}"} if needless else {})

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if isinstance(self.class_weights, list) and len(set(self.class_weights)) == 1:
            yield "class_weights", "all classes weigh the same, which is what none does: set it to none"

    def misfits(self, data: Data) -> Iterator[Problem]:
        """Contradictions with the task of the data, and with its classes."""
        if self.name in BUILT_IN["loss"] and self.name not in LOSSES_OF_TASK[data.task]:
            *others, last = LOSSES_OF_TASK[data.task]
            yield "name", f"{self.name} is no loss for data.task: {data.task}; take {', '.join(others)} or {last}"
        yield from self._of_findings(data) if is_multi(data.task) else self._of_one_class(data)

    def _of_findings(self, data: Data) -> Iterator[Problem]:
        for name, (off, reason) in ONE_CLASS.items():
            if getattr(self, name) != off:
                yield name, f"data.task is {data.task}: {reason}"
        yield from _of_length("pos_weight", self.pos_weight, "findings", data)
        if self.uncertain is not None:
            yield from uncertain_problems("uncertain", self.uncertain, data.classes)

    def _of_one_class(self, data: Data) -> Iterator[Problem]:
        yield from _of_length("class_weights", self.class_weights, "classes", data)
        if self.pos_weight != "none":
            yield "pos_weight", f"data.task is {data.task}: set it to none, and weight classes by loss.class_weights"
        if self.uncertain is not None:
            yield "uncertain", f"data.task is {data.task}, which has no uncertain labels: set it to null"


def _of_length(key: str, weights: str | list[float], what: str, data: Data) -> Iterator[Problem]:
    if isinstance(weights, list) and len(weights) != len(data.classes):
        yield key, f"{len(weights)} weights for the {what} {', '.join(data.classes)}"
