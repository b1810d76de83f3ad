"""Confounding: what the class can be told from besides the picture, which a network would use too."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FOLDS = 5
TREES = 100
LARGEST_SAMPLE = 5000  # images; more of them change the answer no more
FEW = 10  # values of a number that count as categories of their own
RARE = 20  # the most frequent values of a text that are told apart
TELLING_V = 0.5
TELLING_AUROC = 0.75
"""Halfway from chance to certainty: the synthetic films have 0.40, three public collections 0.85 to 0.94."""
LEAST_IMAGES = 30
"""With labels drawn at random, every fourth sample of 20 films had a fact with such a V, and one in twenty of 30."""
REMEDY = (
    "Test on films of other hospitals (`xraylab external-test RUN FOLDER`); what can help: "
    "`xraylab init --recipe robust`, `images.crop_border`, several sources in `data.source`, "
    "`split.strategy: leave-one-source-out`."
)


@dataclass(frozen=True)
class FileModel:
    """A classifier of the classes by facts about the files alone."""

    auroc: float
    images: int
    facts: list[str]


@dataclass(frozen=True)
class FindingShortcuts:
    """Shortcuts to one of several findings, among the images where it is known to be present or absent."""

    images: int
    positive: int
    cramers_v: dict[str, float]
    telling: list[str]
    """The facts that go with the finding, after Holm's correction for all facts and findings."""
    auroc: float | None
    """Of a classifier by facts about the files alone."""
    told: bool
    """Whether that is high, and better than chance after Holm's correction for all findings."""


@dataclass(frozen=True)
class Shortcuts:
    """Shortcuts: facts besides the anatomy that go with the class."""

    cramers_v: dict[str, float]
    """Cramér's V of each fact with the class, the highest first."""
    model: FileModel | None
    warning: str | None
    """For whoever is to see a metric of these images; None where there is nothing to say."""
    remedy: str = REMEDY
    findings: dict[str, FindingShortcuts] | None = None
    """Of several findings per image: those of each; the V above is then the highest of any, the AUROC their mean."""


def find_shortcuts(index: pd.DataFrame) -> Shortcuts:
    """Measure whether the class can be told without looking at the anatomy."""
    ordered, model = ordered_v(facts(index), index["label"]), auroc(index)
    return Shortcuts(ordered, model, warning(ordered, model, len(index)))


def ordered_v(observed: pd.DataFrame, label: pd.Series) -> dict[str, float]:
    """Cramér's V of each fact with the label, rounded, the highest first."""
    v = {str(name): round(cramers_v(fact, label), 3) for name, fact in observed.items()}
    return dict(sorted(v.items(), key=lambda item: -item[1]))


def facts(index: pd.DataFrame) -> pd.DataFrame:
    """Collect facts about each image besides its anatomy; a column per fact that varies."""
    table = pd.DataFrame(
        {
            "format": index["format"],
            "mode": index["mode"],
            "size": index["width"].astype(str) + "x" + index["height"].astype(str),
            "aspect": (index["width"] / index["height"]).round(3),
            "bytes per pixel": index["bytes"] / (index["width"] * index["height"]),
            "source": index["source"].map(_host),
            "site": index["site"].where(index["site"] != index["source"], ""),
            "manufacturer": index["manufacturer"],
            "view": index["view"],
            "brightness": index["brightness"],
            "contrast": index["contrast"],
            "border": index["border"],
        }
    )
    return table.loc[:, table.nunique() > 1]


def cramers_v(fact: pd.Series, label: pd.Series) -> float:
    """Cramér's V between a fact and the class, 0 to 1, without its bias (Bergsma 2013). Numbers are cut into fifths."""
    counts = pd.crosstab(categories(fact), label).to_numpy(float)
    counts = counts[counts.sum(axis=1) > 0]
    total, (rows, columns) = counts.sum(), counts.shape
    if min(rows, columns) < 2:
        return 0.0
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / total
    phi2 = float(((counts - expected) ** 2 / expected).sum() / total)
    phi2 = max(0.0, phi2 - (rows - 1) * (columns - 1) / (total - 1))
    corrected_rows, corrected_columns = rows - (rows - 1) ** 2 / (total - 1), columns - (columns - 1) ** 2 / (total - 1)
    smaller = min(corrected_rows, corrected_columns) - 1
    return float(min(1.0, np.sqrt(phi2 / smaller))) if smaller > 0 else 0.0


def auroc(index: pd.DataFrame) -> FileModel | None:
    """Cross-validate how well a random forest that sees only `facts` tells the classes: AUROC, by patient if known.

    With more than two classes, the mean over classes of each against the rest. None where a class has fewer than
    10 images (or 5 patients), or nothing varies.
    """
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - a second, which most commands need not wait

    sample = index.sample(LARGEST_SAMPLE, random_state=0) if len(index) > LARGEST_SAMPLE else index
    observed, label = facts(sample), sample["label"]
    p = cross_validated(sample, observed, label)
    if p is None:
        return None
    truth = pd.get_dummies(label).to_numpy(bool)
    each = {name: float(roc_auc_score(truth[:, at], p[:, at])) for at, name in enumerate(sorted(label.unique()))}
    return FileModel(round(float(np.mean(list(each.values()))), 3), len(sample), list(map(str, observed)))


def cross_validated(index: pd.DataFrame, observed: pd.DataFrame, label: pd.Series) -> NDArray[np.float64] | None:
    """Probabilities (images, labels in sorted order) by random forests that see only the facts `observed`.

    None where a label has too few images or patients, or nothing varies.
    """
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - as above
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict  # noqa: PLC0415

    group = index["patient"].where(index["patient"] != "", "image " + index["id"])
    enough = label.value_counts().min() >= 2 * FOLDS and group.groupby(label).nunique().min() >= FOLDS
    if observed.empty or label.nunique() < 2 or not enough:
        return None
    forest = RandomForestClassifier(TREES, min_samples_leaf=3, random_state=0)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    p = cross_val_predict(forest, _encode(observed), label, groups=group, cv=folds, method="predict_proba")
    return np.asarray(p, np.float64)


def warning(v: dict[str, float], model: FileModel | None, images: int) -> str | None:
    """Why metrics may not hold at other hospitals; None where no fact tells the class, or of a few images.

    `v`: Cramér's V of each fact, the highest first; `model`: what `auroc` returned.
    """
    if images < LEAST_IMAGES:
        return None
    telling = [f"{name} (Cramér's V {value:.2f})" for name, value in v.items() if value >= TELLING_V]
    fact = telling[0] + (f" and {len(telling) - 1} more" if telling[1:] else "") if telling else ""
    if not model or model.auroc < TELLING_AUROC:
        return f"The class goes with {fact}." if telling else None
    tell = f"tell {'it' if telling else 'the class'} with an AUROC of {model.auroc:.2f}."
    if telling:
        return f"The class goes with {fact}; facts about the files alone {tell}"
    return f"Facts about the files alone ({', '.join(model.facts)}) {tell}"


def _encode(observed: pd.DataFrame) -> NDArray[np.float64]:
    """Encode frequent texts as one-hot columns, and numbers as they are."""
    parts = []
    for name, fact in observed.items():
        if pd.api.types.is_numeric_dtype(fact):
            parts.append(fact.to_frame())
        else:
            parts.append(
                pd.get_dummies(fact.where(fact.isin(fact.value_counts().index[:RARE]), "other"), prefix=str(name))
            )
    return pd.concat(parts, axis=1).to_numpy(float)


def categories(fact: pd.Series) -> pd.Series:
    if not pd.api.types.is_numeric_dtype(fact) or fact.nunique() <= FEW:
        return fact.astype(str)
    return pd.qcut(fact, 5, duplicates="drop").astype(str)


def _host(source: str) -> str:
    """The site of an address, since each image has an address of its own."""
    return source.split("/")[2] if source.startswith(("http://", "https://")) and source.count("/") > 1 else source
