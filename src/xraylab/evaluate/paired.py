"""Two experiments on the same images: is the difference more than chance?"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from xraylab.evaluate import bootstrap, delong, intervals
from xraylab.evaluate.counts import Floats, Ints
from xraylab.evaluate.estimates import auroc_shares, mean_shares
from xraylab.evaluate.units import Sample, Units
from xraylab.evaluate.values import MACRO, Asked, Key, of_matrices, of_scores, prepared, values

FIGURES = {"accuracy": "accuracy", "f1": "F1", "auroc": "AUROC"}


def compared(first: Sample, second: Sample, asked: Asked) -> list[dict[str, Any]]:
    """The differences first - second in accuracy, F1 and AUROC, each with its interval, p and test.

    F1 and AUROC are of the positive class, or the mean over classes. Both samples hold the same images in one order.
    Of images of several sources, differences are means over sources, and so are those in each draw.
    """
    ours, theirs = values(first, asked), values(second, asked)
    drawn = _drawn(first, second, asked)
    rows = []
    for name, key in _keys(asked).items():
        difference = ours[key] - theirs[key]
        interval = intervals.percentile(drawn[name], asked.confidence)
        row = _row(name, difference, interval, bootstrap_p(drawn[name]), f"bootstrap of {_unit(first)}")
        if name == "accuracy":
            row |= {} if first.parts else _mcnemar(first, second)
            row |= discordant(first, second)
        if name == "auroc" and not first.units.repeat and not first.parts:
            row |= _delong(first, second, difference, asked)
        rows.append(row)
    return rows


def _mcnemar(first: Sample, second: Sample) -> dict[str, Any]:
    p = exact_p(right_by_unit(first, second))
    return {"p": p, "test": "exact McNemar" + (", signs of whole patients" if first.units.repeat else "")}


def exact_p(net: Ints) -> float:
    """Two-sided p that `net` (units,), what the first gets right more often in each unit, has no preferred sign.

    Under that hypothesis each unit's sign is a fair coin. Where units are images, so that net is 1, 0 or -1, this is
    the exact McNemar test (McNemar, Psychometrika 12 (1947) 153); else it goes through all signs of whole patients.
    """
    sizes = np.abs(net[net != 0]).astype(int)
    if (sizes <= 1).all():
        return float(stats.binomtest(int((net > 0).sum()), len(sizes)).pvalue) if len(sizes) else 1.0
    chances = np.ones(1)
    for size in sizes:  # the distribution of the sum, from -sizes.sum() to sizes.sum()
        wider = np.zeros(len(chances) + 2 * size)
        wider[: len(chances)] += chances / 2
        wider[2 * size :] += chances / 2
        chances = wider
    sums = np.arange(len(chances)) - sizes.sum()
    return float(min(chances[np.abs(sums) >= abs(int(net.sum()))].sum(), 1.0))


def right_by_unit(first: Sample, second: Sample) -> Ints:
    """(units,): how many images of each unit the first alone gets right, less those that the second alone does."""
    net = (first.predicted == first.actual).astype(int) - (second.predicted == second.actual).astype(int)
    return np.bincount(first.units.of, weights=net, minlength=len(first.units.strata)).round().astype(np.int64)


def discordant(first: Sample, second: Sample) -> dict[str, int]:
    """How many images one of the two alone gets right."""
    ours, theirs = first.predicted == first.actual, second.predicted == second.actual
    return {"first_alone_right": int((ours & ~theirs).sum()), "second_alone_right": int((theirs & ~ours).sum())}


def bootstrap_p(differences: Floats) -> float | None:
    """Twice the rarer share of draws on either side of 0, 0 counting on both; at least 2 / (draws + 1), at most 1.

    None where the interval of the same draws is: a difference that no draw can change was not put to a test.
    """
    if intervals.percentile(differences, 0.95) is None:
        return None
    known = differences[~np.isnan(differences)]
    rarer = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(2 * (rarer + 1) / (len(known) + 1), 1.0))


def holm(ps: npt.ArrayLike) -> Floats:
    """Each p corrected for all of them (Holm, Scand J Stat 6 (1979) 65); those that are NaN are no tests."""
    given = np.asarray(ps, float)
    found, known = np.full(len(given), np.nan), np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    steps = given[order] * np.arange(len(order), 0, -1)
    found[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return found


def _keys(asked: Asked) -> dict[str, Key]:
    whose = MACRO if asked.positive is None else asked.classes[asked.positive]
    return {"accuracy": ("overall", "accuracy"), "f1": (whose, "f1"), "auroc": (whose, "auroc")}


def _drawn(first: Sample, second: Sample, asked: Asked) -> dict[str, Floats]:
    """Each figure's difference in the same draws; of several sources, each is drawn from by itself."""
    if first.parts:
        pairs = enumerate(zip(first.parts, second.parts, strict=True))
        each = [_drawn(ours, theirs, replace(asked, seed=asked.seed + at)) for at, (ours, theirs) in pairs]
        return {name: np.mean([drawn[name] for drawn in each], axis=0) for name in each[0]}
    keys, units = _keys(asked), first.units
    pair = bootstrap.paired_matrices(
        first.actual, first.predicted, second.predicted, len(asked.classes), units, asked.draws, asked.seed
    )
    ours, theirs = (of_matrices(matrices, asked) for matrices in pair)
    found = {name: ours[keys[name]] - theirs[keys[name]] for name in ("accuracy", "f1")}
    return found | {"auroc": _auroc_differences(first, second, units, asked)}


def _auroc_differences(first: Sample, second: Sample, units: Units, asked: Asked) -> Floats:
    key, pair = _keys(asked)["auroc"], [prepared(sample, asked) for sample in (first, second)]
    chunks = []
    for weights in bootstrap.weights(units, asked.draws, asked.seed):
        each = weights.take(units.of, axis=1)
        ours, theirs = (of_scores(ready, each, asked)[key] for ready in pair)
        chunks.append(ours - theirs)
    return np.concatenate(chunks)


def _delong(first: Sample, second: Sample, difference: float, asked: Asked) -> dict[str, Any]:
    """The paired test of the same paper: the shares of both AUROCs, image by image.

    Without an interval and a p where no image's shares differ from the others', as with two perfect orders.
    """
    pair = [mean_shares([auroc_shares(sample, label) for label in asked.shown]) for sample in (first, second)]
    if pair[0] is None or pair[1] is None:
        return {}
    tested = delong.test(difference, delong.variance(pair[0] - pair[1], first.actual), asked.confidence)
    low, high, p = tested or (None, None, None)
    return {"low": low, "high": high, "p": p, "test": "paired DeLong"}


def _unit(sample: Sample) -> str:
    return ("patients" if sample.units.repeat else "images") + (" within each source" if sample.parts else "")


def _row(
    name: str, difference: float, interval: tuple[float, float] | None, p: float | None, test: str
) -> dict[str, Any]:
    low, high = interval or (None, None)
    known = None if np.isnan(difference) else float(difference)
    return {"figure": name, "difference": known, "low": low, "high": high, "p": p, "test": test}
