"""What each figure is called, and how it is written with its interval."""

from typing import Any

from xraylab.report.text import decimal, percent

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
WHOLE = {"epochs_to_highest_accuracy"}
SHARES = {
    "accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv", "fpr", "fnr", "called_normal",
    "ppv_at_prevalence", "npv_at_prevalence", "train_test_gap",
}  # fmt: skip


def title(name: str) -> str:
    return TITLES.get(name, name.replace("_", " "))


def figure(value: float | None, name: str) -> str:
    """In per cent with one digit where the figure is a share, else with three digits; without the sign."""
    if name in WHOLE:
        return decimal(value, 0)
    return percent(value, 1) if name in SHARES else decimal(value, 3)


def unit(name: str) -> str:
    return " %" if name in SHARES else ""


def interval(row: dict[str, Any], name: str) -> str:
    """`97.1 to 99.6`; empty where there is none."""
    if row.get("low") is None or row.get("high") is None:
        return ""
    return f"{figure(row['low'], name)} to {figure(row['high'], name)}".replace("-", "−")
