"""The section `loss` of params.yaml."""

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat

from xraylab.params.section import Fraction, Section, belongs


class Loss(Section):
    name: Literal["cross_entropy", "focal"]
    focal_gamma: PositiveFloat | None
    label_smoothing: Fraction
    class_weights: Literal["none", "balanced"] | list[PositiveFloat]
    l2: NonNegativeFloat
    group_dro_step: NonNegativeFloat
    coral_weight: NonNegativeFloat


def loss_contradictions(loss: Loss, classes: list[str]) -> dict[str, str]:
    found = {}
    if (loss.name == "focal") != (loss.focal_gamma is not None):
        found["loss.focal_gamma"] = belongs("loss.name", "focal", loss.focal_gamma)
    if loss.name == "focal" and loss.label_smoothing > 0:
        found["loss.label_smoothing"] = "only loss.name: cross_entropy uses it; set it to 0"
    if isinstance(loss.class_weights, list) and len(loss.class_weights) != len(classes):
        found["loss.class_weights"] = f"{len(loss.class_weights)} weights for the classes {', '.join(classes)}"
    elif isinstance(loss.class_weights, list) and len(set(loss.class_weights)) == 1:
        found["loss.class_weights"] = "all classes weigh the same, which is what none does: set it to none"
    return found
