"""Every metric with its confidence interval, the method that made it, or the reason why there is none.

Independent images: Wilson for proportions. Patients with several images: the logit t interval of a ratio. AUROC:
Newcombe's, with DeLong's or Obuchowski's variance. Everything else, and means over sources: the jackknife, on the
metric's own scale. bench/inference_level.py measures their coverage.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from xraylab.evaluate import metrics
from xraylab.evaluate.config import MACRO, OVERALL, WEIGHTED, EvalConfig
from xraylab.evaluate.confusion import Floats, Ints, confusion_matrix
from xraylab.evaluate.metrics import Key
from xraylab.evaluate.resampling import Influence, Jackknife, class_weights, degrees_of_freedom, variance
from xraylab.evaluate.samples import MIN_PATIENTS, Sample, unit_matrices

Interval = tuple[float, float]
Counts = tuple[Floats, Floats]  # a count, and of how many
ROUNDING = 1e-9  # an AUROC so near to 1 or 0 is that
SCALES = {  # there, back, and the ends of its range
    "logit": (special.logit, special.expit, (0.0, 1.0)),
    "atanh": (np.arctanh, np.tanh, (-1.0, 1.0)),
    "log": (np.log, np.exp, (0.0, np.inf)),
}
SCALE_OF = {"mcc": "atanh", "kappa": "atanh", "brier": "log", "log_loss": "log"}  # of the others it is the logit
OF_CLASS, OF_REST = ("sensitivity", "fnr", "called_normal"), ("specificity", "fpr")
NO_VARIATION = "every patient has the same of it, so nothing tells how it varies"


@dataclass(frozen=True)
class Metric:
    """A value with its interval; None where it is not defined or has no interval, with the `why` for the latter."""

    class_: str
    metric: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    ci_method: str | None
    n: int | None  # images that it speaks of (of an AUROC, the rarer of class and rest)
    why: str | None

    @property
    def interval(self) -> tuple[float, float, float] | None:
        """Value, low and high."""
        if self.value is None or self.ci_low is None or self.ci_high is None:
            return None
        return self.value, self.ci_low, self.ci_high


def metrics_with_intervals(sample: Sample, cfg: EvalConfig, jackknife: Jackknife | None = None) -> list[Metric]:
    """`jackknife`: of the same sample, where there is one already."""
    counts, jackknife = _counts_by_unit(sample, cfg), jackknife or Jackknife(sample, cfg)
    values = metrics.compute_metrics(sample, cfg)
    n_images, rows = _n_images(sample, cfg, values), []
    for key, value in values.items():
        why = too_few_patients(sample, key, cfg)
        if np.isnan(value) or why:
            rows.append(_metric(key, value, n_images[key], why=why))
        elif key in counts and not sample.by_source:
            rows.append(_metric(key, value, n_images[key], *proportion(sample, counts[key], cfg.confidence)))
        else:
            interval = _from_influence(key, value, jackknife.influence(key), sample, cfg)
            rows.append(_metric(key, value, n_images[key], *interval))
    return rows


def metrics_without_intervals(sample: Sample, cfg: EvalConfig) -> list[Metric]:
    values = metrics.compute_metrics(sample, cfg)
    n_images = _n_images(sample, cfg, values)
    return [_metric(key, value, n_images[key], why="") for key, value in values.items()]


def too_few_patients(sample: Sample, key: Key, cfg: EvalConfig) -> str:
    """Which class that the metric is about has too few patients for an interval or a test; empty where none has.

    Of a class, a rate of its own images needs these, one of the others needs those, and every other metric both.
    """
    if sample.by_source:
        return next(filter(None, (too_few_patients(part, key, cfg) for part in sample.by_source)), "")
    unit = "image" if sample.units.patients is None else "patient"
    for name, n in _n_patients(sample, key, cfg).items():
        if n < MIN_PATIENTS:
            return f"only {n} {unit}{'' if n == 1 else 's'} of {name}; at least {MIN_PATIENTS} are needed"
    return ""


def _n_patients(sample: Sample, key: Key, cfg: EvalConfig) -> dict[str, int]:
    """How many patients each class has that the metric is about."""
    if key.class_ in (OVERALL, MACRO, WEIGHTED):
        return {name: sample.n_units(label) for label, name in enumerate(cfg.classes)}
    label = cfg.classes.index(key.class_)
    rest_name = cfg.classes[1 - label] if len(cfg.classes) == 2 else "the other classes"
    of_class, of_rest = {key.class_: sample.n_units(label)}, {rest_name: sample.n_units(label, rest=True)}
    return of_class if key.name in OF_CLASS else of_rest if key.name in OF_REST else of_class | of_rest


def _counts_by_unit(sample: Sample, cfg: EvalConfig) -> dict[Key, Counts]:
    """The metrics that are a count out of a count, as these two, by unit (units,)."""
    matrices = unit_matrices(sample, sample.predicted, len(cfg.classes))
    correct, images = np.trace(matrices, axis1=1, axis2=2), matrices.sum(axis=(1, 2))
    counts = {Key(OVERALL, "accuracy"): (correct.astype(float), images.astype(float))}
    for label in cfg.reported:
        for name, (part, whole) in metrics.proportions(matrices, cfg.negative_class).items():
            counts[Key(cfg.classes[label], name)] = part[:, label], whole[:, label]
    return counts


def _n_images(sample: Sample, cfg: EvalConfig, keys: Collection[Key]) -> dict[Key, int]:
    """How many images each metric speaks of."""
    matrix = confusion_matrix(sample.actual, sample.predicted, len(cfg.classes))
    images, of_all = matrix.sum(axis=1), len(sample.actual)
    numbers = {key: of_all if key.class_ == OVERALL else int(images.min()) for key in keys}
    wholes = {name: whole for name, (_, whole) in metrics.proportions(matrix, cfg.negative_class).items()}
    for key in (key for key in keys if key.class_ in cfg.classes):
        label = cfg.classes.index(key.class_)
        rarer = min(images[label], of_all - images[label])
        numbers[key] = int(wholes[key.name][label] if key.name in wholes else rarer)
    return numbers


def _metric(
    key: Key, value: float, n: int, interval: Interval | None = None, ci_method: str = "", why: str = NO_VARIATION
) -> Metric:
    if np.isnan(value):
        return Metric(*key, None, None, None, None, n, None)
    if interval is None:
        return Metric(*key, value, None, None, None, n, why or None)
    return Metric(*key, value, *interval, ci_method, n, None)


def proportion(sample: Sample, counts: Counts, confidence: float) -> tuple[Interval | None, str]:
    """The interval of a count out of a count, given by unit of the sample (units,), and its method."""
    if sample.units.clustered:
        return clustered_proportion(*counts, confidence)
    return wilson(counts[0].sum(), counts[1].sum(), confidence), "Wilson"


def _from_influence(
    key: Key, value: float, influence: Influence | None, sample: Sample, cfg: EvalConfig
) -> tuple[Interval | None, str]:
    if influence is None:
        return None, ""
    clustered, within = sample.units.clustered, " within each source" if sample.by_source else ""
    spread = Spread(variance(influence), degrees_of_freedom(influence))
    if key.name == "auroc":
        method = f"Newcombe, variance of {'Obuchowski' if clustered else 'DeLong'}{within}"
        return newcombe_auroc(value, spread, auroc_sizes(sample, key, cfg), cfg.confidence), method
    scale = SCALE_OF.get(key.name, "logit")
    method = f"jackknife of {'patients' if clustered else 'images'}{within}, {scale} t"
    return t_interval(value, spread, cfg.confidence, scale), method


def wilson(part: float, whole: float, confidence: float) -> Interval | None:
    """Wilson's score interval of `part` out of `whole`, J Am Stat Assoc 22 (1927) 209; None out of 0."""
    if whole == 0:
        return None
    z = float(stats.norm.ppf((1 + confidence) / 2))
    share, shrunk = part / whole, 1 + z**2 / whole
    middle = (share + z**2 / (2 * whole)) / shrunk
    half = z / shrunk * float(np.sqrt(share * (1 - share) / whole + z**2 / (4 * whole**2)))
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))


@dataclass(frozen=True)
class Spread:
    """The variance of an estimate, and its degrees of freedom."""

    variance: float
    freedom: float


def clustered_proportion(parts: Floats, wholes: Floats, confidence: float) -> tuple[Interval | None, str]:
    """Of a proportion whose images come by patient: `parts` out of `wholes`, (units,) each; and the method.

    The variance of a ratio of sums (Cochran, Sampling Techniques, 1977, section 3.12), on the logit scale with t on one
    degree of freedom less than patients. Where all images are right, or none, there is no variance to estimate, and
    the patients, all right, have Wilson's.
    """
    has_images = wholes > 0
    n, total = int(has_images.sum()), float(wholes.sum())
    if n == 0:
        return None, ""
    share = float(parts.sum() / total)
    if share in (0.0, 1.0):
        return wilson(share * n, n, confidence), "Wilson of patients"
    of_ratio = n / max(n - 1, 1) * float(np.square(parts - share * wholes)[has_images].sum()) / total**2
    return t_interval(share, Spread(of_ratio, n - 1), confidence, "logit"), "logit t of patients"


def t_interval(value: float, spread: Spread, confidence: float, scale: str) -> Interval | None:
    """A t interval on the scale `logit` (of metrics from 0 to 1), `atanh` (-1 to 1) or `log` (0 and above).

    None at the ends of the scale and without a variance: there nothing tells how sure the metric is.
    """
    forward, back, (low, high) = SCALES[scale]
    if not (spread.variance > 0 and spread.freedom > 0 and low + 1e-12 < value < high - 1e-12):
        return None
    step = 1e-6 * min(value - low, high - value, 1.0)
    slope = (forward(value + step) - forward(value - step)) / (2 * step)
    half = t_quantile(spread.freedom, confidence) * np.sqrt(spread.variance) * slope
    return float(back(forward(value) - half)), float(back(forward(value) + half))


def t_quantile(freedom: float, confidence: float) -> float:
    """The two-sided quantile of Student's t."""
    return float(stats.t.ppf((1 + confidence) / 2, freedom))


@dataclass(frozen=True)
class AurocSizes:
    """Of an AUROC, or of each in a mean of several: numbers of the class and of its rest, (aurocs, 2), and weights."""

    images: npt.ArrayLike
    patients: npt.ArrayLike
    weights: npt.ArrayLike


def auroc_sizes(sample: Sample, key: Key, cfg: EvalConfig) -> AurocSizes:
    images, patients, weights = [], [], []
    parts = sample.by_source or [sample]
    for part in parts:
        labels, of_labels = class_weights(part, key, cfg)
        images += [[(part.actual == label).sum(), (part.actual != label).sum()] for label in labels]
        patients += [[part.n_units(label), part.n_units(label, rest=True)] for label in labels]
        weights += (of_labels / len(parts)).tolist()
    return AurocSizes(images, patients, weights)


def newcombe_auroc(auroc: float, spread: Spread, sizes: AurocSizes, confidence: float) -> Interval:
    """Of an AUROC, or of a mean of several: every true value that its score test does not reject.

    Newcombe, Stat Med 25 (2006) 559, method 5: the variance at a true value, not at the estimate, so that an order
    without a mistake has an interval too. Times the ratio of the variance (DeLong's or Obuchowski's) to Newcombe's
    where it is above 1, and with the t quantile. Patients alone count where no mistake tells how alike the images of
    one are.
    """
    perfect = not ROUNDING < auroc < 1 - ROUNDING
    numbers = np.array(sizes.patients if perfect else sizes.images, float)
    squares = np.square(sizes.weights)

    def variance_at(true: float) -> float:
        return float(squares @ _newcombe_variance(true, numbers[:, 0], numbers[:, 1]))

    inflation = 1.0 if perfect else max(spread.variance / variance_at(auroc), 1.0)
    squared_t = t_quantile(spread.freedom, confidence) ** 2 * inflation

    def rejected(true: float) -> float:
        return (auroc - true) ** 2 - squared_t * variance_at(true)

    low = 0.0 if auroc <= ROUNDING else optimize.brentq(rejected, 0, min(auroc, 1 - ROUNDING))
    high = 1.0 if auroc >= 1 - ROUNDING else optimize.brentq(rejected, max(auroc, ROUNDING), 1)
    return float(low), float(high)


def _newcombe_variance(true: float, positives: Floats | Ints, negatives: Floats | Ints) -> Floats:
    """The variance of an AUROC whose true value is `true`; that of Hanley and McNeil with the mean of both numbers."""
    middle = (positives + negatives) / 2
    spread = 2 * middle - 1 - 3 * (middle - 1) / ((2 - true) * (1 + true))
    variances: Floats = true * (1 - true) * spread / (positives * negatives)
    return variances


def difference_interval(first: tuple[float, float, float], second: tuple[float, float, float]) -> Interval:
    """The interval of first - second, from the value and the limits (value, low, high) of two independent groups.

    Its level is that of the two intervals: the method of variance estimates recovery (Zou and Donner, Stat Med 27
    (2008) 1693), which from two Wilson intervals makes Newcombe's. Where groups share patients it is too wide.
    """
    (value, low, high), (other, other_low, other_high) = first, second
    below, above = math.hypot(value - low, other_high - other), math.hypot(high - value, other - other_low)
    return value - other - below, value - other + above
