"""Metrics of groups of test images where the index knows sex, age, view or source, and who is in each split."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xraylab import targets
from xraylab.evaluate.config import OVERALL, EvalConfig
from xraylab.evaluate.intervals import Metric, difference_interval, metrics_with_intervals
from xraylab.evaluate.samples import Sample, Texts

BY = ("sex", "age", "view", "source")
UNKNOWN = "unknown"
COMPARED = ("sensitivity", "specificity", "f1", "auroc")
AGE_QUARTILES = ("age_q1", "age_median", "age_q3")
ALL_IMAGES = "all"


@dataclass(frozen=True)
class GroupMetric:
    """A metric of one group, with its difference from the grouping's largest group, the `reference`.

    Of a suppressed group nothing is known; of a suppressed metric no number is.
    """

    grouping: str
    group: str
    reference: str
    images: int | None
    patients: int | None
    suppressed: bool
    result: Metric | None
    difference: float | None = None
    difference_ci_low: float | None = None
    difference_ci_high: float | None = None


@dataclass(frozen=True)
class GroupSize:
    """Images and known patients of a group in a split; of all of a split's images the ages, too."""

    split: str
    grouping: str
    group: str
    images: int | None
    patients: int | None
    suppressed: bool
    age_q1: float | None = None
    age_median: float | None = None
    age_q3: float | None = None


def age_band(age: str, bounds: list[int]) -> str:
    """The band that holds an age in whole years: `under 18`, `18 to 39`, `65 and over` for the bounds 18, 40, 65."""
    if not age:
        return UNKNOWN
    years = int(age)
    below, above = [bound for bound in bounds if bound <= years], [bound for bound in bounds if bound > years]
    if not below:
        return f"under {above[0]}"
    return f"{below[-1]} to {above[0] - 1}" if above else f"{below[-1]} and over"


def group_images(images: pd.DataFrame, bounds: list[int]) -> dict[str, Texts]:
    """What to group by -> each image's group; only what tells at least two known groups apart."""
    groups = {}
    for name in (name for name in BY if name in images):
        texts = images[name].astype(str)
        groups_of_images = (
            texts.map(lambda text: age_band(text, bounds)) if name == "age" else texts.replace("", UNKNOWN)
        )
        if groups_of_images[groups_of_images != UNKNOWN].nunique() > 1:
            groups[name] = groups_of_images.to_numpy(str)
    return groups


def sort_groups(names: Iterable[str]) -> list[str]:
    """Age bands from the youngest on, other groups by name, the unknown last."""
    return sorted(names, key=lambda name: (name == UNKNOWN, not name.startswith("under "), name))


def suppress(counts: dict[str, int], min_size: int, suppressed: Iterable[str] = ()) -> set[str]:
    """The groups whose counts must not be shown: small ones, and as many more as hide these from subtraction.

    The sum over all groups is known, so at least two groups are suppressed, with at least `min_size` images in all
    (complementary suppression: Hundepool et al., Statistical Disclosure Control, 2012, section 4). `suppressed`: those
    that are already.
    """
    hidden = {*suppressed, *(group for group, count in counts.items() if count < min_size)}
    rest = sorted(counts.keys() - hidden, key=lambda group: (counts[group], group))
    while hidden and rest and (len(hidden) == 1 or sum(counts[group] for group in hidden) < min_size):
        hidden.add(rest.pop(0))
    return hidden


def metrics_by_group(
    sample: Sample, images: pd.DataFrame, cfg: EvalConfig, bounds: list[int], min_size: int
) -> list[GroupMetric]:
    """What speaks of fewer than `min_size` images is suppressed, and so is what would give it away: see `suppress`.

    `images`: the rows of the index, in the order of the sample. `bounds`: of age bands.
    """
    rows = []
    for grouping, group_of_image in group_images(images, bounds).items():
        members = {group: sample[group_of_image == group] for group in sort_groups(set(group_of_image.tolist()))}
        rows += _one_grouping(grouping, members, cfg, min_size)
    return rows


def _one_grouping(grouping: str, members: dict[str, Sample], cfg: EvalConfig, min_size: int) -> list[GroupMetric]:
    sizes = {group: (len(part.actual), part.units.patients) for group, part in members.items()}
    metrics = {group: _compared_metrics(part, cfg) for group, part in members.items()}
    return compare_groups(grouping, sizes, metrics, min_size)


def compare_groups(
    grouping: str, sizes: dict[str, tuple[int, int | None]], metrics: dict[str, list[Metric]], min_size: int
) -> list[GroupMetric]:
    """The metrics of each group, the same ones in one order, against the largest; `sizes`: images and patients."""
    hidden = suppress({group: images for group, (images, _) in sizes.items()}, min_size)
    reference = max(sizes.keys() - hidden, key=lambda group: (sizes[group][0], group), default="")
    suppressed = [
        suppress({group: metric.n or 0 for group, metric in zip(metrics, column, strict=True)}, min_size, hidden)
        for column in zip(*metrics.values(), strict=True)
    ]
    rows = []
    for group, size in sizes.items():
        if group in hidden:
            rows.append(GroupMetric(grouping, group, reference, None, None, True, None))
            continue
        key = grouping, group, reference, *size
        for metric, other, without in zip(metrics[group], metrics[reference], suppressed, strict=True):
            if group in without:
                rows.append(GroupMetric(*key, True, Metric(metric.class_, metric.metric, *[None] * 6)))
            else:
                compared = group != reference and reference not in without
                limits = _difference(metric, other) if compared else (None, None, None)
                rows.append(GroupMetric(*key, False, metric, *limits))
    return rows


def _compared_metrics(sample: Sample, cfg: EvalConfig) -> list[Metric]:
    keys = [(OVERALL, "accuracy"), *((cfg.main_class, name) for name in COMPARED)]
    return [metric for metric in metrics_with_intervals(sample, cfg) if (metric.class_, metric.metric) in keys]


def _difference(metric: Metric, reference: Metric) -> tuple[float | None, float | None, float | None]:
    """With its limits; None where either has no interval."""
    if metric.interval is None or reference.interval is None:
        return None, None, None
    difference = metric.interval[0] - reference.interval[0]
    return difference, *difference_interval(metric.interval, reference.interval)


def count_groups(
    index: pd.DataFrame, split: pd.Series, bounds: list[int], min_size: int, findings: Sequence[str] = ()
) -> list[GroupSize]:
    """Images and patients of each split by class, sex, age band, view and source; ages in years of those that have one.

    `split` names each image's split. Groups of fewer than `min_size` images in a split are suppressed there, with what
    would give them away; classes are not, since they are no secret. `findings`: the classes of a multi-label study, of
    which an image may have several or none.
    """
    groupings = group_images(index, bounds)
    if not findings:
        groupings = {"class": index["label"].to_numpy(str)} | groupings
    rows = []
    for name, of_split in index.groupby(split, sort=False):
        rows.append(GroupSize(str(name), ALL_IMAGES, "", *_count(of_split), False, **_age_quartiles(of_split)))
        for finding in findings:
            having = of_split[of_split[targets.columns([finding])[0]] == 1]
            rows.append(GroupSize(str(name), "class", finding, *_count(having), False))
        for grouping, group_of_image in groupings.items():
            members = {str(group): part for group, part in of_split.groupby(group_of_image[split == name])}
            sizes = {group: len(part) for group, part in members.items()}
            hidden = suppress(sizes, min_size) if grouping != "class" else set()
            for group in sort_groups(members):
                images, patients = (None, None) if group in hidden else _count(members[group])
                rows.append(GroupSize(str(name), grouping, group, images, patients, group in hidden))
    return rows


def _age_quartiles(images: pd.DataFrame) -> dict[str, Any]:
    ages = pd.to_numeric(images["age"], errors="coerce").dropna() if "age" in images else pd.Series(dtype=float)
    return dict(zip(AGE_QUARTILES, ages.quantile([0.25, 0.5, 0.75]), strict=True)) if len(ages) else {}


def _count(images: pd.DataFrame) -> tuple[int, int | None]:
    """Images and known patients; no number of patients where none is known."""
    return len(images), images.loc[images["patient"] != "", "patient"].nunique() or None
