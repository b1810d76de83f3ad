"""The sections `evaluate` and `explain` of params.yaml."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from xraylab.params.data import Data
from xraylab.params.section import MANY, Count, CountOrZero, Problem, Section, Seed
from xraylab.task import MULTI_LABEL, is_multi

Rate = Annotated[float, Field(gt=0, lt=1)]
Finite = Annotated[float, Field(ge=-MANY, le=MANY)]
Goal = Literal[
    "accuracy", "balanced_accuracy", "mcc", "kappa", "brier", "log_loss", "sensitivity", "specificity", "ppv", "npv",
    "fpr", "fnr", "f1", "auroc", "auprc", "train_test_gap", "epochs_to_highest_accuracy",
]  # fmt: skip
NOT_OF_FINDINGS = ("kappa", "fpr", "fnr", "train_test_gap")


class Goals(Section):
    at_least: dict[Goal, Finite]
    at_most: dict[Goal, Finite]

    def problems(self) -> Iterator[Problem]:
        for name in sorted(set(self.at_least) & set(self.at_most)):
            yield "", f"{name} is in at_least and in at_most"


class Evaluate(Section):
    confidence: Annotated[float, Field(ge=0.5, lt=1)]
    primary: Literal["auroc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1"]
    margin: Annotated[float, Field(ge=0, lt=1)]
    n_permutations: Annotated[int, Field(ge=10_000, le=MANY)]
    seed: Seed
    negative_class: str | None
    prevalence: Rate | list[Rate] | None
    sensitivities: list[Rate]
    specificities: list[Rate]
    ece_bins: Annotated[int, Field(ge=2, le=100)]
    age_bands: Annotated[list[Count], Field(min_length=1)]
    min_group_size: Count
    goals: Goals

    def problems(self) -> Iterator[Problem]:
        if self.age_bands != sorted(set(self.age_bands)):
            yield "age_bands", f"must rise, got {self.age_bands}"

    def misfits(self, data: Data) -> Iterator[Problem]:
        """Contradictions with the classes, or the findings."""
        yield from self._of_findings(data) if is_multi(data.task) else self._of_classes(data)

    def _of_findings(self, data: Data) -> Iterator[Problem]:
        findings = ", ".join(data.classes)
        if self.negative_class is not None:
            yield (
                "evaluate.negative_class",
                "must be null with data.task: multi-label, where an image may have no finding",
            )
        if isinstance(self.prevalence, float):
            yield "evaluate.prevalence", f"needs a list with data.task: multi-label, one for each of {findings}"
        if isinstance(self.prevalence, list) and len(self.prevalence) != len(data.classes):
            yield "evaluate.prevalence", f"{len(self.prevalence)} prevalences for the findings {findings}"
        for key, goals in (("at_least", self.goals.at_least), ("at_most", self.goals.at_most)):
            for name in (name for name in goals if name in NOT_OF_FINDINGS):
                yield f"evaluate.goals.{key}", f"{name} is no metric of a multi-label study: remove it"

    def _of_classes(self, data: Data) -> Iterator[Problem]:
        classes = ", ".join(data.classes)
        if self.primary in ("sensitivity", "specificity") and data.positive is None:
            yield (
                "evaluate.primary",
                f"with more than two classes the mean {self.primary} is no metric of its own; set it to auroc, "
                "accuracy, balanced_accuracy or f1",
            )
        if self.negative_class is not None and self.negative_class not in data.classes:
            yield "evaluate.negative_class", f"must be one of {classes}, or null, got {self.negative_class!r}"
        if self.negative_class is not None and self.negative_class == data.positive:
            yield "evaluate.negative_class", "is data.positive, the class that is looked for; set it to null"
        if isinstance(self.prevalence, float) and data.positive is None:
            yield "evaluate.prevalence", "with more than two classes it needs a list, one per class in their order"
        if isinstance(self.prevalence, list) and len(self.prevalence) != len(data.classes):
            yield "evaluate.prevalence", f"{len(self.prevalence)} shares for the classes {classes}"
        if isinstance(self.prevalence, list) and abs(sum(self.prevalence) - 1) > 1e-6:
            yield "evaluate.prevalence", f"must sum to 1, sums to {sum(self.prevalence):g}"


class Explain(Section):
    experiments: Literal["top-two"] | list[str]
    findings: Count | Annotated[list[str], Field(min_length=1)]
    images: Count
    methods: Annotated[list[Literal["grad-cam", "occlusion"]], Field(min_length=1)]
    occlusion_patch: Annotated[float, Field(gt=0, le=1)]
    occlusion_stride: Annotated[float, Field(gt=0, le=1)]
    masked_images: Annotated[int, Field(ge=2, le=MANY)]
    overlays: CountOrZero | Literal["all"]
    feature_maps: Count
    centre: Annotated[float, Field(gt=0, lt=1)]
    shortcut_ratio: Annotated[float, Field(gt=0, le=1)]

    def problems(self) -> Iterator[Problem]:
        for key, names in (
            ("experiments", self.experiments),
            ("methods", self.methods),
            ("findings", self.findings),
        ):
            if isinstance(names, list) and len(set(names)) < len(names):
                yield key, "names one twice"
        if self.occlusion_stride > self.occlusion_patch:
            yield (
                "occlusion_stride",
                f"{self.occlusion_stride} is more than explain.occlusion_patch ({self.occlusion_patch}), so that some "
                "pixels would never be covered",
            )

    def misfits(self, data: Data) -> Iterator[Problem]:
        """Contradictions with the findings."""
        if isinstance(self.findings, list):
            if not is_multi(data.task):
                yield "explain.findings", f"a list needs data.task: {MULTI_LABEL}; leave it a number"
            for name in self.findings:
                if name not in data.classes:
                    yield "explain.findings", f"{name!r} is none of data.classes ({', '.join(data.classes)})"
