"""The audit of several findings per image: labels, pictures with other findings, and shortcuts, finding by finding."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xraylab import targets
from xraylab.data.audit import confounding
from xraylab.data.audit.confounding import FileModel, FindingShortcuts, Shortcuts

ALPHA = 0.05  # of all tests together
RARE = 0.05  # of the images where a finding is known
ABSENT, PRESENT = "absent", "present"

Counts = dict[str, int]


def findings_of(index: pd.DataFrame) -> list[str]:
    """The findings that the index has a column of; none in a single-label study."""
    return [name.removeprefix(targets.PREFIX) for name in targets.of_table(index)]


def count_labels(index: pd.DataFrame) -> dict[str, Counts]:
    """Finding -> the images in which it is present, absent, uncertain or not labelled, and patients who have it."""
    return {name: _count(index, index[f"{targets.PREFIX}{name}"]) for name in findings_of(index)}


def _count(index: pd.DataFrame, label: pd.Series) -> Counts:
    patients = index["patient"][(label == 1).fillna(False)]
    return {
        "images": int((label == 1).sum()),
        "patients": patients[patients != ""].nunique(),
        "negative": int((label == 0).sum()),
        "uncertain": int((label == targets.UNCERTAIN).sum()),
        "missing": int(label.isna().sum()),
    }


def contradicting(index: pd.DataFrame, groups: Sequence[list[str]]) -> list[str]:
    """The groups of images of one picture where a finding is present in one and absent in another, and which findings.

    A label that is uncertain or missing contradicts none.
    """
    names = findings_of(index)
    label = pd.DataFrame(targets.values(index, names), index=index["id"], columns=names)
    differing = [(group, _differing(label.loc[group])) for group in groups]
    return [f"{' = '.join(group)} ({', '.join(others)})" for group, others in differing if others]


def changing(index: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Known patients who have several images, and those among them in whose images a finding comes or goes."""
    known = index[index["patient"] != ""]
    several = known[known["patient"].duplicated(keep=False)]
    label = several[targets.of_table(index)]
    by_patient = label.where(label.isin([0, 1])).groupby(several["patient"])
    changes = (by_patient.max() != by_patient.min()).fillna(False).any(axis=1)
    return list(changes.index), list(changes.index[changes])


def find_shortcuts(index: pd.DataFrame) -> Shortcuts:
    """Measure of each finding whether it can be told without looking at the anatomy.

    A fact goes with a finding where Cramér's V is high and the chi-squared test says so after Holm's correction for
    all facts and findings; the same for the AUROC of facts about the files, with the test of Mann and Whitney.
    """
    names = findings_of(index)
    samples = [_known(index, name) for name in names]
    v = [confounding.ordered_v(_facts(sample), sample["label"]) for sample in samples]
    p_of_facts = [{fact: _p_of_fact(sample, fact) for fact in each} for sample, each in zip(samples, v, strict=True)]
    corrected = iter(holm([p for each in p_of_facts for p in each.values()]))
    aurocs = [_auroc(sample) for sample in samples]
    p_of_auroc = holm([p for _, p in aurocs])
    every = {}
    for name, sample, facts, (auroc, _), p in zip(names, samples, v, aurocs, p_of_auroc, strict=True):
        enough = len(sample) >= confounding.LEAST_IMAGES
        significant = {fact: next(corrected) < ALPHA for fact in facts}
        every[name] = FindingShortcuts(
            images=len(sample),
            positive=int((sample["label"] == PRESENT).sum()),
            cramers_v=facts,
            telling=[
                fact for fact, value in facts.items() if enough and value >= confounding.TELLING_V and significant[fact]
            ],
            auroc=auroc,
            told=enough and auroc is not None and auroc >= confounding.TELLING_AUROC and p < ALPHA,
        )
    return Shortcuts(_highest(v), _mean_model(index, every), _warning(every), findings=every)


def holm(ps: Sequence[float]) -> list[float]:
    """Each p corrected for all of them (Holm 1979), in their order."""
    corrected, highest = [0.0] * len(ps), 0.0
    for rank, at in enumerate(np.argsort(ps)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[at]))
        corrected[at] = highest
    return corrected


def _differing(label: pd.DataFrame) -> list[str]:
    return [str(name) for name in label.columns if {0.0, 1.0} <= set(label[name])]


def _known(index: pd.DataFrame, finding: str) -> pd.DataFrame:
    """The images where the finding is known, with `label` saying whether it is present."""
    label = index[f"{targets.PREFIX}{finding}"]
    known = label.isin([0, 1]).fillna(False).to_numpy(bool)
    return index[known].assign(label=np.where((label[known] == 1).to_numpy(bool), PRESENT, ABSENT))


def _facts(index: pd.DataFrame) -> pd.DataFrame:
    """What `confounding.facts` collects, and whether the file says that marks are burned in."""
    observed = confounding.facts(index)
    return observed.assign(**{"burned in": index["burned_in"]}) if index["burned_in"].nunique() > 1 else observed


def _p_of_fact(sample: pd.DataFrame, fact: str) -> float:
    from scipy.stats import chi2_contingency  # noqa: PLC0415 - most of a second, which most commands need not wait

    counts = pd.crosstab(confounding.categories(_facts(sample)[fact]), sample["label"]).to_numpy()
    return float(chi2_contingency(counts, correction=False).pvalue) if min(counts.shape) > 1 else 1.0


def _auroc(sample: pd.DataFrame) -> tuple[float | None, float]:
    """The cross-validated AUROC of facts about the files, of at most so many images, and its p; no AUROC has p 1."""
    from scipy.stats import mannwhitneyu  # noqa: PLC0415 - as below

    most = confounding.LARGEST_SAMPLE // 2
    parts = [rows.sample(min(len(rows), most), random_state=0) for _, rows in sample.groupby("label")]
    chosen = pd.concat(parts).sort_index() if parts else sample
    p = confounding.cross_validated(chosen, _facts(chosen), chosen["label"]) if parts else None
    if p is None:
        return None, 1.0
    present = (chosen["label"] == PRESENT).to_numpy()
    score: NDArray[np.float64] = p[:, 1]  # absent comes before present
    test = mannwhitneyu(score[present], score[~present], alternative="greater")
    return round(float(test.statistic) / (int(present.sum()) * int((~present).sum())), 3), float(test.pvalue)


def _highest(v: Sequence[dict[str, float]]) -> dict[str, float]:
    highest = pd.DataFrame(list(v)).max()
    return {str(fact): float(value) for fact, value in highest.sort_values(ascending=False, kind="stable").items()}


def _mean_model(index: pd.DataFrame, every: dict[str, FindingShortcuts]) -> FileModel | None:
    """The mean AUROC over the findings that have one."""
    aurocs = [each.auroc for each in every.values() if each.auroc is not None]
    return FileModel(round(float(np.mean(aurocs)), 3), len(index), list(map(str, _facts(index)))) if aurocs else None


def _warning(every: dict[str, FindingShortcuts]) -> str | None:
    """Which findings go with facts about the files, those that are told best first."""
    parts = {}
    for name, each in every.items():
        facts = [f"{fact} (Cramér's V {each.cramers_v[fact]:.2f})" for fact in each.telling[:1]]
        facts += [f"facts about the files alone (AUROC {each.auroc:.2f})"] if each.told else []
        if facts:
            parts[name] = f"{name} goes with {' and '.join(facts)}"
    ordered = sorted(parts, key=lambda name: -(every[name].auroc or 0))
    if not ordered:
        return None
    more = f"; so do {len(ordered) - 3} more findings" if len(ordered) > 3 else ""
    return "; ".join(parts[name] for name in ordered[:3]) + more + "."
