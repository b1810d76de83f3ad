"""Type I error of the tests and coverage of the intervals, in the settings where such things fail.

`nice -n 10 python bench/inference_level.py [settings ...]`, 15 min in one process. Each setting draws SIMULATIONS
studies, on which the very code of the stage `evaluate` decides. Writes bench/results/inference_level.json.
"""

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

import measure
import numpy as np
from measure import Gate
from scipy import stats

from xraylab.evaluate.calibration import Judged, slope_and_intercept
from xraylab.evaluate.comparisons import EXPLORATORY, PRIMARY, Comparison, compare_experiments
from xraylab.evaluate.config import EvalConfig
from xraylab.evaluate.intervals import Metric, metrics_with_intervals, metrics_without_intervals
from xraylab.evaluate.predictions import Run, Study
from xraylab.evaluate.samples import Sample
from xraylab.evaluate.significance import Difference, compare_repeats, compare_runs

SIMULATIONS = 2000
LEVEL, LEAST = 0.05, 0.93
THROUGHOUT, WILSON = "accuracy, every patient right or wrong throughout", 0.92
TWO = EvalConfig(["A", "B"], 1, 0, None, 0.95, "auroc", 0.0, 10_000, 0)
MONTE_CARLO = 2 * np.sqrt(LEVEL * (1 - LEVEL))  # two standard errors, over the root of the simulations

Counts = dict[str, float]


def two_classes(scores: np.ndarray, actual: np.ndarray, unit: np.ndarray) -> Sample:
    p = 1 / (1 + np.exp(-scores))
    return Sample(actual, np.column_stack([1 - p, p]), unit.astype(str))


def patients(number: int, images: int, positives: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Of each image its class and its patient; every second patient is positive, or the first `positives`."""
    person = np.arange(number)
    label = person % 2 if positives is None else (person < positives).astype(int)
    unit = np.repeat(person, images)
    return label[unit], unit


def alike(rng: np.random.Generator, number: int, images: int, experiments: int = 2, skill: float = 2.0) -> list[Sample]:
    """Equally good experiments: what they share is the patient, what each has for itself the image."""
    actual, unit = patients(number, images)
    shared = np.repeat(rng.normal(size=number), images)
    own = rng.normal(size=(experiments, len(actual)))
    return [two_classes(skill * (actual - 0.5) + shared + noise, actual, unit) for noise in own]


def rejections(rng: np.random.Generator, number: int, images: int) -> Counts:
    """Which metrics of two equally good networks are called different."""
    first, second = alike(rng, number, images)
    return _rejected(compare_runs(first, second, TWO))


def _rejected(results: Iterable[Difference]) -> Counts:
    return {each.metric: float(each.p is not None and each.p < LEVEL) for each in results}


def families(rng: np.random.Generator, number: int, images: int) -> Counts:
    """Five equally good networks: whether any sentence says otherwise, the primary ones and the exploratory ones."""
    samples = alike(rng, number, images, experiments=5)
    return _said(_rows([[sample] for sample in samples]))


def _said(rows: list[Comparison]) -> Counts:
    """Whether any sentence of either role says that two differ."""
    shown = {row.role for row in rows if row.p_holm is not None and row.p_holm < LEVEL}
    return {f"any {role}": float(role in shown) for role in (PRIMARY, EXPLORATORY)}


def _rows(experiments: list[list[Sample]]) -> list[Comparison]:
    names = ["baseline", *(f"e{number}" for number in range(1, len(experiments)))]
    runs = [
        Run(name, repeat, "valid", np.arange(len(sample.actual)).astype(str), {"best": sample}, {}, None, {})
        for name, own in zip(names, experiments, strict=True)
        for repeat, sample in enumerate(own)
    ]
    return compare_experiments(Study(runs, "baseline", None), names[1:3] if len(names) > 2 else names, "valid", TWO)


def recipes(rng: np.random.Generator, number: int, images: int, repeats: int, seeds: float) -> list[list[Sample]]:
    """One recipe twice, each trained `repeats` times. `seeds`: standard deviation of a seed's skill and threshold."""
    actual, unit = patients(number, images)
    shared = np.repeat(rng.normal(size=number), images) * 0.7 + 0.7 * rng.normal(size=len(actual))
    return [
        [
            two_classes(
                (2 + seeds * rng.normal()) * (actual - 0.5)
                + shared
                + 0.5 * rng.normal(size=len(actual))
                + seeds / 2 * rng.normal(),
                actual,
                unit,
            )
            for _ in range(repeats)
        ]
        for _ in range(2)
    ]


def of_seeds(rng: np.random.Generator, number: int, images: int, repeats: int, seeds: float) -> Counts:
    """Which metrics of one recipe under two names are called different, and which kind of sentence says so."""
    rows = [row for row in _rows(recipes(rng, number, images, repeats, seeds)) if row.kind == "baseline"]
    return _rejected(row.result for row in rows) | _said(rows)


def of_folds(rng: np.random.Generator, folds: int, number: int, seeds: float) -> Counts:
    """The same recipe twice, each fold tested on patients of its own."""
    pairs = [recipes(rng, number, 1, 1, seeds) for _ in range(folds)]
    return _rejected(compare_repeats([a[0] for a, _ in pairs], [b[0] for _, b in pairs], TWO, folds))


def auroc(rng: np.random.Generator, m: int, n: int, images: int, truth: float, alike: float, spread: float) -> Counts:
    """Whether the interval of an AUROC contains it: normal scores, `spread` times as wide among the positives."""
    actual, unit = patients(m + n, images, m)
    noise = np.sqrt(alike) * rng.normal(size=m + n)[unit] + np.sqrt(1 - alike) * rng.normal(size=len(unit))
    apart = stats.norm.ppf(truth) * np.sqrt(1 + spread**2)
    sample = two_classes(np.where(actual == 1, spread * noise + apart, noise), actual, unit)
    return _covered(sample, "B", "auroc", truth)


def sensitivity(rng: np.random.Generator, positives: int, truth: float, alike: float) -> Counts:
    """Of 20 patients with 4 images each; how often a patient's images are right has a Beta distribution."""
    actual, unit = patients(20, 4, positives)
    each = rng.beta(truth * (1 - alike) / alike, (1 - truth) * (1 - alike) / alike, 20)
    right = rng.random(80) < each[unit]
    sample = two_classes(np.where(right == (actual == 1), 1.0, -1.0), actual, unit)
    return _covered(sample, "B", "sensitivity", truth)


def perfect(rng: np.random.Generator, truth: float) -> Counts:
    """190 images of 95 patients of whom `truth` are right throughout: the accuracy, often without a mistake."""
    actual, unit = patients(95, 2)
    right = (rng.random(95) < truth)[unit]
    sample = two_classes(np.where(right == (actual == 1), 1.0, -1.0), actual, unit)
    return _covered(sample, "overall", "accuracy", truth)


EIGHT = replace(TWO, classes=list("ABCDEFGH"), positive=None, negative_class=None)


def eight(rng: np.random.Generator, number: int = 60) -> Sample:
    """Patients with 4 images of any of 8 classes, alike within a patient."""
    unit = np.repeat(np.arange(number), 4)
    actual = rng.integers(0, 8, len(unit))
    skill = 1.5 + 0.8 * rng.normal(size=number)[unit]
    logits = rng.normal(size=(len(unit), 8)) + skill[:, None] * np.eye(8)[actual]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Sample(actual, p, unit.astype(str))


def mixed(truths: dict[tuple[str, str], float]) -> Callable[[np.random.Generator], Counts]:
    def once(rng: np.random.Generator) -> Counts:
        rows = {(row.class_, row.metric): row for row in metrics_with_intervals(eight(rng), EIGHT)}
        return {name: _inside(rows[of, name], truth) for (of, name), truth in truths.items()}

    return once


def eight_truths(patients: int = 50_000) -> dict[tuple[str, str], float]:
    """The metrics of so many patients that they are the truth."""
    rows = metrics_without_intervals(eight(np.random.default_rng(1), patients), EIGHT)
    wanted = [
        ("overall", "accuracy"),
        ("macro", "f1"),
        ("macro", "auroc"),
        ("overall", "mcc"),
        ("macro", "auprc"),
        ("overall", "brier"),
    ]
    return {key: next(row.value for row in rows if (row.class_, row.metric) == key) for key in wanted}


def f1(rng: np.random.Generator, number: int, images: int, alike: float) -> Counts:
    """60 % of patients negative; sensitivity .8 and specificity .9 on average: F1 is .64 / (.64 + .06 + .08)."""
    actual, unit = patients(number, images, int(0.4 * number))
    mean = np.where(np.arange(number) < int(0.4 * number), 0.8, 0.9)
    each = rng.beta(mean * (1 - alike) / alike, (1 - mean) * (1 - alike) / alike)
    right = rng.random(len(unit)) < each[unit]
    sample = two_classes(np.where(right == (actual == 1), 1.0, -1.0), actual, unit)
    return _covered(sample, "B", "f1", 0.64 / 0.78)


def recalibrated(rng: np.random.Generator, number: int, images: int, same: float) -> Counts:
    """Right probabilities; the outcomes of a patient are independent given these, or all the `same` (1.0)."""
    unit = np.repeat(np.arange(number), images)
    logit = rng.normal(-0.5, 1.5, number)[unit] + (0 if same else rng.normal(0, 0.9, len(unit)))
    drawn = rng.random(number)[unit] if same else rng.random(len(unit))
    probability = 1 / (1 + np.exp(-logit))
    fit = slope_and_intercept(Judged(probability, (drawn < probability).astype(float), unit), 1 - LEVEL)
    return {
        name: np.nan if fit.why else float(getattr(fit, f"{name}_ci_low") <= truth <= getattr(fit, f"{name}_ci_high"))
        for name, truth in (("slope", 1), ("intercept", 0))
    }


def _covered(sample: Sample, of: str, metric: str, truth: float) -> Counts:
    """Whether the metric's interval contains the truth, and how wide it is."""
    row = next(row for row in metrics_with_intervals(sample, TWO) if (row.class_, row.metric) == (of, metric))
    return {"coverage": _inside(row, truth), "width": np.nan if row.ci_low is None else row.ci_high - row.ci_low}


def _inside(row: Metric, truth: float) -> float:
    """No interval contains nothing."""
    return float(row.ci_low is not None and row.ci_low <= truth <= row.ci_high)


Setting = tuple[str, str, Callable[[np.random.Generator], Counts]]  # table, setting, and what draws one study of it
NETWORKS, FAMILIES, RECIPES = "two equally good networks", "four experiments and a baseline", "one recipe twice"


def settings() -> Iterator[Setting]:
    yield from areas()
    yield from counts()
    for shape in ((40, 1, 0.0), (160, 1, 0.0), (624, 1, 0.0), (30, 3, 0.0), (30, 3, 1.0), (60, 3, 1.0), (20, 4, 1.0)):
        outcomes = "the same" if shape[2] else "independent"
        name = f"{shape[0]} patients x {shape[1]}, outcomes {outcomes}"
        yield "slope and intercept", name, partial(_call, recalibrated, shape)
    yield "8 classes, mixed within patients", "60 patients x 4", mixed(eight_truths())
    yield from tests()


def tests() -> Iterator[Setting]:
    for shape in ((200, 1), (30, 3), (20, 4)):
        yield NETWORKS, "{} patients x {}".format(*shape), partial(_call, rejections, shape)
    for shape in ((200, 1), (30, 3)):
        yield FAMILIES, "{} patients x {}".format(*shape), partial(_call, families, shape)
    for repeats, shape, seeds in itertools.product((3, 5, 10), ((200, 1), (40, 3)), (0.0, 0.6)):
        name = f"{repeats} seeds, {shape[0]} patients x {shape[1]}, spread of seeds {seeds:g}"
        yield RECIPES, name, partial(_call, of_seeds, (*shape, repeats, seeds))
    for seeds in (0.0, 0.6):
        yield RECIPES, f"5 folds of 60 patients, spread of seeds {seeds:g}", partial(_call, of_folds, (5, 60, seeds))


def areas() -> Iterator[Setting]:
    shapes = [(15, 15, 3, 0.98, a, s) for a, s in ((0.0, 1.0), (0.5, 1.0), (0.9, 1.0), (0.5, 2.0))]
    shapes += [(20, 190, 1, 0.995, 0.0, s) for s in (0.5, 1.0, 2.0, 3.0)]
    shapes += [(20, 190, 1, 0.9, 0.0, 2.0), (40, 40, 1, 0.7, 0.0, 1.0), (100, 100, 1, 0.99, 0.0, 2.0)]
    shapes += [(5, 15, 4, 0.9, 0.5, 1.0), (5, 5, 1, 0.9, 0.0, 1.0)]
    for shape in shapes:
        name = "{} + {} patients x {}, truth {:g}, alike {:g}, spread {:g}".format(*shape)
        yield "AUROC", name, partial(_call, auroc, shape)


def counts() -> Iterator[Setting]:
    for shape in itertools.product((5, 10), (0.8, 0.9), (0.2, 0.5, 0.9)):
        name = "{} of 20 patients x 4, truth {:g}, alike {:g}".format(*shape)
        yield "sensitivity", name, partial(_call, sensitivity, shape)
    for truth in (0.95, 0.99):
        yield THROUGHOUT, f"95 patients x 2, truth {truth:g}", partial(_call, perfect, (truth,))
    for shape in ((160, 1, 0.5), (40, 4, 0.2), (40, 4, 0.7)):
        yield "F1", "{} patients x {}, alike {:g}".format(*shape), partial(_call, f1, shape)


def _call(once: Callable[..., Counts], arguments: tuple[float, ...], rng: np.random.Generator) -> Counts:
    return once(rng, *arguments)


def simulated(once: Callable[[np.random.Generator], Counts], simulations: int, seed: int = 0) -> Counts:
    """How often each is 1, or its mean, over so many studies."""
    rng = np.random.default_rng(seed)
    found = [once(rng) for _ in range(simulations)]
    return {name: float(np.nanmean([each[name] for each in found])) for name in found[0]}


def main() -> None:
    wanted, tables = sys.argv[1:], {}
    for table, name, once in settings():
        if wanted and not any(word in f"{table}: {name}" for word in wanted):
            continue
        found = simulated(once, SIMULATIONS)
        measure.say(f"{table}: {name}: " + ", ".join(f"{what} {value:.3f}" for what, value in found.items()))
        title = (
            f"Rejected at {LEVEL:g}: {table}"
            if table in (NETWORKS, FAMILIES, RECIPES)
            else f"Coverage of 95 % intervals: {table}"
        )
        tables.setdefault(title, []).append({"setting": name} | {what: round(v, 3) for what, v in found.items()})
    if wanted:
        return
    sys.exit(0 if measure.write("inference_level", tables, gates(tables)) else 1)


def gates(tables: measure.Tables) -> dict[str, Gate]:
    """The worst of each table. Of few patients shares so near to 1 have few outcomes, as Wilson's interval shows."""
    most = round(float(LEVEL + MONTE_CARLO / np.sqrt(SIMULATIONS)), 4)
    found = {}
    for title, rows in tables.items():
        values = [value for row in rows for what, value in row.items() if what not in ("setting", "width")]
        if "Rejected" in title:
            found[title] = Gate(max(values), most=most)
        elif THROUGHOUT in title:
            note = "as Wilson's own of 95 independent patients at .99"
            found[title] = Gate(min(values), least=WILSON, note=note)
        else:
            found[title] = Gate(min(values), least=LEAST)
    return found


if __name__ == "__main__":
    main()
