"""The section `loss` of params.yaml."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from xraylab.params.names import BUILT_IN, LossName
from xraylab.params.section import Fraction, Option, Problem, Section


class Loss(Section):
    OPTIONS: ClassVar = {
        "focal_gamma": Option("loss.name", ("focal",)),
        "label_smoothing": Option("loss.name", ("cross_entropy",)),
    }
    OFF: ClassVar = {"label_smoothing": 0.0, "options": {}}

    name: LossName
    options: dict[str, Any]
    focal_gamma: PositiveFloat | None
    label_smoothing: Fraction
    class_weights: Literal["none", "balanced"] | list[PositiveFloat]
    l2: NonNegativeFloat
    group_dro_step: NonNegativeFloat
    coral_weight: NonNegativeFloat

    def unused(self) -> dict[str, str]:
        needless = self.options and self.name in BUILT_IN["loss"]
        return super().unused() | ({"options": f"loss {self.name}"} if needless else {})

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if isinstance(self.class_weights, list) and len(set(self.class_weights)) == 1:
            yield "class_weights", "all classes weigh the same, which is what none does: set it to none"
