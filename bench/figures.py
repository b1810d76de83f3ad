"""What 2,000 bootstrap draws of every figure cost, and against a loop that asks scikit-learn.

Part of `make bench`, 1 min.
20,000 predictions of 4 classes, with each image its own patient, and of 8,000 patients. In turns, within one run: our
draws, and the loop that resamples rows and calls scikit-learn once per draw. Writes bench/results/figures.json.
"""

import statistics
import sys
import time
from collections.abc import Callable

import measure
import numpy as np
from measure import Gate
from sklearn import metrics

from xraylab.evaluate import bootstrap, estimates, ranking, values
from xraylab.evaluate.units import Sample
from xraylab.evaluate.values import Asked

IMAGES, PATIENTS, CLASSES, DRAWS, ROUNDS = 20_000, 8_000, 4, 2000, 3
LOOP = 5  # draws of the loop in one turn: each takes the same time
SECONDS = {"independent": 5.0, "by patient": 20.0}
TIMES = {"AUROC": 12.0, "confusion matrix, independent": 1000.0, "confusion matrix, by patient": 25.0}
ASKED = Asked(["A", "B", "C", "D"], None, 3, np.array([0.1, 0.2, 0.1, 0.6]), 0.95, DRAWS, 0)


def samples() -> dict[str, Sample]:
    """Predictions that are right about three times in four."""
    rng = np.random.default_rng(0)
    actual = rng.integers(0, CLASSES, IMAGES)
    logits = rng.normal(size=(IMAGES, CLASSES)) + 2 * np.eye(CLASSES)[actual]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    patients = {"independent": np.arange(IMAGES), "by patient": rng.integers(0, PATIENTS, IMAGES)}
    return {name: Sample(actual, probabilities, each.astype(str)) for name, each in patients.items()}


def our_matrices(sample: Sample) -> Callable[[], int]:
    def work() -> int:
        drawn = bootstrap.matrices(sample.actual, sample.predicted, CLASSES, sample.units, DRAWS, 0)
        values.of_matrices(drawn, ASKED)
        return DRAWS

    return work


def our_aurocs(sample: Sample) -> Callable[[], int]:
    def work() -> int:
        orders = values.prepared(sample, ASKED).orders
        for weights in bootstrap.weights(sample.units, DRAWS, 0):
            each = weights.take(sample.units.of, axis=1)
            for order in orders:
                ranking.areas(order, each)
        return DRAWS

    return work


def resampled(sample: Sample, rng: np.random.Generator) -> np.ndarray:
    """The rows of one draw: units drawn within their strata, with all their images."""
    units = sample.units
    drawn = [rng.choice(own, len(own)) for own in (np.flatnonzero(units.strata == s) for s in np.unique(units.strata))]
    if not units.repeat:
        return np.argsort(units.of)[np.concatenate(drawn)]
    order = np.argsort(units.of, kind="stable")
    ends = np.cumsum(np.bincount(units.of))
    starts = np.concatenate([[0], ends[:-1]])
    return np.concatenate([order[starts[unit] : ends[unit]] for unit in np.concatenate(drawn)])


def their_matrices(sample: Sample) -> Callable[[], int]:
    def work() -> int:
        rng = np.random.default_rng(0)
        for _ in range(LOOP):
            rows = resampled(sample, rng)
            actual, predicted = sample.actual[rows], sample.predicted[rows]
            metrics.confusion_matrix(actual, predicted)
            metrics.accuracy_score(actual, predicted)
            metrics.balanced_accuracy_score(actual, predicted)
            metrics.precision_recall_fscore_support(actual, predicted)
            metrics.matthews_corrcoef(actual, predicted)
            metrics.cohen_kappa_score(actual, predicted)
        return LOOP

    return work


def their_aurocs(sample: Sample) -> Callable[[], int]:
    def work() -> int:
        rng = np.random.default_rng(0)
        for _ in range(LOOP):
            rows = resampled(sample, rng)
            actual, probabilities = sample.actual[rows], sample.probabilities[rows]
            for label in range(CLASSES):
                metrics.roc_auc_score(actual == label, probabilities[:, label])
        return LOOP

    return work


def seconds(sample: Sample) -> float:
    """Every figure with its interval: the median of ROUNDS."""
    taken = []
    for round_ in range(ROUNDS):
        start = time.perf_counter()
        estimates.estimates(sample, ASKED)
        taken.append(time.perf_counter() - start)
        measure.say(f"round {round_ + 1} of {ROUNDS}, all figures: {taken[-1]:.2f} s")
    return statistics.median(taken)


def main() -> None:
    given = samples()
    alone, grouped = given["independent"], given["by patient"]
    pairs = {
        "AUROC": (our_aurocs(alone), their_aurocs(alone)),
        "confusion matrix, independent": (our_matrices(alone), their_matrices(alone)),
        "confusion matrix, by patient": (our_matrices(grouped), their_matrices(grouped)),
    }
    rows, gates = [], {}
    for name, (ours, theirs) in pairs.items():
        measure.say(name)
        rates = measure.interleaved({"ours": ours, "scikit-learn": theirs}, ROUNDS, "draws/s")
        times, median = measure.times(rates["ours"], rates["scikit-learn"]), measure.medians(rates)
        rows.append({"draws of": name} | {f"{who}, draws/s": round(rate, 1) for who, rate in median.items()})
        rows[-1]["times"] = round(times, 1)
        gates[f"{name}, times the scikit-learn loop"] = Gate(times, TIMES[name])
    taken = {name: seconds(sample) for name, sample in given.items()}
    gates |= {
        f"every figure with its interval, {name}, s": Gate(taken[name], most=most) for name, most in SECONDS.items()
    }
    tables = {
        f"{DRAWS:,} draws of {IMAGES:,} predictions of {CLASSES} classes": rows,
        "Every figure with its interval": [
            {"images": name, "patients": PATIENTS if name == "by patient" else IMAGES, "seconds": round(value, 2)}
            for name, value in taken.items()
        ],
    }
    sys.exit(0 if measure.write("figures", tables, gates) else 1)


if __name__ == "__main__":
    main()
