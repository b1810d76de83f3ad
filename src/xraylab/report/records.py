"""The rows of the evaluation's artefacts. Imports nothing that takes time: `xraylab show` reads them too."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, TypeVar

OVERALL, MACRO, MICRO = "overall", "macro", "micro"  # what a metric is of, where it is not of one class
DAGGER = "†"  # marks what was chosen on the test images
OPERATING_METRICS = ("sensitivity", "specificity", "ppv", "npv", "accuracy")

Tree = dict[str, Any]  # a JSON artefact of another stage, as it is
Checkpoint = Literal["best", "last"]
Row = TypeVar("Row")
Keyed = TypeVar("Keyed", "Metric", "Spread")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A metric with its interval, or with its standard deviation over repeats; `why` there is no interval."""

    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    sd: float | None = None
    why: str | None = None


@dataclass(frozen=True, kw_only=True)
class Metric(Estimate):
    """A row of metrics.csv; `number`: of the repeat or round, None for the mean probability over repeats."""

    experiment: str
    checkpoint: str
    kind: str
    number: int | None = None
    split: str
    class_: str
    metric: str
    n: int | None = None


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A row of spread.csv: mean and standard deviation over repeats, or over rounds of folds."""

    experiment: str
    checkpoint: str
    kind: str
    split: str
    class_: str
    metric: str
    mean: float | None
    sd: float | None
    n: int

    @property
    def estimate(self) -> Estimate:
        return Estimate(value=self.mean, sd=self.sd)


@dataclass(frozen=True, kw_only=True)
class SubgroupMetric(Estimate):
    """A row of subgroups.csv; `difference`: from the group that is the `reference`."""

    experiment: str
    grouping: str
    group: str
    images: int | None
    patients: int | None
    reference: str | None
    class_: str | None
    metric: str | None
    difference: float | None
    difference_ci_low: float | None
    difference_ci_high: float | None

    @property
    def contrast(self) -> Estimate:
        return Estimate(value=self.difference, ci_low=self.difference_ci_low, ci_high=self.difference_ci_high)


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """What a threshold, fixed on validation data, gives on the test images."""

    class_: str
    point: str
    threshold: float | None
    metrics: dict[str, Estimate]
    repeat: int = 0
    experiment: str = ""
    valid_sensitivity: float | None = None
    valid_specificity: float | None = None
    why: str | None = None
    tn: int | None = None
    fp: int | None = None
    fn: int | None = None
    tp: int | None = None


@dataclass(frozen=True, kw_only=True)
class EpochMetric:
    """A row of epochs.csv: what a run's history tells."""

    experiment: str
    repeat: int
    metric: str
    value: float | None


@dataclass(frozen=True, kw_only=True)
class Demographics:
    """A row of demographics.csv: the images and patients of a group in a split."""

    split: str
    grouping: str
    group: str | None
    images: int | None
    patients: int | None
    age_q1: float | None = None
    age_median: float | None = None
    age_q3: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison(Estimate):
    """A tested difference between two experiments, `first` less `second`; `point`: at which threshold, if at one."""

    kind: str
    role: str
    about: str
    first: str
    second: str
    metric: str
    difference: float | None
    p_holm: float | None
    p: float | None = None
    p_at_most: bool = False
    point: str | None = None
    class_: str | None = None
    test: str | None = None
    tests: int | None = None
    detectable: float | None = None
    first_sd: float | None = None
    second_sd: float | None = None
    not_worse: bool | None = None
    equivalent: bool | None = None
    chosen_on_test: bool = False
    sentence: str = ""

    def is_shown(self, confidence: float) -> bool:
        """Whether the test shows the difference, after Holm's correction."""
        return self.difference is not None and self.p_holm is not None and self.p_holm < 1 - confidence


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of an experiment, from its model.json."""

    experiment: str
    repeat: int
    parameters: int
    multiply_adds: int
    multiply_adds_counted: str
    frozen: Tree
    monitor: str
    lr_found: float | None
    best_epoch: int
    last_epoch: int
    train_seconds: float
    hardware: Tree

    @property
    def monitored_split(self) -> str:
        """The split that selected the best epoch."""
        return self.monitor.partition("_")[0]

    @property
    def name(self) -> str:
        """What the run's files are called."""
        return f"{self.experiment}-{self.repeat}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run, or where `repeat` is None the mean over an experiment's runs, scores on a split."""

    experiment: str
    checkpoint: str
    split: str
    accuracy: float
    f1: float | None
    auroc: float | None
    auprc: float | None = None
    repeat: int | None = None
    epoch: int | None = None
    confusion: list[list[int]] | None = None


class Ranked(NamedTuple):
    """An experiment and the value that ranks it."""

    experiment: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Summary:
    """reports/evaluation/summary.json."""

    classes: list[str]
    positive: str | None
    baseline: str
    primary: str
    chosen_on_test: list[str]
    ranked_on: str
    ranked_by: str
    ranking: list[Ranked]
    top_two: list[str]
    folds: int | None
    test_sources: list[str]
    runs: list[Run]
    results: list[Result]
    means: list[Result]
    comparisons: list[Comparison]
    at_thresholds: list[Comparison]
    goals: list[Tree]
    confidence: float
    rests_on: str
    interval_methods: list[str]
    predictions: dict[str, str]
    task: str = "single-label"
    macro_over: list[str] = field(default_factory=list)
    """The findings whose mean is `macro`; of a single-label study none."""
    not_evaluated: dict[str, str] = field(default_factory=dict)
    """Finding -> why the test images give it no metrics."""

    @classmethod
    def of(cls, tree: Tree) -> "Summary":
        ranked_by = "log_loss" if tree["ranked_by"] == "loss" else tree["ranked_by"]
        kinds = {"runs": Run, "results": Result, "means": Result, "comparisons": Comparison}
        kinds["at_thresholds"] = Comparison
        changes = {name: [record(kind, row) for row in tree[name]] for name, kind in kinds.items()} | {
            "ranking": [Ranked(row["experiment"], row[ranked_by]) for row in tree["ranking"]],
            "confidence": tree["intervals"]["confidence"],
            "rests_on": tree["intervals"]["rests_on"],
            "interval_methods": list(
                dict.fromkeys(row["ci_method"] for row in tree["mean_metrics"] if row["ci_method"])
            ),
        }
        return record(cls, tree | changes)

    @property
    def experiments(self) -> dict[str, list[Run]]:
        """Experiment -> its runs, one per repeat."""
        return {run.experiment: where(self.runs, experiment=run.experiment) for run in self.runs}

    @property
    def repeats(self) -> list[int]:
        return list(dict.fromkeys(run.repeat for run in self.runs))

    @property
    def several(self) -> bool:
        return len(self.repeats) > 1

    @property
    def multi(self) -> bool:
        """Whether an image can have several findings, which `classes` then are."""
        return self.task == "multi-label"

    @property
    def drawn_classes(self) -> list[str]:
        """The classes that have a curve each: of two the positive one."""
        return [self.positive] if self.positive else self.classes

    def mark(self, experiment: str) -> str:
        """A dagger for the metrics of an experiment whose epoch was chosen on the test images."""
        return DAGGER if experiment in self.chosen_on_test else ""

    def mean(self, experiment: str, split: str = "test") -> Result | None:
        """Of the best epochs; None where the split has no images."""
        rows = where(self.means, experiment=experiment, checkpoint="best", split=split)
        return rows[0] if rows else None

    def test_mean(self, experiment: str) -> Result:
        return next(iter(where(self.means, experiment=experiment, checkpoint="best", split="test")))

    def key(self, metric: str) -> tuple[str, str]:
        """(class, metric) as tables show a metric: accuracy overall, others of the positive class or the mean."""
        return (OVERALL if metric == "accuracy" and not self.multi else self.positive or MACRO, metric)


def record(kind: type[Row], row: Mapping[str, Any]) -> Row:
    """The fields of a dataclass out of a row of a file."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: row[name.rstrip("_")] for name in names if name.rstrip("_") in row})


def operating_point(row: Mapping[str, Any]) -> OperatingPoint:
    metrics = {
        name: Estimate(value=row[name], ci_low=row[f"{name}_ci_low"], ci_high=row[f"{name}_ci_high"])
        for name in OPERATING_METRICS
        if name in row
    }
    return record(OperatingPoint, {**row, "metrics": metrics})


def where(rows: Iterable[Row], **values: object) -> list[Row]:
    """The rows whose fields have all of these values."""
    return [row for row in rows if all(getattr(row, name) == value for name, value in values.items())]


def keyed(rows: Iterable[Keyed]) -> dict[tuple[str, str], Keyed]:
    """(class, metric) -> row."""
    return {(row.class_, row.metric): row for row in rows}
