"""The tables of a multi-label study: metrics of every finding, labels of every split, and findings that go together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xraylab import files, tables, targets
from xraylab.params.data import UncertainPolicy
from xraylab.report.artefacts import TEXT, Artefacts, Change, Labels, rows
from xraylab.report.charts import line_style
from xraylab.report.metric_tables import Group, mean_estimates, subgroup_rows
from xraylab.report.records import (
    MACRO,
    MICRO,
    Comparison,
    Estimate,
    OperatingPoint,
    Summary,
    Tree,
    where,
)
from xraylab.report.text import listed, plural

SHOWN = 3  # experiments side by side; of more, the two best and the baseline
AT_THRESHOLD = ("sensitivity", "specificity")
OF_FINDING = (
    "auroc", "auprc", "sensitivity", "specificity", "ppv", "npv", "f1", "accuracy", "mcc", "brier", "log_loss",
)  # fmt: skip
SUBGROUP_METRICS = ("auroc", "auprc", "sensitivity", "specificity", "f1")
KINDS = {"positive": "present", "negative": "absent", "uncertain": "uncertain", "missing": "not labelled"}
TREATMENTS = {
    "ignore": "left out of training",
    "positive": "trained as present",
    "negative": "trained as absent",
    "smooth": "trained as present with a target drawn from 0.55 to 0.85",
}
Keyed = dict[tuple[str, str], Estimate]


@dataclass(frozen=True)
class FindingRow:
    """A finding, or a mean, with the metrics of the experiments shown; the others are of the first of these."""

    name: str
    labels: Labels | None
    aurocs: list[Estimate]
    first: dict[str, Estimate]
    why: str | None = None


@dataclass(frozen=True)
class Pair:
    """Two findings: in how many test images both are, and how often that is of what chance would give."""

    both: int | None
    ratio: float | None = None

    @property
    def share(self) -> float:
        """How strongly to shade it: 0 at the ratio of chance, 1 at four times or a quarter of it."""
        if not self.ratio:
            return 0.0 if self.ratio is None else 1.0
        return min(abs(math.log2(self.ratio)) / 2, 1.0)


@dataclass(frozen=True)
class ExperimentTables:
    """All that the page shows of one experiment."""

    name: str
    changes: list[Change]
    sentences: list[str]
    rows: list[tuple[str, dict[str, Estimate]]]
    calibration: list[Tree]
    operating_points: list[OperatingPoint]
    groups: list[Group]


def shown(summary: Summary) -> list[str]:
    """The experiments side by side, the best first: all of a few, else the two best and the baseline."""
    ranked = [each.experiment for each in summary.ranking]
    return ranked if len(ranked) <= SHOWN else list(dict.fromkeys([*summary.top_two, summary.baseline]))


def findings(data: Artefacts) -> Tree:
    """One row per finding, then the mean over findings and all pairs of image and finding."""
    names = shown(data.summary)
    estimates = [test_estimates(data, name) for name in names]
    rows_ = [
        _row(name, data.test_labels[name], name, estimates, data.summary.not_evaluated.get(name))
        for name in data.summary.classes
    ]
    macro = f"Mean over {plural(len(data.summary.macro_over), 'finding')} (macro)"
    means = [_row(macro, None, MACRO, estimates), _row("All labels pooled (micro)", None, MICRO, estimates)]
    return {
        "names": names,
        "colours": {name: line_style(number)[0] for number, name in enumerate(data.summary.experiments)},
        "rows": rows_,
        "means": means,
        "metrics": ("auprc", *AT_THRESHOLD),
        "co_occurrence": co_occurrence(data),
    }


def test_estimates(data: Artefacts, experiment: str) -> Keyed:
    """(class, metric) -> the best epoch's metric on the test images."""
    metrics, spread = where(data.metrics, split="test"), where(data.spread, split="test")
    return mean_estimates(data.summary, experiment, "best", metrics, spread)


def _row(
    heading: str, labels: Labels | None, key: str, estimates: Sequence[Keyed], why: str | None = None
) -> FindingRow:
    first = {name: estimates[0].get((key, name), Estimate()) for name in ("auprc", *AT_THRESHOLD)}
    return FindingRow(heading, labels, [each.get((key, "auroc"), Estimate()) for each in estimates], first, why)


def co_occurrence(data: Artefacts) -> list[tuple[str, list[Pair]]]:
    """Per finding how often each finding is there too, in the images where both are known."""
    names = data.summary.classes
    pairs = {}
    for row in rows(tables.read(data.paths.evaluation / "co_occurrence.csv", TEXT)):
        pair = Pair(int(row["both"]), row["both"] / row["expected"] if row["expected"] else None)
        pairs[row["finding"], row["other"]] = pairs[row["other"], row["finding"]] = pair
    whole = {name: Pair(data.test_labels[name].positive) for name in names}
    return [(one, [whole[one] if one == other else pairs[one, other] for other in names]) for one in names]


def labels(data: Artefacts) -> Tree:
    """How the findings are labelled in each split, and what was made of what is not known."""
    splits = data.split["splits"]
    used = [kind for kind in KINDS if any(part[kind] for each in splits.values() for part in each.values())]
    return {
        "kinds": {kind: KINDS[kind] for kind in used},
        "label_rows": {
            name: {split: Labels(**each[name]) for split, each in splits.items()} for name in data.summary.classes
        },
        "label_sentences": label_sentences(data),
    }


def label_sentences(data: Artefacts) -> list[str]:
    """What no finding means, and what training and metrics make of uncertain and missing labels."""
    without = int((data.index["label"] == targets.NO_FINDING).sum())
    if targets.NO_FINDING in data.summary.classes:
        absent = f"“{targets.NO_FINDING}” is a label of its own, which the networks learn like any other."
    else:
        absent = (
            f"An image without findings is one in which all are absent: “{targets.NO_FINDING}” is no label of its own; "
            f"no finding is marked present in {plural(without, 'image')}."
        )
    counts = {
        kind: sum(part[kind] for each in data.split["splits"].values() for part in each.values())
        for kind in ("uncertain", "missing")
    }
    return [absent, *_of_unknown(data, counts["uncertain"], counts["missing"])]


def _of_unknown(data: Artefacts, uncertain: int, missing: int) -> list[str]:
    if not uncertain and not missing:
        return ["Every finding is labelled present or absent in every image."]
    sentences = [f"Uncertain labels ({uncertain}) are {uncertain_labels(data)}."] if uncertain else []
    sentences += [f"Missing labels ({missing}) take no part in training."] if missing else []
    return [*sentences, "Metrics count known labels alone, so each finding has images of its own."]


def uncertain_labels(data: Artefacts) -> str:
    """What training makes of them; experiments are named where they differ."""
    alike: dict[str, list[str]] = {}
    for each in data.experiments:
        policy = each.cfg.loss.uncertain
        alike.setdefault(_treatment(data.params.data.uncertain if policy is None else policy), []).append(each.name)
    return "; ".join(alike if len(alike) == 1 else [f"{text} in {listed(names)}" for text, names in alike.items()])


def _treatment(policy: UncertainPolicy) -> str:
    """Of one policy for all findings, or of one for each."""
    if isinstance(policy, str):
        return TREATMENTS[policy]
    alike: dict[str, list[str]] = {}
    for finding, each in policy.items():
        alike.setdefault(TREATMENTS[each], []).append(finding)
    return listed([f"{text} ({', '.join(names)})" for text, names in alike.items()])


def experiments(data: Artefacts) -> Tree:
    calibrations = files.read_json(data.paths.evaluation / "calibration.json")
    return {
        "metrics": OF_FINDING,
        "subgroup_metrics": SUBGROUP_METRICS,
        "parts": [
            ExperimentTables(
                name=each.name,
                changes=each.changes,
                sentences=[row.sentence for row in _against_baseline(data.summary, each.name)],
                rows=_metric_rows(data, each.name),
                calibration=[row for row in calibrations if row["experiment"] == each.name],
                operating_points=where(data.operating_points, experiment=each.name),
                groups=subgroup_rows(data.summary, where(data.subgroups, experiment=each.name)),
            )
            for each in data.experiments
        ],
    }


def _against_baseline(summary: Summary, experiment: str) -> list[Comparison]:
    """Of the means; those of single findings are in the comparison's table."""
    rows = where(summary.comparisons, kind="baseline", first=experiment)
    return [row for row in rows if row.class_ not in summary.classes]


def _metric_rows(data: Artefacts, experiment: str) -> list[tuple[str, dict[str, Estimate]]]:
    estimates = test_estimates(data, experiment)
    headings = {name: name for name in data.summary.classes} | {
        MACRO: "mean over findings (macro)",
        MICRO: "all labels pooled (micro)",
    }
    return [
        (heading, {name: estimates.get((key, name), Estimate()) for name in OF_FINDING})
        for key, heading in headings.items()
    ]
