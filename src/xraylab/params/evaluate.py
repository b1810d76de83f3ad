"""How predictions are evaluated and explained."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from xraylab.params.data import Data
from xraylab.params.section import Section

AVERAGES = ("overall", "macro", "weighted")
Rate = Annotated[float, Field(gt=0, lt=1)]
Goal = Literal[
    "accuracy", "balanced_accuracy", "mcc", "kappa", "brier", "log_loss", "sensitivity", "specificity", "ppv", "npv",
    "fpr", "fnr", "f1", "auroc", "auprc", "train_test_gap", "epochs_to_highest_accuracy",
]  # fmt: skip


class Goals(Section):
    at_least: dict[Goal, float]
    at_most: dict[Goal, float]


class Evaluate(Section):
    confidence: Annotated[float, Field(ge=0.5, lt=1)]
    primary: Literal["auroc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1"]
    margin: Annotated[float, Field(ge=0, lt=1)]
    n_permutations: Annotated[int, Field(ge=10_000)]
    seed: NonNegativeInt
    normal: str | None
    prevalence: Rate | list[Rate] | None
    sensitivities: list[Rate]
    specificities: list[Rate]
    bins: Annotated[int, Field(ge=2, le=100)]
    age_bands: Annotated[list[PositiveInt], Field(min_length=1)]
    smallest_group: PositiveInt
    goals: Goals


class Explain(Section):
    experiments: Literal["top-two"] | list[str]
    images: PositiveInt
    methods: Annotated[list[Literal["grad-cam", "occlusion"]], Field(min_length=1)]
    occlusion_patch: Annotated[float, Field(gt=0, le=1)]
    occlusion_stride: Annotated[float, Field(gt=0, le=1)]
    masked_images: Annotated[int, Field(ge=2)]
    feature_maps: PositiveInt
    centre: Annotated[float, Field(gt=0, lt=1)]
    nearly: Annotated[float, Field(gt=0, le=1)]


def evaluate_problems(evaluate: Evaluate, data: Data) -> list[str]:
    problems = []
    if evaluate.primary in ("sensitivity", "specificity") and data.positive is None:
        problems.append(
            f"evaluate.primary: with more than two classes the mean {evaluate.primary} is no figure of its own; "
            "set it to auroc, accuracy, balanced_accuracy or f1"
        )
    if evaluate.normal is not None and evaluate.normal not in data.classes:
        problems.append(f"evaluate.normal: must be one of {', '.join(data.classes)}, or null, got {evaluate.normal!r}")
    if evaluate.normal is not None and evaluate.normal == data.positive:
        problems.append("evaluate.normal: is data.positive, the class that is looked for; set it to null")
    if isinstance(evaluate.prevalence, float) and data.positive is None:
        problems.append("evaluate.prevalence: with more than two classes it needs a list, one per class in their order")
    if isinstance(evaluate.prevalence, list) and len(evaluate.prevalence) != len(data.classes):
        problems.append(
            f"evaluate.prevalence: {len(evaluate.prevalence)} shares for the classes {', '.join(data.classes)}"
        )
    elif isinstance(evaluate.prevalence, list) and abs(sum(evaluate.prevalence) - 1) > 1e-6:
        problems.append(f"evaluate.prevalence: must sum to 1, sums to {sum(evaluate.prevalence):g}")
    if evaluate.age_bands != sorted(set(evaluate.age_bands)):
        problems.append(f"evaluate.age_bands: must rise, got {evaluate.age_bands}")
    both = sorted(set(evaluate.goals.at_least) & set(evaluate.goals.at_most))
    problems += [f"evaluate.goals: {name} is in at_least and in at_most" for name in both]
    averages = [name for name in AVERAGES if name in data.classes]
    problems += [f"data.classes: {name} names figures of all classes; call the class otherwise" for name in averages]
    return problems
