"""Logistic recalibration: slope, intercept and a smooth calibration curve, each with its interval.

statsmodels fits the models. Where patients have several images, variances are clustered by patient, with Student's t on
one degree of freedom fewer than there are patients.
"""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from xraylab.evaluate.counts import Floats, Ints

SMALLEST = 1e-7  # a probability nearer to 0 or 1 than this counts as this near: a logit must be finite
FEWEST = 5  # patients with and without; of fewer there is no telling how sure a fit is
SPLINE_DF = 4
CURVE_POINTS = 50
CURVE_RANGE = (1, 99)  # percentiles of the probabilities that the smooth curve goes through
NOTHING = dict.fromkeys(
    ("slope", "slope_ci_low", "slope_ci_high", "intercept", "intercept_ci_low", "intercept_ci_high")
)


def slope_and_intercept(probability: Floats, outcome: Floats, unit: Ints, confidence: float) -> dict[str, Any]:
    """The calibration slope, and the intercept in the large, with confidence intervals.

    The slope is that of outcome on logit(probability) in a logistic regression: 1 is right, less means probabilities
    that are too extreme. The intercept is fitted with the slope fixed at 1: 0 is right, less means probabilities that
    are too high (Cox, Biometrika 45 (1958) 562; Van Calster et al., BMC Med 17 (2019) 230). `unit` (n,) numbers the
    patients. All values are None, and `why` says the reason, where no such fit can be trusted.
    """
    reason = _reason_against(probability, outcome, unit)
    if reason:
        return {**NOTHING, "why": reason}
    logit = _logit(probability)
    line = _fit(outcome, np.column_stack([np.ones_like(logit), logit]), unit)
    large = _fit(outcome, np.ones((len(logit), 1)), unit, offset=logit)
    slope, intercept = line.conf_int(1 - confidence)[1], large.conf_int(1 - confidence)[0]
    return {
        "slope": float(line.params[1]),
        "slope_ci_low": float(slope[0]),
        "slope_ci_high": float(slope[1]),
        "intercept": float(large.params[0]),
        "intercept_ci_low": float(intercept[0]),
        "intercept_ci_high": float(intercept[1]),
        "why": None,
    }


def curve(probability: Floats, outcome: Floats, unit: Ints, confidence: float) -> pd.DataFrame:
    """The smooth calibration curve: columns probability, observed, ci_low, ci_high.

    A logistic regression of the outcome on a natural cubic spline of logit(probability), with a pointwise band
    (Van Calster et al., J Clin Epidemiol 74 (2016) 167). It has no rows where no such fit can be trusted.
    """
    import patsy  # noqa: PLC0415 - only what fits needs it

    columns = ["probability", "observed", "ci_low", "ci_high"]
    logit = _logit(probability)
    if _reason_against(probability, outcome, unit) or len(np.unique(logit)) <= SPLINE_DF:
        return pd.DataFrame(columns=columns)
    basis = patsy.dmatrix(f"cr(x, df={SPLINE_DF}) - 1", {"x": logit})
    fit = _fit(outcome, np.asarray(basis), unit)
    lowest, highest = np.percentile(probability, CURVE_RANGE)
    points = np.linspace(lowest, highest, CURVE_POINTS)
    (there,) = patsy.build_design_matrices([basis.design_info], {"x": _logit(points)})
    with np.errstate(all="ignore"):  # of coefficients that have no end
        frame = fit.get_prediction(np.asarray(there)).summary_frame(alpha=1 - confidence)
    values = [points, *(frame[name].to_numpy(float) for name in ("mean", "mean_ci_lower", "mean_ci_upper"))]
    made = pd.DataFrame(dict(zip(columns, values, strict=True)))
    return made if np.isfinite(made.to_numpy()).all() else pd.DataFrame(columns=columns)


def _reason_against(probability: Floats, outcome: Floats, unit: Ints) -> str | None:
    """Why a logistic regression of the outcome says nothing; None where it does."""
    happened = outcome == 1
    if min(len(np.unique(unit[happened])), len(np.unique(unit[~happened]))) < FEWEST:
        return f"fewer than {FEWEST} patients on one side"
    low, high = probability[~happened], probability[happened]
    if low.max() <= high.min() or high.max() <= low.min():
        return "the probabilities separate the images perfectly"
    return None


def _fit(outcome: Floats, design: npt.NDArray[np.float64], unit: Ints, offset: Floats | None = None) -> Any:
    """A logistic regression; its variances by patient where patients repeat."""
    from statsmodels.genmod.families import Binomial  # noqa: PLC0415 - a second, which only `evaluate` waits for
    from statsmodels.genmod.generalized_linear_model import GLM  # noqa: PLC0415

    repeat = len(np.unique(unit)) < len(unit)
    how: dict[str, Any] = {"cov_type": "cluster", "cov_kwds": {"groups": unit}, "use_t": True} if repeat else {}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of a spline that separates a few images: its band is then wide
        return GLM(outcome, design, family=Binomial(), offset=offset).fit(**how)


def _logit(probability: Floats) -> Floats:
    inside = np.clip(probability, SMALLEST, 1 - SMALLEST)
    logit: Floats = np.log(inside) - np.log1p(-inside)
    return logit
