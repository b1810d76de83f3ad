"""AUROCs of groups of test images in a multi-label study: the mean over findings, and of each finding."""

from dataclasses import replace

import pandas as pd

from xraylab.evaluate.config import MACRO, EvalConfig
from xraylab.evaluate.intervals import Metric
from xraylab.evaluate.multi_label.metrics import compute_metrics
from xraylab.evaluate.multi_label.samples import Findings
from xraylab.evaluate.subgroups import GroupMetric, compare_groups, group_images, sort_groups, suppress

NOT_ENOUGH = "no finding is frequent enough in every group"


def aurocs_by_group(
    findings: Findings, images: pd.DataFrame, cfg: EvalConfig, bounds: list[int], min_size: int
) -> list[tuple[GroupMetric, int]]:
    """With the number of findings that each is over. What speaks of fewer than `min_size` images is suppressed.

    The mean is over those findings that in every reported group at least `min_size` images have, and have not, so it is
    over the same in each. `images`: the rows of the index, in the order of `findings`. `bounds`: of age bands.
    """
    rows = []
    for grouping, group_of_image in group_images(images, bounds).items():
        members = {group: findings[group_of_image == group] for group in sort_groups(set(group_of_image.tolist()))}
        sizes = {group: (len(part.patients), part.units.patients) for group, part in members.items()}
        hidden = suppress({group: size for group, (size, _) in sizes.items()}, min_size)
        over = frequent([part for group, part in members.items() if group not in hidden], min_size)
        metrics = {group: _aurocs(part, over, cfg) for group, part in members.items()}
        compared = compare_groups(grouping, sizes, metrics, min_size)
        rows += [(row, len(over) if row.result and row.result.class_ == MACRO else 1) for row in compared]
    return rows


def frequent(groups: list[Findings], min_size: int) -> list[int]:
    """The findings that at least `min_size` images of every group have, and have not."""
    n_findings = groups[0].labels.shape[1] if groups else 0
    return [number for number in range(n_findings) if all(_rarer(part, number) >= min_size for part in groups)]


def _rarer(findings: Findings, number: int) -> int:
    actual = findings.samples[number].actual
    return int(min((actual == 1).sum(), (actual == 0).sum()))


def _aurocs(findings: Findings, over: list[int], cfg: EvalConfig) -> list[Metric]:
    """Of the mean and of each finding; `n` is what suppression goes by, of the mean the smallest of its findings."""
    rows = [row for row in compute_metrics(findings, cfg, over, intervals=True) if row.metric == "auroc"]
    by_class = {row.class_: row for row in rows}
    of_each = [replace(by_class[name], n=_rarer(findings, number)) for number, name in enumerate(cfg.classes)]
    macro = by_class[MACRO] if over else replace(by_class[MACRO], n=0, why=NOT_ENOUGH)
    return [macro, *of_each]
