"""reports/metrics.json: the few numbers by which DVC lists and compares versions of a study."""

from collections.abc import Iterable, Sequence

from xraylab.evaluate.config import OVERALL, EvalConfig
from xraylab.evaluate.multi_label.study import FindingsEvaluation
from xraylab.evaluate.scores import DECIMALS
from xraylab.evaluate.study import Evaluation, StudyMetric, mean_values

TEST = "test"


def headline(
    evaluation: Evaluation | FindingsEvaluation, experiments: Iterable[str], ranked_by: str, cfg: EvalConfig
) -> dict[str, float | None]:
    """What ranks each experiment, under its name, and test.<primary metric> of the experiment that comes first.

    `ranked_by`: f1 and the like, on validation images (in published mode on test images), means over repeats. No
    experiment's name has a dot, so that the keys are never the same.
    """
    ranked = _ranked(evaluation, ranked_by)
    values = {experiment: _rounded(ranked[experiment]) for experiment in experiments}
    primary = _primary(evaluation.metrics, evaluation.ranking[0].experiment, cfg)
    return {**values, f"{TEST}.{cfg.primary}": _rounded(primary)}


def _ranked(evaluation: Evaluation | FindingsEvaluation, ranked_by: str) -> dict[str, float | None]:
    name = "log_loss" if ranked_by == "loss" else ranked_by
    if isinstance(evaluation, Evaluation):
        return {row.experiment: getattr(row.averages, name) for row in evaluation.ranking}
    return {row.experiment: getattr(row, name) for row in evaluation.ranking}


def _primary(metrics: Sequence[StudyMetric], experiment: str, cfg: EvalConfig) -> float | None:
    """The primary metric on test images, of the positive class or the mean over classes; accuracy is of all images."""
    means = mean_values(metrics, experiment, "best", TEST)
    return means.get((cfg.main_class, cfg.primary), means.get((OVERALL, cfg.primary)))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS)
