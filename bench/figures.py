"""Time for all metrics with their intervals, all comparisons, and a swap of whole patients against a loop.

Part of `make bench`, 1 min.
20,000 predictions of 4 classes, with each image its own patient, and of 8,000 patients; a study of 2,000 images and 5
experiments; and swaps in turns, within one run, with a loop that asks scikit-learn. Writes bench/results/figures.json.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import measure
import numpy as np
from measure import Gate
from sklearn import metrics

from xraylab.evaluate.comparisons import compare_experiments
from xraylab.evaluate.config import EvalConfig
from xraylab.evaluate.intervals import metrics_with_intervals
from xraylab.evaluate.metrics import matrix_metrics
from xraylab.evaluate.predictions import Run, Study
from xraylab.evaluate.resampling import swap_units
from xraylab.evaluate.samples import Sample, unit_matrices

IMAGES, PATIENTS, CLASSES, SWAPS, ROUNDS = 20_000, 8_000, 4, 10_000, 3
LOOP = 5  # swaps of the loop in one turn: each takes the same time
FOUR = EvalConfig(["A", "B", "C", "D"], None, 3, np.array([0.1, 0.2, 0.1, 0.6]), 0.95, "auroc", 0.0, SWAPS, 0)
TWO = replace(FOUR, classes=["A", "B"], positive=1, negative_class=0, prevalence=None)
SECONDS = {"20,000 images, independent": 5.0, "20,000 images, by patient": 5.0}
STUDY = {"2,000 images, 5 experiments, 2 classes": 5.0, "2,000 images, 5 experiments, 4 classes": 5.0}


def drawn(rng: np.random.Generator, images: int, classes: int, patients: np.ndarray, experiments: int) -> list[Sample]:
    """Predictions of several experiments that are right about three times in four."""
    actual = rng.integers(0, classes, images)
    found = []
    for _ in range(experiments):
        logits = rng.normal(size=(images, classes)) + 2 * np.eye(classes)[actual]
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        found.append(Sample(actual, p, patients.astype(str)))
    return found


def seconds(work: Callable[[], object]) -> float:
    """The median of ROUNDS."""
    taken = []
    for round_ in range(ROUNDS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
        measure.say(f"round {round_ + 1} of {ROUNDS}: {taken[-1]:.2f} s")
    return statistics.median(taken)


def study(rng: np.random.Generator, cfg: EvalConfig) -> Callable[[], None]:
    """What `evaluate` computes of 5 experiments on 2,000 images of 1,000 patients: both checkpoints, and the tests."""
    samples = drawn(rng, 2_000, len(cfg.classes), rng.integers(0, 1_000, 2_000), 5)
    ids = np.arange(2_000).astype(str)
    runs = [Run(f"e{number}", 0, "valid", ids, {"best": sample}, {}, None, {}) for number, sample in enumerate(samples)]

    def work() -> None:
        for sample in samples:
            for _ in range(2):
                metrics_with_intervals(replace(sample), cfg)
        compare_experiments(Study(runs, "e0", None), ["e1", "e2"], "valid", cfg)

    return work


def our_swaps(first: Sample, second: Sample) -> Callable[[], int]:
    def work() -> int:
        cells = [unit_matrices(each, each.predicted, CLASSES) for each in (first, second)]
        outcomes = swap_units(cells[0], cells[1], SWAPS, 0)
        for matrices in (outcomes.first, outcomes.second):
            matrix_metrics(matrices, FOUR)
        return SWAPS

    return work


def their_swaps(first: Sample, second: Sample) -> Callable[[], int]:
    def work() -> int:
        rng = np.random.default_rng(0)
        for _ in range(LOOP):
            swapped = (rng.random(len(first.units.strata)) < 0.5)[first.units.of_image]
            for ours, theirs in ((first, second), (second, first)):
                predicted = np.where(swapped, theirs.predicted, ours.predicted)
                metrics.accuracy_score(first.actual, predicted)
                metrics.balanced_accuracy_score(first.actual, predicted)
                metrics.precision_recall_fscore_support(first.actual, predicted)
        return LOOP

    return work


def main() -> None:
    rng = np.random.default_rng(0)
    alone = drawn(rng, IMAGES, CLASSES, np.arange(IMAGES), 1)[0]
    first, second = drawn(rng, IMAGES, CLASSES, rng.integers(0, PATIENTS, IMAGES), 2)
    work: dict[str, Callable[[], object]] = {
        "20,000 images, independent": lambda: metrics_with_intervals(replace(alone), FOUR),
        "20,000 images, by patient": lambda: metrics_with_intervals(replace(first), FOUR),
        "2,000 images, 5 experiments, 2 classes": study(rng, TWO),
        "2,000 images, 5 experiments, 4 classes": study(rng, replace(FOUR, prevalence=None)),
    }
    taken = {}
    for name, each in work.items():
        measure.say(name)
        taken[name] = seconds(each)
    rates = measure.interleaved(
        {"ours": our_swaps(first, second), "scikit-learn": their_swaps(first, second)}, ROUNDS, "swaps/s"
    )
    times, median = measure.times(rates["ours"], rates["scikit-learn"]), measure.medians(rates)
    gates = {f"{name}, s": Gate(taken[name], most=most) for name, most in (SECONDS | STUDY).items()}
    gates["swaps by patient, times the scikit-learn loop"] = Gate(times, 100.0)
    row = {f"{who}, swaps/s": round(rate, 1) for who, rate in median.items()} | {"times": round(times, 1)}
    tables = {
        "All metrics with their intervals; of a study also all comparisons": [
            {"what": name, "seconds": round(value, 2)} for name, value in taken.items()
        ],
        f"Swaps of whole patients, {IMAGES:,} predictions of {CLASSES} classes by {PATIENTS:,} patients": [row],
    }
    sys.exit(0 if measure.write("figures", tables, gates) else 1)


if __name__ == "__main__":
    main()
