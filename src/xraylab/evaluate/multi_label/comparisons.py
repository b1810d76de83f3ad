"""Experiments of a multi-label study against each other: in means over findings, and in each finding by itself.

Of a mean over findings the variance is that of what each patient adds to all of them, so findings that go together, and
several images of a patient, count as what they are. Seeds and folds are treated as in single-label studies.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from xraylab.evaluate import metrics as binary
from xraylab.evaluate.comparisons import NETWORKS, SETTINGS, Comparison, compare_pairs
from xraylab.evaluate.config import MACRO, EvalConfig
from xraylab.evaluate.intervals import Spread
from xraylab.evaluate.multi_label.metrics import Jackknives, key_of, of_finding, too_few_patients
from xraylab.evaluate.multi_label.samples import Findings, FindingsRun, FindingsStudy
from xraylab.evaluate.resampling import joint_degrees_of_freedom, variance
from xraylab.evaluate.significance import (
    METRICS,
    NO_DIFFERENCE,
    Difference,
    compare_repeats,
    compare_runs,
    influence_on_difference,
    t_test,
    t_test_over_folds,
    t_test_over_seeds,
    untested,
)


@dataclass(frozen=True)
class Compared:
    """The test images of one run, with the means over the findings `over`."""

    findings: Findings
    over: Sequence[int]
    cfg: EvalConfig

    @cached_property
    def jackknives(self) -> Jackknives:
        return Jackknives(self.findings, self.cfg)

    @cached_property
    def _metrics(self) -> list[dict[binary.Key, float]]:
        return [binary.compute_metrics(self.findings.samples[f], of_finding(self.cfg, f)) for f in self.over]

    def macro(self, name: str) -> float:
        """NaN where the metric is not defined for one of the findings."""
        keys = [key_of(name, of_finding(self.cfg, number)) for number in self.over]
        return float(np.mean([each[key] for each, key in zip(self._metrics, keys, strict=True)])) if keys else np.nan


def compare_experiments(
    study: FindingsStudy, top_two: Sequence[str], ranked_on: str, cfg: EvalConfig
) -> list[Comparison]:
    """As of single-label studies, by means over findings; and by `cfg.primary` of each finding, exploratory."""
    over = study.defined("test")
    runs = study.by_experiment
    compared = {name: [Compared(run.test["best"], over, cfg) for run in each] for name, each in runs.items()}

    def compare(first: str, second: str, kind: str) -> list[Comparison]:
        results = [(MACRO, result) for result in compare_macro(compared[first], compared[second], study.folds)]
        results += compare_findings(compared[first], compared[second], study.folds)
        return _comparisons(runs[first], runs[second], kind, results)

    return compare_pairs(list(runs), study.baseline, top_two, ranked_on, cfg, compare)


def _comparisons(
    first: Sequence[FindingsRun], second: Sequence[FindingsRun], kind: str, results: list[tuple[str, Difference]]
) -> list[Comparison]:
    about, on_test = (
        NETWORKS if len(first) == 1 else SETTINGS,
        "test" in {run.monitored_split for run in (*first, *second)},
    )
    names = first[0].experiment, second[0].experiment
    return [Comparison(kind, about, *names, on_test, result, class_=class_) for class_, result in results]


def compare_findings(
    first: Sequence[Compared], second: Sequence[Compared], folds: int | None
) -> list[tuple[str, Difference]]:
    """(finding, difference) in the primary metric of each finding that means are over."""
    cfg, rows = first[0].cfg, []
    for number in first[0].over:
        binary_cfg, names = of_finding(cfg, number), (cfg.primary,)
        one, other = ([each.findings.samples[number] for each in runs] for runs in (first, second))
        if len(one) == 1:
            results = compare_runs(one[0], other[0], binary_cfg, names)
        else:
            results = compare_repeats(one, other, binary_cfg, folds, names)
        rows += [(cfg.classes[number], result) for result in results]
    return rows


def compare_macro(first: Sequence[Compared], second: Sequence[Compared], folds: int | None) -> list[Difference]:
    """The differences in means over findings; of several repeats in the means over these, which are in one order."""
    return [_one_macro(name, first, second, folds) for name in METRICS]


def _one_macro(name: str, first: Sequence[Compared], second: Sequence[Compared], folds: int | None) -> Difference:
    one, other = (np.array([each.macro(name) for each in runs]) for runs in (first, second))
    row, cfg = untested(name, float(one.mean() - other.mean())), first[0].cfg
    if row.difference is None:
        return row
    if len(one) > 1:
        row = replace(row, first_sd=float(one.std(ddof=1)), second_sd=float(other.std(ddof=1)))
    why = next(filter(None, (too_few_patients(each.findings, each.over, cfg) for each in first)), None)
    if why:
        return replace(row, why=why)
    if folds and len(one) > 1:
        return t_test_over_folds(row, one - other, folds, cfg.confidence)
    influences = [[each.jackknives.macro(name, each.over) for each in runs] for runs in (first, second)]
    if len(one) > 1:
        return t_test_over_seeds(row, [one, other], influences, cfg.confidence, joint_degrees_of_freedom)
    apart = influence_on_difference([influences[0][0], influences[1][0]])
    row = replace(row, test=_test_name(name, first[0].findings.units.clustered))
    if apart is None:
        return replace(row, why=NO_DIFFERENCE)
    spread = Spread(variance(apart), joint_degrees_of_freedom(apart))
    return t_test(row, float(one[0] - other[0]), spread, cfg.confidence)


def _test_name(name: str, clustered: bool) -> str:
    if name == "auroc":
        return f"paired DeLong over findings{', of patients (Obuchowski)' if clustered else ''}"
    return f"paired t over findings, jackknife of {'patients' if clustered else 'images'}"
