"""Do probabilities mean what they say? ECE, one temperature, logistic recalibration, and decision curves.

Of two classes it is the positive one's probability that is judged, of more the highest and whether it is right (Guo et
al., On Calibration of Modern Neural Networks, ICML 2017, for both this and the temperature, which is fitted on
validation images). statsmodels fits the logistic models. Where patients have several images, their variances are
clustered by patient, with Student's t on one degree of freedom fewer than there are patients.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from xraylab.evaluate.config import EvalConfig
from xraylab.evaluate.confusion import Floats, Ints
from xraylab.evaluate.metrics import log_loss
from xraylab.evaluate.samples import Sample
from xraylab.evaluate.temperature import scale

TEMPERATURES = (0.05, 20.0)
CHANCE_DRAWS = 1000
CHANCE_PERCENTILE = 95
SMALLEST = 1e-7  # a probability nearer to 0 or 1 than this counts as this near: a logit must be finite
MIN_PATIENTS = 5  # with the outcome and without; of fewer there is no telling how sure a fit is
SPLINE_DF = 4
CURVE_POINTS = 50
CURVE_RANGE = (1, 99)  # percentiles of the probabilities that the smooth curve goes through
THRESHOLDS: Floats = np.arange(1, 100) / 100  # of decision curves


@dataclass(frozen=True)
class Judged:
    """The probability that is judged, 1 where what it states is so, else 0, and the number of the patient: (n,) each.

    Logits are of probabilities that are a little away from 0 and 1.
    """

    probability: Floats
    outcome: Floats
    unit: Ints

    @property
    def clustered(self) -> bool:
        return len(np.unique(self.unit)) < len(self.unit)


@dataclass(frozen=True)
class Recalibration:
    """Slope and intercept with their confidence intervals, or `why` no fit can be trusted."""

    slope: float | None = None
    slope_ci_low: float | None = None
    slope_ci_high: float | None = None
    intercept: float | None = None
    intercept_ci_low: float | None = None
    intercept_ci_high: float | None = None
    why: str | None = None


@dataclass(frozen=True)
class Calibration:
    """All but the log loss are of the judged probability."""

    ece: float
    ece_by_chance: float
    ece_by_chance_p95: float
    bins: int
    n: int
    log_loss: float
    brier: float
    recalibration: Recalibration


@dataclass(frozen=True)
class TemperatureScaling:
    """The test images before, and after the temperature of the validation images; without these only before."""

    temperature: float | None
    before: Calibration
    after: Calibration | None


def judged(sample: Sample, probabilities: Floats, positive: int | None) -> Judged:
    """With `probabilities` (n, classes) in place of the sample's own."""
    if positive is not None:
        judged_images, outcome = probabilities[:, positive], sample.actual == positive
    else:
        judged_images, outcome = probabilities.max(axis=1), probabilities.argmax(axis=1) == sample.actual
    return Judged(judged_images, outcome.astype(float), sample.units.of_image)


def calibrate(valid: Sample | None, test: Sample, cfg: EvalConfig, bins: int) -> TemperatureScaling:
    before = measure(test, test.probabilities, cfg, bins)
    if valid is None:
        return TemperatureScaling(None, before, None)
    temperature = fit_temperature(valid.actual, valid.probabilities)
    return TemperatureScaling(temperature, before, measure(test, scale(test.probabilities, temperature), cfg, bins))


def measure(sample: Sample, probabilities: Floats, cfg: EvalConfig, bins: int) -> Calibration:
    """How well `probabilities` (n, classes) of the sample's images are calibrated."""
    judged_images = judged(sample, probabilities, cfg.positive)
    expected, percentile = ece_by_chance(judged_images.probability, bins, cfg.seed)
    return Calibration(
        ece=ece(reliability(judged_images, bins)),
        ece_by_chance=expected,
        ece_by_chance_p95=percentile,
        bins=bins,
        n=len(judged_images.probability),
        log_loss=log_loss(sample.actual, probabilities),
        brier=float(((judged_images.probability - judged_images.outcome) ** 2).mean()),
        recalibration=slope_and_intercept(judged_images, cfg.confidence),
    )


def reliability(judged_images: Judged, bins: int) -> pd.DataFrame:
    """Bins of equal width, upper ends included: low, high, n, mean probability and observed share; NaN where empty."""
    edges, bin_of = _bins(judged_images.probability, bins)
    n = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):
        probability, observed = (
            np.bincount(bin_of, each, bins) / n for each in (judged_images.probability, judged_images.outcome)
        )
    return pd.DataFrame(
        {"low": edges[:-1], "high": edges[1:], "n": n, "probability": probability, "observed": observed}
    )


def _bins(probability: Floats, bins: int) -> tuple[Floats, Ints]:
    edges = np.linspace(0, 1, bins + 1)
    return edges, np.searchsorted(edges[1:-1], probability, "left")


def ece(table: pd.DataFrame) -> float:
    """The mean distance of probability and observed share, bins weighted by their images.

    It depends on the number of bins, and is above 0 by chance alone in small samples: `ece_by_chance`.
    """
    filled = table[table["n"] > 0]
    return float((filled["n"] * (filled["probability"] - filled["observed"]).abs()).sum() / filled["n"].sum())


def ece_by_chance(probability: Floats, bins: int, seed: int) -> tuple[float, float]:
    """The mean and the 95th percentile of ECE if every probability were right, over 1,000 draws of outcomes.

    Outcomes are drawn image by image, so where patients repeat chance gives somewhat more (consistency resampling:
    Bröcker and Smith, Weather and Forecasting 22 (2007) 651).
    """
    member = np.eye(bins)[_bins(probability, bins)[1]]
    rng = np.random.default_rng(seed)
    gaps = [
        np.abs(((rng.random(len(probability)) < probability) - probability) @ member).sum() for _ in range(CHANCE_DRAWS)
    ]
    eces = np.array(gaps) / len(probability)
    return float(eces.mean()), float(np.percentile(eces, CHANCE_PERCENTILE))


def fit_temperature(actual: Ints, probabilities: Floats) -> float:
    """The T, of 0.05 to 20, at which softmax(log p / T) has the lowest log loss."""

    def loss(log_t: float) -> float:
        return log_loss(actual, scale(probabilities, float(np.exp(log_t))))

    bounds = (np.log(TEMPERATURES[0]), np.log(TEMPERATURES[1]))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x))


def slope_and_intercept(judged_images: Judged, confidence: float) -> Recalibration:
    """The calibration slope, and the intercept in the large.

    The slope is that of outcome on logit(probability) in a logistic regression: 1 is right, less means probabilities
    that are too extreme. The intercept is fitted with the slope fixed at 1: 0 is right, less means probabilities that
    are too high (Cox, Biometrika 45 (1958) 562; Van Calster et al., BMC Med 17 (2019) 230).
    """
    reason = _reason_against_fit(judged_images)
    if reason:
        return Recalibration(why=reason)
    logit = _logit(judged_images.probability)
    line = _fit(judged_images, np.column_stack([np.ones_like(logit), logit]))
    large = _fit(judged_images, np.ones((len(logit), 1)), offset=logit)
    (slope_low, slope_high), (low, high) = line.conf_int(1 - confidence)[1], large.conf_int(1 - confidence)[0]
    return Recalibration(
        slope=float(line.params[1]),
        slope_ci_low=float(slope_low),
        slope_ci_high=float(slope_high),
        intercept=float(large.params[0]),
        intercept_ci_low=float(low),
        intercept_ci_high=float(high),
    )


def calibration_curve(judged_images: Judged, confidence: float) -> pd.DataFrame:
    """The smooth calibration curve: columns probability, observed, ci_low, ci_high.

    A logistic regression of the outcome on a natural cubic spline of logit(probability), with a pointwise band
    (Van Calster et al., J Clin Epidemiol 74 (2016) 167). It has no rows where no such fit can be trusted.
    """
    import patsy  # noqa: PLC0415 - only what fits needs it

    columns = ["probability", "observed", "ci_low", "ci_high"]
    logit = _logit(judged_images.probability)
    if _reason_against_fit(judged_images) or len(np.unique(logit)) <= SPLINE_DF:
        return pd.DataFrame(columns=columns)
    basis = patsy.dmatrix(f"cr(x, df={SPLINE_DF}) - 1", {"x": logit})
    try:
        fit = _fit(judged_images, np.asarray(basis))
    except np.linalg.LinAlgError:  # so few images have the outcome that parts of the spline have no variance
        return pd.DataFrame(columns=columns)
    lowest, highest = np.percentile(judged_images.probability, CURVE_RANGE)
    points = np.linspace(lowest, highest, CURVE_POINTS)
    (design,) = patsy.build_design_matrices([basis.design_info], {"x": _logit(points)})
    with np.errstate(all="ignore"):  # of coefficients that have no end
        frame = fit.get_prediction(np.asarray(design)).summary_frame(alpha=1 - confidence)
    values = [points, *(frame[name].to_numpy(float) for name in ("mean", "mean_ci_lower", "mean_ci_upper"))]
    curve = pd.DataFrame(dict(zip(columns, values, strict=True)))
    return curve if np.isfinite(curve.to_numpy()).all() else pd.DataFrame(columns=columns)


def _reason_against_fit(judged_images: Judged) -> str | None:
    """Why a logistic regression of the outcome says nothing; None where it does."""
    positive = judged_images.outcome == 1
    if min(len(np.unique(judged_images.unit[positive])), len(np.unique(judged_images.unit[~positive]))) < MIN_PATIENTS:
        return f"fewer than {MIN_PATIENTS} patients with or without the outcome"
    without, having = judged_images.probability[~positive], judged_images.probability[positive]
    if without.max() <= having.min() or having.max() <= without.min():
        return "the probabilities separate the images perfectly"
    return None


def _fit(judged_images: Judged, design: Floats, offset: Floats | None = None) -> Any:
    """A logistic regression of the outcome; its variances by patient where patients repeat."""
    from statsmodels.genmod.families import Binomial  # noqa: PLC0415 - a second, which only `evaluate` waits for
    from statsmodels.genmod.generalized_linear_model import GLM  # noqa: PLC0415

    by_patient = {"cov_type": "cluster", "cov_kwds": {"groups": judged_images.unit}, "use_t": True}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of a spline that separates a few images: its band is then wide
        model = GLM(judged_images.outcome, design, family=Binomial(), offset=offset)
        return model.fit(**(by_patient if judged_images.clustered else {}))


def _logit(probability: Floats) -> Floats:
    inside = np.clip(probability, SMALLEST, 1 - SMALLEST)
    logit: Floats = np.log(inside) - np.log1p(-inside)
    return logit


def net_benefit(sample: Sample, positive: int, prevalence: Floats | None) -> pd.DataFrame:
    """The decision curve: columns threshold (0.01 to 0.99), net_benefit and treat_all; treating nobody is worth 0.

    The net benefit at a threshold t is TP / n - FP / n * t / (1 - t): t is the probability from which one acts, and so
    says how many needless actions one needed action is worth (Vickers and Elkin, Med Decis Making 26 (2006) 565).
    With `prevalence` (classes,) the positives have that share instead of the sample's. Without positives, or without
    negatives, there are no rows.
    """
    is_positive = sample.actual == positive
    columns = ["threshold", "net_benefit", "treat_all"]
    if is_positive.all() or not is_positive.any():
        return pd.DataFrame(columns=columns)
    share = is_positive.mean() if prevalence is None else prevalence[positive]
    probability = sample.probabilities[:, positive]
    sensitivity, false_positive_rate = (_share_above(probability[kind]) for kind in (is_positive, ~is_positive))
    odds = THRESHOLDS / (1 - THRESHOLDS)
    treated = share * sensitivity - (1 - share) * false_positive_rate * odds
    return pd.DataFrame(dict(zip(columns, (THRESHOLDS, treated, share - (1 - share) * odds), strict=True)))


def _share_above(probability: Floats) -> Floats:
    """(thresholds,): the share of these probabilities at or above each threshold."""
    below: Floats = np.searchsorted(np.sort(probability), THRESHOLDS, "left") / len(probability)
    return 1 - below
