"""External tests of a multi-label study: each common finding here and there."""

from dataclasses import dataclass

from xraylab.report import metric_tables
from xraylab.report.artefacts import Artefacts
from xraylab.report.metric_tables import ExternalTest
from xraylab.report.records import MACRO, Estimate, Metric, Tree, keyed, record, where

METRICS = ("auroc", "auprc", "sensitivity", "specificity")


@dataclass(frozen=True)
class ExternalRow:
    """A finding, or the mean over the common ones, which the study's own test images have no metrics of."""

    name: str
    labels: str
    positive: int | None
    known: int | None
    internal: Estimate | None
    metrics: dict[str, Estimate]


@dataclass(frozen=True)
class ExternalFindings:
    """`only_model`, `only_data`: findings that only one of the two has."""

    test: ExternalTest
    rows: list[ExternalRow]
    only_model: list[str]
    only_data: list[str]


def external(data: Artefacts) -> Tree | None:
    """The tests as in any study, each with a row per finding; tests of an earlier training by name."""
    general = metric_tables.external(data)
    if general is None:
        return None
    fresh = metric_tables.fresh_tests(data)
    tests = [_findings(test, each, data) for test, each in zip(general["tests"], fresh, strict=True)]
    return {"tests": tests, "stale": general["stale"], "metrics": METRICS}


def _findings(test: ExternalTest, tree: Tree, data: Artefacts) -> ExternalFindings:
    run = {"experiment": tree["experiment"], "checkpoint": "best"}
    internal = keyed(where(data.metrics, kind="repeat", split="test", number=tree["repeat"], **run))
    every = keyed(record(Metric, {**row, **run, "kind": "external", "split": "external"}) for row in tree["metrics"])
    rows = [
        ExternalRow(
            name=name,
            labels=", ".join(labels),
            positive=tree["classes"][name],
            known=tree["known"][name],
            internal=internal.get((name, "auroc")),
            metrics={metric: every.get((name, metric), Estimate()) for metric in METRICS},
        )
        for name, labels in tree["mapping"]["labels"].items()
    ]
    means = {metric: every.get((MACRO, metric), Estimate()) for metric in METRICS}
    common = ExternalRow("Mean over these findings (macro)", "", None, None, None, means)
    return ExternalFindings(test, [*rows, common], tree["mapping"]["only_model"], list(tree["mapping"]["only_data"]))
