"""How often tests of multi-label studies reject what is true, and how often their intervals contain the truth.

`nice -n 10 python bench/findings_level.py [settings ...]`. Each setting draws SIMULATIONS studies of 14 correlated
findings, some of them rare, with labels missing, on which the very code of the stage `evaluate` decides. Writes
bench/results/findings_level.json.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import measure
import numpy as np
from measure import Gate
from scipy import stats

from xraylab.evaluate.comparisons import EXPLORATORY, PRIMARY, Comparison
from xraylab.evaluate.config import MACRO, EvalConfig
from xraylab.evaluate.intervals import Metric
from xraylab.evaluate.multi_label.comparisons import compare_experiments
from xraylab.evaluate.multi_label.metrics import MICRO, compute_metrics, why_undefined
from xraylab.evaluate.multi_label.samples import Findings, FindingsRun, FindingsStudy

SIMULATIONS = 300
LEVEL, NOMINAL = 0.05, 0.95
MONTE_CARLO = 2 * np.sqrt(LEVEL * NOMINAL / SIMULATIONS)  # two standard errors
FINDINGS = 14
AUROCS = np.linspace(0.92, 0.68, FINDINGS)  # the rarest are the easiest, as in ChestX-ray14
MISSING = 0.1
CFG = EvalConfig([f"F{n}" for n in range(FINDINGS)], None, None, None, 0.95, "auroc", 0.0, 10_000, 0)
MEANS_OFF = 0.01  # so far an interval may be off
MEANS = ("auroc", "auprc", "sensitivity", "f1")
TRUTH_PATIENTS = 60_000

Counts = dict[str, float]
Setting = tuple[str, str, Callable[[np.random.Generator], Counts]]
INTERVALS = f"Coverage of 95 % intervals of means over {FINDINGS} findings"
NETWORKS = f"Rejected at {LEVEL:g}: two equally good networks, {FINDINGS} findings"
RECIPES = f"Rejected at {LEVEL:g}: one recipe twice, {FINDINGS} findings"


@dataclass(frozen=True)
class Shape:
    """Of the variance of what causes a finding, `together` is shared by all findings, `alike` by a patient's images."""

    patients: int
    images: int
    together: float
    rarest: float = 0.035  # prevalence of the rarest finding; that of the most frequent is 0.3
    alike: float = 0.5

    @property
    def prevalences(self) -> np.ndarray:
        return np.geomspace(self.rarest, 0.3, FINDINGS)

    def __str__(self) -> str:
        return f"{self.patients} patients x {self.images}, together {self.together:g}, rarest {self.rarest:g}"


@dataclass(frozen=True)
class Films:
    """Labels (n, findings), a difficulty that every network meets (n, findings), and patients (n,)."""

    labels: np.ndarray
    shared: np.ndarray
    patients: np.ndarray
    shape: Shape


def films(rng: np.random.Generator, shape: Shape) -> Films:
    person = np.repeat(np.arange(shape.patients), shape.images)
    cause, difficulty = (_normal(rng, shape, person) for _ in range(2))
    labels = (cause > stats.norm.isf(shape.prevalences)).astype(float)
    labels[rng.random(labels.shape) < MISSING] = np.nan
    return Films(labels, difficulty, person, shape)


def _normal(rng: np.random.Generator, shape: Shape, person: np.ndarray) -> np.ndarray:
    """Standard normal (n, findings), alike within patients and between findings."""
    of_person = rng.normal(size=(shape.patients, FINDINGS)) * np.sqrt(1 - shape.together)
    of_person += rng.normal(size=(shape.patients, 1)) * np.sqrt(shape.together)
    independent = rng.normal(size=(len(person), FINDINGS)) * np.sqrt(1 - shape.together)
    independent += rng.normal(size=(len(person), 1)) * np.sqrt(shape.together)
    return np.sqrt(shape.alike) * of_person[person] + np.sqrt(1 - shape.alike) * independent


def network(rng: np.random.Generator, images: Films, independent: float = 0.5, seeds: float = 0.0) -> Findings:
    """Scores whose AUROCs are AUROCS, `independent` of their noise being the network's; `seeds`: sd of its skill."""
    apart = np.sqrt(2) * stats.norm.ppf(AUROCS) * (1 + seeds * rng.normal(size=FINDINGS))
    noise = np.sqrt(1 - independent) * images.shared + np.sqrt(independent) * rng.normal(size=images.shared.shape)
    scores = apart * (images.labels == 1) + noise
    p = stats.norm.cdf(scores - stats.norm.isf(images.shape.prevalences) / 1.5)
    return Findings(images.labels, p, np.full(p.shape, 0.4), images.patients.astype(str))


def defined(findings: Findings) -> list[int]:
    return [number for number in range(FINDINGS) if not why_undefined(findings, number)]


def intervals(rng: np.random.Generator, shape: Shape) -> Counts:
    """Whether the intervals of macro and micro means contain the truth."""
    findings, truths = network(rng, films(rng, shape)), truth(shape.together, shape.rarest)
    over = defined(findings)
    rows = {(row.class_, row.metric): row for row in compute_metrics(findings, CFG, over, intervals=True)}
    rates = {}
    for name in MEANS:
        mean = float(np.mean([truths[CFG.classes[number], name] for number in over]))
        rates[f"macro {name}"] = _inside(rows[MACRO, name], mean)
        rates[f"micro {name}"] = _inside(rows[MICRO, name], truths[MICRO, name])
    return rates | {"width": np.subtract(*(rows[MACRO, "auroc"].interval or (0, 0, np.nan))[:0:-1])}


def _inside(row: Metric, truth: float) -> float:
    """NaN without an interval, which claims nothing."""
    return np.nan if row.interval is None else float(row.interval[1] <= truth <= row.interval[2])


@cache
def truth(together: float, rarest: float) -> dict[tuple[str, str], float]:
    """The metrics of so many patients that they are the truth, however alike the images of a patient are."""
    rng = np.random.default_rng(1)
    findings = network(rng, films(rng, Shape(TRUTH_PATIENTS, 1, together, rarest)))
    rows = compute_metrics(findings, CFG, range(FINDINGS), intervals=False)
    return {(row.class_, row.metric): float(row.value) for row in rows if row.value is not None}


def compared(experiments: list[list[Findings]]) -> list[Comparison]:
    """What the stage says of experiments, each with its repeats; the first is the baseline."""
    names = ["baseline", *(f"e{number}" for number in range(1, len(experiments)))]
    runs = [
        FindingsRun(name, repeat, "valid", np.arange(len(each.patients)).astype(str), {"best": each}, {}, None, {})
        for name, repeats in zip(names, experiments, strict=True)
        for repeat, each in enumerate(repeats)
    ]
    return compare_experiments(FindingsStudy(runs, "baseline", None), names[:2], "valid", CFG)


def _rejected(rows: list[Comparison]) -> Counts:
    """Which means are called different; of single findings how often each is; and whether any sentence is wrong."""
    rows = [row for row in rows if row.kind == "baseline"]
    rates = {f"macro {row.result.metric}": _is_low(row.result.p) for row in rows if row.class_ == MACRO}
    single = [_is_low(row.result.p) for row in rows if row.class_ != MACRO]
    rates["one finding"] = float(np.nanmean(single)) if not np.isnan(single).all() else np.nan
    shown = {row.role for row in rows if _is_low(row.p_holm) == 1}
    return rates | {f"any {role}": float(role in shown) for role in (PRIMARY, EXPLORATORY)}


def _is_low(p: float | None) -> float:
    return np.nan if p is None else float(p < LEVEL)


def networks(rng: np.random.Generator, shape: Shape) -> Counts:
    """Two equally good networks."""
    images = films(rng, shape)
    return _rejected(compared([[network(rng, images)] for _ in range(2)]))


def recipes(rng: np.random.Generator, shape: Shape, repeats: int, seeds: float) -> Counts:
    """One recipe twice, each trained `repeats` times."""
    images = films(rng, shape)
    return _rejected(compared([[network(rng, images, seeds=seeds) for _ in range(repeats)] for _ in range(2)]))


def settings() -> Iterator[Setting]:
    for shape in (
        Shape(300, 1, 0.3),
        Shape(300, 1, 0.8),
        Shape(100, 3, 0.3),
        Shape(100, 3, 0.8),
        Shape(300, 1, 0.3, 0.01),
        Shape(300, 1, 0.3, 0.1),
        Shape(100, 3, 0.3, 0.15),
    ):
        yield INTERVALS, str(shape), partial(_call, intervals, (shape,))
    for shape in (Shape(300, 1, 0.3), Shape(300, 1, 0.3, 0.01), Shape(100, 3, 0.3), Shape(100, 3, 0.8)):
        yield NETWORKS, str(shape), partial(_call, networks, (shape,))
    for seeds in (0.0, 0.1):
        name = f"3 seeds, {Shape(100, 3, 0.3)}, spread of seeds {seeds:g}"
        yield RECIPES, name, partial(_call, recipes, (Shape(100, 3, 0.3), 3, seeds))


def _call(once: Callable[..., Counts], arguments: tuple[object, ...], rng: np.random.Generator) -> Counts:
    return once(rng, *arguments)


def simulated(once: Callable[[np.random.Generator], Counts], simulations: int, seed: int = 0) -> Counts:
    """How often each is 1, or its mean, over so many studies, those without it left out."""
    rng = np.random.default_rng(seed)
    studies = [once(rng) for _ in range(simulations)]
    return {name: _mean([each[name] for each in studies]) for name in studies[0]}


def _mean(values: list[float]) -> float:
    """NaN where none of the studies has it."""
    present = [value for value in values if not np.isnan(value)]
    return float(np.mean(present)) if present else np.nan


def gates(tables: measure.Tables) -> dict[str, Gate]:
    """The worst of each table, with two standard errors of so many simulations."""
    rates = {}
    for title, rows in tables.items():
        values = [
            value for row in rows for what, value in row.items() if what != "width" and not isinstance(value, str)
        ]
        if title == INTERVALS:
            rates[title] = Gate(min(values), least=round(float(NOMINAL - MEANS_OFF - MONTE_CARLO), 3))
        else:
            rates[title] = Gate(max(values), most=round(float(LEVEL + MONTE_CARLO), 3))
    return rates


def main() -> None:
    selected, tables = sys.argv[1:], {}
    for table, name, once in settings():
        if selected and not any(word in f"{table}: {name}" for word in selected):
            continue
        rates = simulated(once, SIMULATIONS)
        measure.say(f"{table}: {name}: " + ", ".join(f"{what} {value:.3f}" for what, value in rates.items()))
        row = {what: "none" if np.isnan(value) else round(value, 3) for what, value in rates.items()}
        tables.setdefault(table, []).append({"setting": name} | row)
    if selected:
        return
    sys.exit(0 if measure.write("findings_level", tables, gates(tables)) else 1)


if __name__ == "__main__":
    main()
