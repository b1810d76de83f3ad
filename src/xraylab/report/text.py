"""Numbers and metrics as people read them."""

import re

from xraylab.report.records import Estimate

NOT_AVAILABLE = "not available"
SPLIT_NAMES = {"train": "training", "valid": "validation", "test": "test"}
TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "ppv_at_prevalence": "PPV at the stated prevalence",
    "npv_at_prevalence": "NPV at the stated prevalence",
    "fpr": "False-positive rate",
    "fnr": "False-negative rate",
    "called_normal": "Called normal",
    "f1": "F1",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "mcc": "MCC",
    "kappa": "Cohen’s kappa",
    "brier": "Brier score",
    "log_loss": "Log loss",
    "train_test_gap": "Training minus test accuracy",
    "epochs_to_highest_accuracy": "Epochs to the highest accuracy",
}
SHARES = {
    "accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv", "fpr", "fnr", "called_normal",
    "ppv_at_prevalence", "npv_at_prevalence", "train_test_gap",
}  # fmt: skip


def percent(share: float | None, digits: int = 2) -> str:
    """A share from 0 to 1 in per cent, without the sign: 0.98913 is 98.91."""
    return NOT_AVAILABLE if share is None else f"{100 * share:z.{digits}f}"


def decimal(value: float | None, digits: int = 4) -> str:
    return NOT_AVAILABLE if value is None else f"{value:z.{digits}f}"


def grouped(count: float) -> str:
    """Thousands apart by a thin space that does not break: 23 512 130."""
    return f"{int(count):,}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """In the two largest units: 1 h 4 min, 3 min 12 s, 41 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def listed(names: list[str], last: str = "and") -> str:
    """a, b and c."""
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def plural(count: float, noun: str) -> str:
    """1 image, 2 images, 2.5 images."""
    rounded = round(count, 1)
    return f"{rounded:g} {noun}{'' if rounded == 1 else 's'}"


def p_value(p: float | None, at_most: bool = False) -> str:
    """Three digits below 0.1, two above; `at_most` where a test of drawn swaps found none as extreme."""
    if p is None:
        return "not tested"
    if at_most:
        return f"≤ {p:.1g}"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def minus(sentence: str) -> str:
    """With a minus sign where a hyphen stands before a number."""
    return re.sub(r"(?<![\w-])-(?=\d)", "−", sentence)


def signed(value: float | None) -> str:
    """A difference with its sign: +0.012."""
    return NOT_AVAILABLE if value is None else f"{value:+z.3f}".replace("-", "−")


def title(name: str) -> str:
    """What a metric is called in a heading."""
    return TITLES.get(name, name.replace("_", " "))


def metric_name(name: str) -> str:
    """What a metric is called within a sentence: AUROC, but accuracy."""
    heading = title(name)
    proper = heading[1:2].isupper() or heading.startswith(("F1", "Brier", "Cohen"))
    return heading if proper else heading[0].lower() + heading[1:]


def format_metric(value: float | None, name: str) -> str:
    """In per cent with one digit where the metric is a share, else with three digits; without the sign."""
    if name == "epochs_to_highest_accuracy":
        return decimal(value, 0)
    return percent(value, 1) if name in SHARES else decimal(value, 3)


def unit(name: str) -> str:
    return " %" if name in SHARES else ""


def interval(estimate: Estimate, name: str) -> str:
    """`97.1 to 99.6`; empty where there is none."""
    if estimate.ci_low is None or estimate.ci_high is None:
        return ""
    return f"{format_metric(estimate.ci_low, name)} to {format_metric(estimate.ci_high, name)}".replace("-", "−")
