"""The metrics of each finding, their means over findings (macro), and those of all pairs of image and finding (micro).

Of a finding they are those of two classes. A mean's variance is that of the sum, by patient, of what each patient adds
to the metric of every finding, so it knows how findings go together.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from xraylab.evaluate.config import MACRO, OVERALL, EvalConfig
from xraylab.evaluate.intervals import (
    NO_VARIATION,
    SCALE_OF,
    AurocSizes,
    Interval,
    Metric,
    Spread,
    auroc_sizes,
    metrics_with_intervals,
    metrics_without_intervals,
    newcombe_auroc,
    t_interval,
)
from xraylab.evaluate.metrics import Key, has_both
from xraylab.evaluate.multi_label.samples import Findings
from xraylab.evaluate.resampling import Influence, Jackknife, joint_degrees_of_freedom, variance
from xraylab.evaluate.samples import Sample

MICRO = "micro"
OF_FINDING = (
    "auroc", "auprc", "sensitivity", "specificity", "ppv", "npv", "f1", "accuracy", "balanced_accuracy", "mcc",
    "brier", "log_loss",
)  # fmt: skip
AT_PREVALENCE = ("ppv_at_prevalence", "npv_at_prevalence")
OF_PAIRS = ("auroc", "auprc", "sensitivity", "specificity", "ppv", "f1")
OVERALL_ONLY = ("balanced_accuracy", "log_loss")  # of two classes these are metrics of both
ROUNDING = 1e-9
MIN_FOR_MEAN = 2  # patients with and without each finding: of one alone nothing tells how it varies
MIN_FOR_MEAN_AUPRC = 20  # with fewer, its estimate is too high on average: bench/findings_level.py
NO_POSITIVE, NO_NEGATIVE, NO_LABEL = "no image has the finding", "every image has the finding", "no image is labelled"


def of_finding(cfg: EvalConfig, number: int) -> EvalConfig:
    """The configuration of one finding as two classes."""
    name = cfg.classes[number]
    rate = None if cfg.prevalence is None else float(cfg.prevalence[number])
    prevalence = None if rate is None else np.array([1 - rate, rate])
    return replace(cfg, classes=[f"no {name}", name], positive=1, negative_class=None, prevalence=prevalence)


def of_pairs(cfg: EvalConfig) -> EvalConfig:
    """The configuration of all pairs of image and finding as two classes."""
    return replace(cfg, classes=["absent findings", MICRO], positive=1, negative_class=None, prevalence=None)


def key_of(name: str, cfg: EvalConfig) -> Key:
    """Of a metric of a finding; `cfg`: that of the finding."""
    return Key(OVERALL if name in OVERALL_ONLY else cfg.classes[1], name)


def jackknife(sample: Sample, cfg: EvalConfig) -> Jackknife:
    """Patients are drawn as they come, so how many have a finding is random."""
    return Jackknife(sample, cfg, stratified=False)


class Jackknives:
    """How far each patient moves the metrics of each finding, and their means."""

    def __init__(self, findings: Findings, cfg: EvalConfig) -> None:
        self._findings, self._cfg = findings, cfg
        self.each = [jackknife(sample, of_finding(cfg, number)) for number, sample in enumerate(findings.samples)]

    def macro(self, name: str, over: Sequence[int]) -> Influence | None:
        """On the mean of the metric over the findings `over`; None where it is not defined without some patient."""
        every = [self.each[number].influence(key_of(name, of_finding(self._cfg, number))) for number in over]
        values, members = [], []
        for number, influence in zip(over, every, strict=True):
            if influence is None:
                return None
            of_units = np.zeros((len(self._findings.units.strata), len(influence.members)))
            np.add.at(of_units, self._findings.units_of(number), influence.values / len(over))
            values.append(of_units)
            members.append(influence.members)
        return Influence(np.hstack(values), np.concatenate(members)) if values else None


def compute_metrics(findings: Findings, cfg: EvalConfig, over: Sequence[int], intervals: bool) -> list[Metric]:
    """Every metric of each finding, of the mean over the findings `over`, and of all pairs."""
    jackknives = Jackknives(findings, cfg)
    each = [
        _one_finding(findings, number, cfg, jackknives if intervals else None) for number in range(len(cfg.classes))
    ]
    macro = [_macro(name, each, over, findings, cfg, jackknives if intervals else None) for name in OF_FINDING]
    return [metric for rows in each for metric in rows.values()] + macro + _micro(findings, cfg, intervals)


def _one_finding(findings: Findings, number: int, cfg: EvalConfig, jackknives: Jackknives | None) -> dict[str, Metric]:
    """Name -> metric; without values where the images do not have both classes."""
    sample, binary_cfg = findings.samples[number], of_finding(cfg, number)
    names = OF_FINDING + (AT_PREVALENCE if binary_cfg.prevalence is not None else ())
    why = why_undefined(findings, number)
    if why:
        n = len(sample.actual)
        return {name: Metric(binary_cfg.classes[1], name, None, None, None, None, n, why) for name in names}
    metrics = (
        metrics_without_intervals(sample, binary_cfg)
        if jackknives is None
        else metrics_with_intervals(sample, binary_cfg, jackknives.each[number])
    )
    rows = {Key(row.class_, row.metric): row for row in metrics}
    return {name: replace(rows[key_of(name, binary_cfg)], class_=binary_cfg.classes[1]) for name in names}


def why_undefined(findings: Findings, number: int) -> str:
    """Why a finding has no metrics; empty where it has."""
    positive = findings.samples[number].actual == 1
    if not len(positive):
        return NO_LABEL
    return "" if has_both(positive) else NO_NEGATIVE if positive.all() else NO_POSITIVE


def _macro(
    name: str,
    each: list[dict[str, Metric]],
    over: Sequence[int],
    findings: Findings,
    cfg: EvalConfig,
    jackknives: Jackknives | None,
) -> Metric:
    """The mean over findings; undefined where the metric is undefined for one of them."""
    values = [value for number in over if (value := each[number][name].value) is not None]
    n = min((each[number][name].n or 0 for number in over), default=0)
    if len(values) < max(len(over), 1):
        return Metric(MACRO, name, None, None, None, None, n, None)
    value = float(np.mean(values))
    if jackknives is None:
        return Metric(MACRO, name, value, None, None, None, n, None)
    why = too_few_patients(findings, over, cfg, MIN_FOR_MEAN_AUPRC if name == "auprc" else MIN_FOR_MEAN)
    influence = None if why else jackknives.macro(name, over)
    if influence is None:
        return Metric(MACRO, name, value, None, None, None, n, why or None)
    interval, method = _interval(name, value, influence, findings, over, cfg)
    if interval is None:
        return Metric(MACRO, name, value, None, None, None, n, NO_VARIATION)
    return Metric(MACRO, name, value, *interval, method, n, None)


def too_few_patients(findings: Findings, over: Sequence[int], cfg: EvalConfig, least: int = MIN_FOR_MEAN) -> str:
    """Which finding too few patients have, or have not, for an interval of a mean over findings; empty where none."""
    unit = "image" if findings.units.patients is None else "patient"
    for number in over:
        for part in findings.samples[number].by_source or [findings.samples[number]]:
            for label, what in ((1, "with"), (0, "without")):
                n = part.n_units(label)
                if n < least:
                    who = f"{n} {unit}{'' if n == 1 else 's'} {what} {cfg.classes[number]}"
                    return f"only {who}; at least {least} are needed"
    return ""


def _interval(
    name: str, value: float, influence: Influence, findings: Findings, over: Sequence[int], cfg: EvalConfig
) -> tuple[Interval | None, str]:
    spread, clustered = Spread(variance(influence), joint_degrees_of_freedom(influence)), findings.units.clustered
    if name == "auroc":
        sizes = _auroc_sizes(findings, over, cfg, perfect=value >= 1 - ROUNDING)
        method = f"Newcombe, variance of {'Obuchowski' if clustered else 'DeLong'} over findings"
        return newcombe_auroc(value, spread, sizes, cfg.confidence), method
    scale = SCALE_OF.get(name, "logit")
    method = f"jackknife of {'patients' if clustered else 'images'} over findings, {scale} t"
    return t_interval(value, spread, cfg.confidence, scale), method


def _auroc_sizes(findings: Findings, over: Sequence[int], cfg: EvalConfig, perfect: bool) -> AurocSizes:
    """Of all findings; where none has a mistake, of the rarest alone, since nothing tells how alike findings are."""
    each = [
        auroc_sizes(findings.samples[number], key_of("auroc", binary_cfg), binary_cfg)
        for number in over
        for binary_cfg in [of_finding(cfg, number)]
    ]
    if perfect:
        return min(each, key=lambda sizes: int(np.min(sizes.patients)))
    return AurocSizes(
        np.concatenate([np.asarray(sizes.images) for sizes in each]),
        np.concatenate([np.asarray(sizes.patients) for sizes in each]),
        np.concatenate([np.asarray(sizes.weights) for sizes in each]) / len(over),
    )


def _micro(findings: Findings, cfg: EvalConfig, intervals: bool) -> list[Metric]:
    sample, binary_cfg = findings.pairs, of_pairs(cfg)
    if not has_both(sample.actual == 1):
        why = NO_POSITIVE if not sample.actual.any() else NO_NEGATIVE
        return [Metric(MICRO, name, None, None, None, None, len(sample.actual), why) for name in OF_PAIRS]
    metrics = (
        metrics_with_intervals(sample, binary_cfg, jackknife(sample, binary_cfg))
        if intervals
        else metrics_without_intervals(sample, binary_cfg)
    )
    rows = {row.metric: row for row in metrics if row.class_ == MICRO}
    return [_as_units(rows[name], findings.units.patients) for name in OF_PAIRS]


def _as_units(row: Metric, patients: int | None) -> Metric:
    """In words of images where patients are unknown: the pairs of an image go together then."""
    why = None if row.why is None else row.why.replace(f"of {MICRO}", "with a finding")
    if patients is not None:
        return replace(row, why=why)
    method, why = (None if text is None else text.replace("patient", "image") for text in (row.ci_method, why))
    return replace(row, ci_method=method, why=why)
