"""The tables of metrics: the comparison, each experiment's own, the two best side by side, and external tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from xraylab import files
from xraylab.report import curves
from xraylab.report.artefacts import Artefacts, Change
from xraylab.report.records import (
    MACRO,
    MICRO,
    OVERALL,
    Comparison,
    Estimate,
    Metric,
    OperatingPoint,
    Result,
    Spread,
    SubgroupMetric,
    Summary,
    Tree,
    keyed,
    operating_point,
    record,
    where,
)

WEIGHTED = "weighted"
COLUMNS = {"best": ("accuracy", "sensitivity", "specificity", "f1", "auroc"), "last": ("accuracy", "f1", "auroc")}
MULTI_COLUMNS = {
    "best": ("auroc", "auprc", "sensitivity", "specificity", "ppv", "f1"),
    "last": ("auroc", "auprc", "f1"),
}  # means over findings
ALL_CLASSES = ("accuracy", "balanced_accuracy", "mcc", "kappa", "brier", "log_loss")
PER_CLASS = (
    "sensitivity", "specificity", "ppv", "npv", "ppv_at_prevalence", "npv_at_prevalence", "fpr", "fnr",
    "called_normal", "f1", "auroc", "auprc",
)  # fmt: skip
SUBGROUP_METRICS = PAIR_METRICS = ("accuracy", "sensitivity", "specificity", "f1", "auroc")
EXTERNAL_METRICS = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1", "auroc", "log_loss")
EXTERNAL_PER_CLASS = ("sensitivity", "specificity", "f1", "auroc")
EXTERNAL_OF_FINDINGS = ("auroc", "sensitivity", "specificity")


@dataclass(frozen=True)
class Cells:
    """What the comparison shows of a checkpoint; a mean over repeats has no epoch and no confusion matrix."""

    metrics: dict[str, Estimate]
    epoch: int | None = None
    confusion: list[list[int]] | None = None


@dataclass(frozen=True)
class ComparisonRow:
    """An experiment, or one of its repeats."""

    name: str
    mark: str
    checkpoints: dict[str, Cells]
    rank: int | None = None
    valid: float | None = None
    repeats: Sequence["ComparisonRow"] = ()


@dataclass(frozen=True)
class Block:
    """Metrics of one class, or over classes: each with its mean over repeats, None where there is one repeat."""

    class_: str
    rows: list[tuple[str, Metric, Spread | None]]


@dataclass(frozen=True)
class Confusion:
    """A repeat's matrix of counts, each with its share of the row."""

    repeat: int | None
    mark: str
    rows: list[list[tuple[int, float]]]


@dataclass(frozen=True)
class Group:
    """A subgroup of the images; without metrics where it is too small."""

    row: SubgroupMetric
    metrics: dict[str, SubgroupMetric] = field(default_factory=dict)


@dataclass(frozen=True)
class ExperimentTables:
    """All that the page shows of one experiment."""

    name: str
    changes: list[Change]
    sentences: list[str]
    blocks: list[Block]
    confusions: list[Confusion]
    calibration: list[Tree]
    chart: str
    operating_points: dict[int, list[OperatingPoint]]
    at_thresholds: list[Comparison]
    groups: list[Group]


@dataclass(frozen=True)
class PairRow:
    metric: str
    estimates: list[Estimate]
    difference: Comparison | None


@dataclass(frozen=True)
class ExternalTest:
    """A run on another data set; each metric with that of the study's own test images."""

    run: str
    data_set: str
    facts: Tree
    rows: list[tuple[Metric, Metric | None]]
    operating_points: list[OperatingPoint]


def comparison(data: Artefacts) -> Tree:
    return {
        "columns": columns(data.summary),
        "valid_metric": _valid_metric(data.summary),
        "rows": comparison_rows(data.summary, data.metrics, data.spread),
    }


def columns(summary: Summary) -> dict[str, tuple[str, ...]]:
    """Checkpoint -> the metrics of the comparison."""
    return MULTI_COLUMNS if summary.multi else COLUMNS


def _valid_metric(summary: Summary) -> str:
    return "auroc" if summary.multi else "f1"


def comparison_rows(summary: Summary, metrics: Sequence[Metric], spread: Sequence[Spread]) -> list[ComparisonRow]:
    """One row per experiment with, where there are several repeats, a row for each of these: test metrics.

    A repeat's metrics come with their intervals, an experiment's mean over repeats with its standard deviation.
    """
    tested = where(metrics, split="test")
    return [_comparison_row(summary, name, tested, where(spread, split="test")) for name in summary.experiments]


def _comparison_row(
    summary: Summary, experiment: str, metrics: Sequence[Metric], spread: Sequence[Spread]
) -> ComparisonRow:
    valid, mark = summary.mean(experiment, "valid"), summary.mark(experiment)
    results = where(summary.results, experiment=experiment, split="test")
    repeats = [
        ComparisonRow(
            name=f"repeat {_repeat_name(summary, repeat)}",
            mark=mark,
            checkpoints={row.checkpoint: _of_repeat(summary, row, metrics) for row in where(results, repeat=repeat)},
        )
        for repeat in dict.fromkeys(row.repeat for row in results)
    ]
    single = len(repeats) == 1 and not summary.folds
    return ComparisonRow(
        name=experiment,
        mark=mark,
        checkpoints=repeats[0].checkpoints if single else _means(summary, experiment, metrics, spread),
        rank=summary.top_two.index(experiment) + 1 if experiment in summary.top_two else None,
        valid=getattr(valid, _valid_metric(summary)) if valid else None,
        repeats=[] if single else repeats,
    )


def _of_repeat(summary: Summary, result: Result, metrics: Sequence[Metric]) -> Cells:
    name = result.checkpoint
    rows = where(metrics, experiment=result.experiment, checkpoint=name, kind="repeat", number=result.repeat)
    return Cells(_cells(summary, name, keyed(rows)), result.epoch, result.confusion)


def _means(summary: Summary, experiment: str, metrics: Sequence[Metric], spread: Sequence[Spread]) -> dict[str, Cells]:
    """Checkpoint -> mean and SD over repeats, or over rounds of folds, of which a single one has its interval."""
    return {
        name: Cells(_cells(summary, name, mean_estimates(summary, experiment, name, metrics, spread)))
        for name in columns(summary)
    }


def mean_estimates(
    summary: Summary, experiment: str, checkpoint: str, metrics: Sequence[Metric], spread: Sequence[Spread]
) -> dict[tuple[str, str], Estimate]:
    """(class, metric) -> mean and SD over repeats, or over rounds of folds; a single one has its interval."""
    kind = "round" if summary.folds else "repeat"
    alone = "round" if summary.folds or summary.several else "repeat"
    single = keyed(where(metrics, experiment=experiment, checkpoint=checkpoint, kind=alone))
    rows = keyed(where(spread, experiment=experiment, checkpoint=checkpoint, kind=kind))
    return {key: row.estimate if row.n > 1 else single.get(key, Estimate()) for key, row in rows.items()}


def _cells(summary: Summary, checkpoint: str, metrics: Mapping[tuple[str, str], Estimate]) -> dict[str, Estimate]:
    """Those of the checkpoint's columns; an interval is shown of the best epoch alone."""
    estimates = {name: metrics.get(summary.key(name), Estimate()) for name in columns(summary)[checkpoint]}
    if checkpoint == "best":
        return estimates
    return {name: Estimate(value=estimate.value, sd=estimate.sd) for name, estimate in estimates.items()}


def _repeat_name(summary: Summary, repeat: int | None) -> str:
    """The repeat, and the source that it tests where it tests one."""
    sources = summary.test_sources
    return f"{repeat}, tests {sources[(repeat or 0) % len(sources)]}" if sources else str(repeat)


def experiments(data: Artefacts) -> Tree:
    calibrations = files.read_json(data.paths.evaluation / "calibration.json")
    return {
        "subgroup_metrics": SUBGROUP_METRICS,
        "parts": [
            ExperimentTables(
                name=each.name,
                changes=each.changes,
                sentences=[row.sentence for row in where(data.summary.comparisons, kind="baseline", first=each.name)],
                blocks=_blocks(data.summary, data.metrics, data.spread, each.name),
                confusions=confusions(data.summary, each.name),
                calibration=[row for row in calibrations if row["experiment"] == each.name],
                chart=curves.calibration(data.paths.evaluation, data.summary, each.name),
                operating_points=_by_repeat(where(data.operating_points, experiment=each.name)),
                at_thresholds=where(data.summary.at_thresholds, first=each.name),
                groups=subgroup_rows(data.summary, where(data.subgroups, experiment=each.name)),
            )
            for each in data.experiments
        ],
    }


def _blocks(summary: Summary, metrics: Sequence[Metric], spread: Sequence[Spread], experiment: str) -> list[Block]:
    """Of the mean probability over repeats: what speaks of all classes, then a block per class and of their means."""
    keys = {"experiment": experiment, "checkpoint": "best", "split": "test"}
    ensemble = keyed(where(metrics, kind="mean", **keys))
    spreads = where(spread, kind="round" if summary.folds else "repeat", **keys)
    means = keyed(row for row in spreads if row.n > 1)
    classes = [summary.positive] if summary.positive else [*summary.classes, MACRO, WEIGHTED]
    return [
        Block(
            class_,
            [(name, ensemble[class_, name], means.get((class_, name))) for name in names if (class_, name) in ensemble],
        )
        for class_, names in ({OVERALL: ALL_CLASSES} | dict.fromkeys(classes, PER_CLASS)).items()
    ]


def confusions(summary: Summary, experiment: str) -> list[Confusion]:
    """The matrix of each repeat's best epoch on the test images."""
    return [
        Confusion(
            row.repeat,
            summary.mark(experiment),
            [[(count, count / max(sum(counts), 1)) for count in counts] for counts in row.confusion or []],
        )
        for row in where(summary.results, experiment=experiment, checkpoint="best", split="test")
    ]


def _by_repeat(points: Sequence[OperatingPoint]) -> dict[int, list[OperatingPoint]]:
    return {point.repeat: where(points, repeat=point.repeat) for point in points}


def subgroup_rows(summary: Summary, rows: Sequence[SubgroupMetric]) -> list[Group]:
    groups: dict[tuple[str, str], Group] = {}
    for row in rows:
        group = groups.setdefault((row.grouping, row.group), Group(row))
        if row.metric and (row.class_, row.metric) == summary.key(row.metric):
            group.metrics[row.metric] = row
    return list(groups.values())


def pair_rows(summary: Summary, metrics: Sequence[Metric], spread: Sequence[Spread]) -> list[PairRow]:
    """Per metric: that of either of the two best, with several repeats their mean, and their tested difference."""
    keys = {"checkpoint": "best", "split": "test", "kind": "repeat"}
    both: list[dict[tuple[str, str], Estimate]] = []
    for name in summary.top_two:
        if summary.several:
            both.append({key: row.estimate for key, row in keyed(where(spread, experiment=name, **keys)).items()})
        else:
            both.append(dict(keyed(where(metrics, experiment=name, **keys))))
    tested = {row.metric: _from(summary.top_two[0], row) for row in where(summary.comparisons, kind="top two")}
    return [
        PairRow(name, [estimates[summary.key(name)] for estimates in both], tested.get(name)) for name in PAIR_METRICS
    ]


def _from(first: str, row: Comparison) -> Comparison:
    """The same comparison, its difference that of `first` less the other."""
    if row.first == first or row.difference is None:
        return row
    low, high = (None if end is None else -end for end in (row.ci_high, row.ci_low))
    return replace(row, difference=-row.difference, ci_low=low, ci_high=high)


def external(data: Artefacts) -> Tree | None:
    """External tests of runs as they are trained now, and the names of those of an earlier training."""
    if not data.external:
        return None
    fresh = fresh_tests(data)
    stale = [each for each in data.external if each not in fresh]
    return {
        "tests": [_external_test(each, data.metrics) for each in fresh],
        "stale": [f"{_run_name(each)} on {_data_set(each)}" for each in stale],
    }


def fresh_tests(data: Artefacts) -> list[Tree]:
    """The external tests of runs as they are trained now."""
    predictions = data.summary.predictions
    return [each for each in data.external if predictions.get(_run_name(each)) == each["predictions"]]


def _external_test(test: Tree, metrics: Sequence[Metric]) -> ExternalTest:
    run = {"experiment": test["experiment"], "checkpoint": "best"}
    internal = keyed(where(metrics, kind="repeat", split="test", number=test["repeat"], **run))
    if test.get("mapping", {}).get("only_model"):  # the study's own mean is over more findings
        internal = {key: row for key, row in internal.items() if row.class_ not in (MACRO, MICRO)}
    external = [record(Metric, {**row, **run, "kind": "external", "split": "external"}) for row in test["metrics"]]
    return ExternalTest(
        run=_run_name(test),
        data_set=_data_set(test),
        facts={name: test[name] for name in ("images", "classes", "overlap", "intervals")}
        | {"seen": test.get("seen", []), "mapping": test.get("mapping")},  # tests of earlier versions say nothing of it
        rows=[
            (row, internal.get((row.class_, row.metric)))
            for row in external
            if (_is_shown_of_findings(row) if "task" in test else _is_shown(row))
        ],
        operating_points=[operating_point(point) for point in test["operating_points"]],
    )


def _is_shown(row: Metric) -> bool:
    """Accuracy and log loss are shown of all classes together, rates of each class."""
    return row.metric in EXTERNAL_METRICS and (row.class_ != OVERALL) == (row.metric in EXTERNAL_PER_CLASS)


def _is_shown_of_findings(row: Metric) -> bool:
    """Of each finding only what tells most, of their mean everything."""
    return row.metric in EXTERNAL_OF_FINDINGS or row.class_ == MACRO


def _run_name(test: Tree) -> str:
    return f"{test['experiment']}/{test['repeat']}"


def _data_set(test: Tree) -> str:
    """The folder's name alone: its path may tell of people."""
    return Path(test["folder"]).name
