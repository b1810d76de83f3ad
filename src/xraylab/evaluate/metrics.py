"""Every metric of classified images: of confusion matrices, of rankings, and of probabilities.

Functions of matrices take one or thousands at once, (..., C, C): row i, column j counts the images of class i that were
predicted as class j. A metric whose denominator is 0 is NaN, but for F1 and MCC, which are then 0 as in scikit-learn.
Definitions: docs/evaluation.md.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xraylab.evaluate.config import MACRO, OVERALL, WEIGHTED, EvalConfig
from xraylab.evaluate.confusion import Floats, Ints, confusion_matrix
from xraylab.evaluate.samples import Bools, Sample

AVERAGED = ("sensitivity", "specificity", "ppv", "npv", "fpr", "fnr", "f1", "auroc", "auprc")

Matrices = Ints | Floats
Named = dict[str, Floats]


class Key(NamedTuple):
    """What a metric is of, a class or OVERALL, MACRO or WEIGHTED, and its name."""

    class_: str
    name: str


def compute_metrics(sample: Sample, cfg: EvalConfig) -> dict[Key, float]:
    """Every metric of the images as they are, or its mean over their sources; NaN where one is not defined."""
    if sample.by_source:
        each = [compute_metrics(part, cfg) for part in sample.by_source]
        return {key: sum(metrics[key] for metrics in each) / len(each) for key in each[0]}
    matrix = confusion_matrix(sample.actual, sample.predicted, len(cfg.classes))
    losses = image_losses(sample, cfg).sum(axis=0)[None]
    metrics = matrix_metrics(matrix[None], cfg) | _ranking_metrics(sample, cfg) | loss_metrics(losses, cfg)
    return {key: float(value[0]) for key, value in metrics.items()}


def matrix_metrics(matrices: Matrices, cfg: EvalConfig) -> dict[Key, Floats]:
    """The metrics of confusion matrices (several, C, C): key -> (several,)."""
    rates = class_rates(matrices, cfg.negative_class, cfg.prevalence)
    return _by_key(rates, overall_rates(matrices), np.asarray(matrices, float).sum(axis=-1), cfg)


def image_losses(sample: Sample, cfg: EvalConfig) -> Floats:
    """(n, 2 C + 1): squared distance per class, -ln p of the actual class, and 1 for the actual class."""
    truth = np.eye(len(cfg.classes))[sample.actual]
    squares = (sample.probabilities - truth) ** 2
    of_actual = np.maximum((sample.probabilities * truth).sum(axis=1), np.finfo(np.float32).tiny)
    return np.column_stack([squares, -np.log(of_actual), truth])


def loss_metrics(sums: Floats, cfg: EvalConfig) -> dict[Key, Floats]:
    """The metrics of probabilities, from sums (several, 2 C + 1) of `image_losses` over images: key -> (several,).

    Brier, Mon Weather Rev 78 (1950) 1: of a class, the mean squared distance of its probability from 0 or 1; overall,
    with two classes that of the positive one, with more the sum over classes.
    """
    n_classes = len(cfg.classes)
    support = sums[:, n_classes + 1 :]
    brier = ratio(sums[:, :n_classes], support.sum(axis=1, keepdims=True))
    overall = {
        "brier": brier.sum(axis=1) if cfg.positive is None else brier[:, cfg.positive],
        "log_loss": ratio(sums[:, n_classes], support.sum(axis=1)),
    }
    return _by_key({"brier": brier}, overall, support, cfg)


def _ranking_metrics(sample: Sample, cfg: EvalConfig) -> dict[Key, Floats]:
    aurocs, auprcs = np.full((2, 1, len(cfg.classes)), np.nan)
    for label in cfg.reported:
        aurocs[0, label], auprcs[0, label] = auroc_and_auprc(sample.actual == label, sample.probabilities[:, label])
    support = np.bincount(sample.actual, minlength=len(cfg.classes))[None].astype(float)
    return _by_key({"auroc": aurocs, "auprc": auprcs}, {}, support, cfg)


def _by_key(per_class: Named, overall: Named, support: Floats, cfg: EvalConfig) -> dict[Key, Floats]:
    """The metrics under their keys, with their means over classes where there are more than two."""
    metrics = {Key(OVERALL, name): value for name, value in overall.items()}
    for label in cfg.reported:
        metrics |= {Key(cfg.classes[label], name): value[..., label] for name, value in per_class.items()}
    if cfg.negative_class in cfg.reported:
        metrics.pop(Key(cfg.classes[cfg.negative_class], "called_normal"), None)
    if cfg.positive is None:
        shares = ratio(support, support.sum(axis=-1, keepdims=True))
        for name in AVERAGED:
            if name in per_class:
                metrics[Key(MACRO, name)] = per_class[name].mean(axis=-1)
                metrics[Key(WEIGHTED, name)] = (per_class[name] * shares).sum(axis=-1)
    return metrics


def ratio(part: Floats, whole: Floats) -> Floats:
    """`part` / `whole`, NaN where `whole` is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole != 0, np.true_divide(part, whole), np.nan)


def proportions(matrix: Matrices, normal: int | None = None) -> dict[str, tuple[Floats, Floats]]:
    """Per class against the rest: the metrics that are a count out of a count, both (..., C).

    `normal` adds how many images of each class were called that class.
    """
    tp, fp, fn, tn = _one_vs_rest(matrix)
    called = {} if normal is None else {"called_normal": (np.asarray(matrix, float)[..., normal], tp + fn)}
    return called | {
        "accuracy": (tp + tn, tp + fp + fn + tn),
        "sensitivity": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "ppv": (tp, tp + fp),
        "npv": (tn, tn + fn),
        "fpr": (fp, tn + fp),
        "fnr": (fn, tp + fn),
    }


def class_rates(matrix: Matrices, normal: int | None = None, prevalence: Floats | None = None) -> Named:
    """Name -> (..., C), of each class against the rest.

    `prevalence` (C,), summing to 1, adds PPV and NPV as they would be where classes are that frequent. `normal` adds
    the rate at which each other class is called normal.
    """
    tp, fp, fn, tn = _one_vs_rest(matrix)
    rates = {name: ratio(*counts) for name, counts in proportions(matrix, normal).items()}
    spread = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    rates["f1"] = np.nan_to_num(ratio(2 * tp, 2 * tp + fp + fn))
    rates["mcc"] = np.nan_to_num(ratio(tp * tn - fp * fn, spread))
    if normal is not None:
        rates["called_normal"] = rates.pop("called_normal")  # last, as tables list it
        rates["called_normal"][..., normal] = np.nan
    if prevalence is not None:
        reweighted = proportions(row_shares(matrix) * prevalence[:, None])
        rates |= {f"{name}_at_prevalence": ratio(*reweighted[name]) for name in ("ppv", "npv")}
    return rates


def overall_rates(matrix: Matrices) -> Named:
    """Name -> (...): accuracy, balanced accuracy (mean sensitivity), MCC of C classes, Cohen's kappa.

    MCC: Gorodkin, Comput Biol Chem 28 (2004) 367. Kappa: Cohen, Educ Psychol Meas 20 (1960) 37.
    """
    counts = np.asarray(matrix, float)
    n, correct = counts.sum(axis=(-2, -1)), np.trace(counts, axis1=-2, axis2=-1)
    actual, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    chance = (actual * predicted).sum(axis=-1)
    spread = np.sqrt((n**2 - (actual**2).sum(axis=-1)) * (n**2 - (predicted**2).sum(axis=-1)))
    return {
        "accuracy": ratio(correct, n),
        "balanced_accuracy": ratio(np.diagonal(counts, axis1=-2, axis2=-1), actual).mean(axis=-1),
        "mcc": np.nan_to_num(ratio(correct * n - chance, spread)),
        "kappa": ratio(correct * n - chance, n**2 - chance),
    }


def row_shares(matrix: Matrices) -> Floats:
    """Each row as shares of the images of its class; NaN where there is none."""
    counts = np.asarray(matrix, float)
    return ratio(counts, counts.sum(axis=-1, keepdims=True))


def _one_vs_rest(matrix: Matrices) -> tuple[Floats, Floats, Floats, Floats]:
    """True positives, false positives, false negatives and true negatives of each class against the rest, (..., C)."""
    counts = np.asarray(matrix, float)
    tp = np.diagonal(counts, axis1=-2, axis2=-1)
    fp, fn = counts.sum(axis=-2) - tp, counts.sum(axis=-1) - tp
    return tp, fp, fn, counts.sum(axis=(-2, -1))[..., None] - tp - fp - fn


@dataclass(frozen=True)
class Ranking:
    """The positives (m,) in the order of their scores, and how many images are below each."""

    scores: Floats
    negatives_below: Ints
    negatives_up_to: Ints  # with a lower or the same score
    positives_below: Ints
    n_negatives: int


def rank(positive: Bools, scores: Floats) -> Ranking:
    """`positive` says which of the images are of the class; both arrays are (n,)."""
    positives, negatives = np.sort(scores[positive]), np.sort(scores[~positive])
    return Ranking(
        positives,
        np.searchsorted(negatives, positives, "left"),
        np.searchsorted(negatives, positives, "right"),
        np.searchsorted(positives, positives, "left"),
        len(negatives),
    )


def auroc_and_auprc(positive: Bools, scores: Floats) -> tuple[float, float]:
    """AUROC and average precision; NaN where there is no positive or no negative.

    AUROC is the share of pairs in the right order, a tie counting half. Average precision is the sum, over the
    thresholds, of precision times the gain in recall.
    """
    if not has_both(positive):
        return float("nan"), float("nan")
    order = rank(positive, scores)
    m, n = len(order.scores), order.n_negatives
    tp = m - order.positives_below
    precision = tp / (tp + n - order.negatives_below)
    return float((order.negatives_below + order.negatives_up_to).sum() / (2 * m * n)), float(precision.mean())


def auprc_derivatives(positive: Bools, scores: Floats) -> Floats:
    """Average precision's derivative with respect to the weight of each image (n,).

    An image changes the precision at every positive that is called only once it is: that of no higher a score.
    """
    order = rank(positive, scores)
    m = len(order.scores)
    tp = m - order.positives_below
    called = tp + order.n_negatives - order.negatives_below
    precision = tp / called
    parts = ((1 - precision) / called, precision / called)
    gained, lost = (np.concatenate([[0], np.cumsum(part / m)]) for part in parts)
    up_to = np.searchsorted(order.scores, scores, "right")
    derivatives = np.where(positive, gained[up_to], -lost[up_to])
    by_score = np.flatnonzero(positive)[np.argsort(scores[positive], kind="stable")]
    derivatives[by_score] += (precision - precision.mean()) / m
    return derivatives


def delong_components(positive: Bools, scores: Floats) -> Floats:
    """Each image's structural component, divided by how many images of its kind there are: (n,).

    Of a positive it is the share of negatives that it ranks above (ties half), of a negative the share of positives
    that rank above it; so the components of either kind sum to the AUROC (DeLong, DeLong and Clarke-Pearson, Biometrics
    44 (1988) 837).
    """
    positives, negatives = scores[positive], scores[~positive]
    components = np.empty(len(scores))
    components[positive] = _n_below(positives, negatives) / len(negatives) / len(positives)
    components[~positive] = (len(positives) - _n_below(negatives, positives)) / len(positives) / len(negatives)
    return components


def _n_below(scores: Floats, others: Floats) -> Floats:
    """How many of `others` are lower than each of `scores`, the same counting half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / 2


def auroc(actual: Ints, probabilities: Floats, positive: int | None) -> float | None:
    """The area under the ROC curve of `positive` against the rest; None: the mean over every class against the rest.

    None where a class it needs has no image, or has them all: there is no curve then.
    """
    labels = range(probabilities.shape[1]) if positive is None else [positive]
    if not all(has_both(actual == label) for label in labels):
        return None
    return float(np.mean([auroc_and_auprc(actual == label, probabilities[:, label])[0] for label in labels]))


def has_both(positive: Bools) -> bool:
    """True where some images are positive and some are not."""
    return 0 < int(positive.sum()) < len(positive)


def log_loss(actual: Ints, probabilities: Floats) -> float:
    """The mean of -ln p, p being the probability of the actual class, at least float32's smallest normal number.

    Unlike the loss in history.csv it knows no class weights, so experiments with different ones can be compared.
    """
    of_actual = probabilities[np.arange(len(actual)), actual]
    return float(-np.log(np.maximum(of_actual, np.finfo(np.float32).tiny)).mean())
