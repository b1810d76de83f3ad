"""Experiments against the baseline, and the two best against each other, in numbers and in words that claim no more."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from xraylab.evaluate import power
from xraylab.evaluate.config import MACRO, EvalConfig
from xraylab.evaluate.operating_points import Rule, threshold_curve
from xraylab.evaluate.predictions import Run, Study
from xraylab.evaluate.significance import METRICS, Difference, compare_repeats, compare_runs, holm

PRIMARY, EXPLORATORY = "primary", "exploratory"
BASELINE, TOP_TWO = "baseline", "top two"
NETWORKS, SETTINGS = "trained networks", "settings"
AT_THRESHOLDS = ("sensitivity", "specificity")
CHOSEN_ON_TEST = "; chosen on these very test images, so this proves nothing"


@dataclass(frozen=True)
class Margin:
    """What is shown of the smallest difference that matters.

    From the interval that all primary differences keep together (Bonferroni): an experiment is not worse where its
    lower end is above -margin (ICH E9, section 3.3.2), and equivalent where it lies within the margin (Schuirmann, J
    Pharmacokinet Biopharm 15 (1987) 657).
    """

    margin: float | None = None
    margin_low: float | None = None
    margin_high: float | None = None
    not_worse: bool | None = None
    equivalent: bool | None = None


@dataclass(frozen=True)
class Comparison:
    """Two experiments, `first` less `second`, in one metric of their best epochs.

    With one repeat it is about the trained networks, with several about the settings.
    """

    kind: str
    about: str
    first: str
    second: str
    chosen_on_test: bool
    result: Difference
    point: str | None = None  # the operating point at which images were called
    class_: str | None = None  # of a multi-label study: a finding, or MACRO
    role: str = EXPLORATORY
    p_holm: float | None = None  # corrected for `tests` differences
    tests: int = 0
    detectable: float | None = None
    against_margin: Margin = Margin()
    sentence: str = ""


def compare_experiments(study: Study, top_two: Sequence[str], ranked_on: str, cfg: EvalConfig) -> list[Comparison]:
    """One comparison per pair and metric, of the best epochs.

    `role` is primary for `cfg.primary` against the baseline, corrected over the experiments; everything else is
    exploratory, corrected over all of its metrics and pairs together. Where the baseline is one of the two best, theirs
    are the comparisons that are there already.
    """
    runs = study.by_experiment

    def compare(first: str, second: str, kind: str) -> list[Comparison]:
        return _compare(runs[first], runs[second], kind, study.folds, cfg)

    return compare_pairs(list(runs), study.baseline, top_two, ranked_on, cfg, compare)


def compare_pairs(
    experiments: Sequence[str],
    baseline: str,
    top_two: Sequence[str],
    ranked_on: str,
    cfg: EvalConfig,
    compare: Callable[[str, str, str], list[Comparison]],
) -> list[Comparison]:
    """What `compare` says of two experiments and the kind of their comparison, of all pairs, corrected."""
    pairs = [(name, baseline, BASELINE) for name in experiments if name != baseline]
    if baseline not in top_two:
        pairs.append((top_two[0], top_two[1], TOP_TWO))
    primary: list[Comparison] = []
    rest: list[Comparison] = []
    for first, second, kind in pairs:
        on_test = kind == TOP_TWO and ranked_on == "test"
        for row in compare(first, second, kind):
            key = row.kind, row.result.metric, row.class_ or MACRO
            role = primary if key == (BASELINE, cfg.primary, MACRO) else rest
            role.append(replace(row, chosen_on_test=row.chosen_on_test or on_test))
    rows = _conclude(primary, PRIMARY, cfg) + _conclude(rest, EXPLORATORY, cfg)
    if baseline in top_two:
        rows += [replace(row, kind=TOP_TWO) for row in rows if {row.first, row.second} == set(top_two)]
    return rows


def compare_at_thresholds(study: Study, rules: dict[str, Rule], cfg: EvalConfig) -> list[Comparison]:
    """Sensitivity and specificity against the baseline where each run fixed its threshold on its own validation images.

    Every image is called by its own run's threshold, so the test is that of predictions: whole patients are swapped, or
    with several repeats seeds count as readers. Thresholds are taken as they are. All are exploratory, and corrected
    together. None with more than two classes, and none for a point that some run has no threshold for.
    """
    rows: list[Comparison] = []
    for point, rule in rules.items() if cfg.positive is not None else ():
        runs = {name: [_call(run, rule, cfg) for run in runs] for name, runs in study.by_experiment.items()}
        complete = {name: called for name, each in runs.items() if len(called := _present(each)) == len(each)}
        for name in complete if study.baseline in complete else ():
            if name != study.baseline:
                every = _compare(complete[name], complete[study.baseline], BASELINE, study.folds, cfg)
                rows += [replace(row, point=point) for row in every if row.result.metric in AT_THRESHOLDS]
    return _conclude(rows, EXPLORATORY, cfg)


def _present(runs: Sequence[Run | None]) -> list[Run]:
    return [run for run in runs if run is not None]


def _call(run: Run, rule: Rule, cfg: EvalConfig) -> Run | None:
    """The run with a probability of 0 or 1 for each test image: whether its threshold calls it positive."""
    label, valid = cfg.positive or 0, run.valid.get("best")
    curve = None if valid is None else threshold_curve(valid.actual == label, valid.probabilities[:, label])
    threshold = None if curve is None else rule(curve)
    if threshold is None:
        return None
    test = run.test["best"]
    positive = (test.probabilities[:, label] >= threshold).astype(float)
    columns = [positive if number == label else 1 - positive for number in range(2)]
    return replace(run, test={"best": replace(test, probabilities=np.column_stack(columns))})


def _compare(
    first: Sequence[Run], second: Sequence[Run], kind: str, folds: int | None, cfg: EvalConfig
) -> list[Comparison]:
    """One comparison per metric, not yet corrected. The runs are of the same repeats, in one order."""
    of_first, of_second = ([run.test["best"] for run in runs] for runs in (first, second))
    once = len(first) == 1
    results = compare_runs(of_first[0], of_second[0], cfg) if once else compare_repeats(of_first, of_second, cfg, folds)
    about, on_test = NETWORKS if once else SETTINGS, "test" in {run.monitored_split for run in (*first, *second)}
    names = first[0].experiment, second[0].experiment
    return [Comparison(kind, about, *names, on_test, result) for result in results]


def _conclude(rows: list[Comparison], role: str, cfg: EvalConfig) -> list[Comparison]:
    """With p corrected for all of `rows` that have a test, what could have been shown, and the sentence."""
    ps = [row.result.p for row in rows]
    corrected = holm([float("nan") if p is None else p for p in ps]).tolist()
    tests = sum(p is not None for p in ps)
    concluded = []
    for row, p, p_holm in zip(rows, ps, corrected, strict=True):
        comparison = replace(row, role=role, tests=tests, p_holm=None if p is None else p_holm)
        if role == PRIMARY and cfg.margin > 0:
            comparison = replace(comparison, against_margin=_against_margin(row.result, tests, cfg))
        if row.result.error is not None and tests:
            comparison = replace(
                comparison, detectable=power.detectable_difference(row.result.error, cfg.confidence, tests)
            )
        concluded.append(replace(comparison, sentence=describe(comparison, cfg.confidence)))
    return concluded


def _against_margin(result: Difference, tests: int, cfg: EvalConfig) -> Margin:
    if result.error is None or result.difference is None:
        return Margin(cfg.margin)
    level = (1 - cfg.confidence) / tests / 2
    half = float(stats.t.isf(level, result.freedom)) * result.error
    low, high = result.difference - half, result.difference + half
    return Margin(cfg.margin, low, high, low > -cfg.margin, -cfg.margin < low and high < cfg.margin)


def describe(row: Comparison, confidence: float) -> str:
    """The comparison as a sentence; shown to differ where the corrected p is under 1 - `confidence`.

    With one repeat it is about the two trained networks, with several about the settings. What is exploratory says so.
    """
    begin = "Exploratory: " if row.role == EXPLORATORY else ""
    name, once = _metric_name(row), row.about == NETWORKS
    if row.result.difference is None:
        return f"{begin}{row.first} and {row.second} have no {name} to compare."
    first, second = (f"{each}’s" if once else each for each in (row.first, row.second))
    differs = row.p_holm is not None and row.p_holm < 1 - confidence
    higher = "higher" if row.result.difference > 0 else "lower"
    claim = f"has a {higher} {name} than {second}" if differs else f"is not shown to differ from {second}"
    networks = f"{'of' if begin else 'Of'} these two trained networks, " if once else ""
    numbers = f"{name} {row.result.difference:+z.3f}{_interval(row.result, confidence)}, {_p(row)}"
    mark = CHOSEN_ON_TEST if row.chosen_on_test else ""
    return f"{begin}{networks}{first} {claim}: {numbers}{_margin(row)}{mark}."


def _metric_name(row: Comparison) -> str:
    name = METRICS[row.result.metric]
    return name if row.class_ is None else f"macro {name}" if row.class_ == MACRO else f"{name} of {row.class_}"


def _interval(result: Difference, confidence: float) -> str:
    if result.ci_low is None or result.ci_high is None:
        return ", no interval"
    return f", {100 * confidence:g} % CI {result.ci_low:+z.3f} to {result.ci_high:+z.3f}"


def _p(row: Comparison) -> str:
    if row.p_holm is None:
        return f"no test ({row.result.why})" if row.result.why else "no test"
    what = "experiments" if row.role == PRIMARY else "tests"
    corrected = f" (corrected for {row.tests} {what})" if row.tests > 1 else ""
    return f"p {format_p(row.p_holm, row.result.p_at_most)}{corrected}"


def format_p(p: float, at_most: bool) -> str:
    """`= 0.012`; `<= 0.0001` where no draw of the test was as extreme, so that p is known no better."""
    if at_most:
        return f"<= {p:.1g}" if p < 0.001 else f"<= {p:.3f}"
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def _margin(row: Comparison) -> str:
    """What the interval that all experiments keep together says of the smallest difference that matters."""
    margin = row.against_margin
    if not margin.margin:
        return ""
    if margin.equivalent:
        return f"; equivalent within {margin.margin:g}"
    if margin.not_worse:
        return f"; not worse than {row.second} by {margin.margin:g} or more"
    return f"; a difference of {margin.margin:g} for the worse is not excluded"
