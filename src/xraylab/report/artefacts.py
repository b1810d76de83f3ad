"""Everything that the report reads, read once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from xraylab import files, tables
from xraylab.params.config import ExperimentConfig, Params, read_config
from xraylab.paths import Paths
from xraylab.report.records import (
    Demographics,
    EpochMetric,
    Metric,
    OperatingPoint,
    Run,
    Spread,
    SubgroupMetric,
    Summary,
    Tree,
    operating_point,
    record,
)

SPLITS = ("train", "valid", "test")
WORDS = (
    "experiment", "checkpoint", "chosen_on", "kind", "split", "class", "metric", "ci_method", "point", "why",
    "grouping", "group", "suppressed", "reference", "finding",
)  # fmt: skip
TEXT = (*tables.TEXT, *WORDS)
Change = tuple[str, Any, Any]  # dotted key, the baseline's value, the experiment's
Images = npt.NDArray[np.uint8]
Augment = Callable[[ExperimentConfig, Images], list[list[Images]]]
"""From images to the views of each that training shows; none where it changes nothing."""
NOT_EXPLAINED: Tree = {"ranked_on": None, "methods": [], "experiments": [], "feature_maps": None}
"""As `explain` writes it of no experiment."""
Row = TypeVar("Row")


@dataclass(frozen=True)
class Experiment:
    """What was trained under one name; `library` builds its network."""

    name: str
    cfg: ExperimentConfig
    runs: list[Run]
    changes: list[Change]
    library: str


@dataclass(frozen=True)
class Labels:
    """How many images of a split have a finding, have it not, or are not known to."""

    positive: int
    negative: int
    uncertain: int
    missing: int

    @property
    def known(self) -> int:
        return self.positive + self.negative


@dataclass(frozen=True)
class Artefacts:
    """What the stages before this one wrote, and params.yaml."""

    params: Params
    paths: Paths
    summary: Summary
    split: Tree
    leaks: list[Tree]
    audit: Tree
    explained: Tree
    index: pd.DataFrame
    test_names: list[str]
    """The files of all images that a repeat tests."""
    metrics: list[Metric]
    spread: list[Spread]
    operating_points: list[OperatingPoint]
    subgroups: list[SubgroupMetric]
    epochs: list[EpochMetric]
    demographics: list[Demographics]
    external: list[Tree]
    experiments: list[Experiment]
    augment: Augment
    published: Tree | None

    @property
    def totals(self) -> dict[str, int]:
        """Split -> images; with folds, of the first one."""
        return totals(self.split)

    @property
    def sources(self) -> list[str]:
        """The names of the sources of the images; a single source needs none."""
        return sorted(set(self.index["source"]))

    @property
    def test_shares(self) -> dict[str, float]:
        """Of the test images, each class's share; with folds, of the first one's."""
        if self.summary.multi:
            return {name: part.positive / max(part.known, 1) for name, part in self.test_labels.items()}
        test = max(self.totals["test"], 1)
        return {label: part["images"] / test for label, part in self.split["splits"]["test"].items()}

    @property
    def tested(self) -> int:
        """How many images are tested; with folds, in all of those that the repeats test."""
        folds = self.split["folds"]
        if folds is None:
            return self.totals["test"]
        used = {repeat % folds for repeat in self.params.study.repeats}
        return sum(totals(self.split["each_fold"][fold])["test"] for fold in used)

    @property
    def test_labels(self) -> dict[str, Labels]:
        """Finding -> the labels of the images that a repeat tests, of each fold once."""
        folds = self.split["each_fold"]
        used = sorted({repeat % len(folds) for repeat in self.params.study.repeats}) if folds else []
        parts = [folds[fold]["splits"]["test"] for fold in used] or [self.split["splits"]["test"]]
        return {
            name: Labels(**{kind: sum(part[name][kind] for part in parts) for kind in parts[0][name]})
            for name in self.summary.classes
        }


def read(
    params: Params,
    paths: Paths,
    built_by: Callable[[str], str],
    augment: Augment,
    published: Tree | None,
    explained: Tree,
) -> Artefacts:
    """`built_by`: from an architecture to the library that builds it; `explained`: `explanation`, or NOT_EXPLAINED.

    Errors: MissingError.
    """
    folder, index = paths.evaluation, tables.read(paths.index)
    summary = Summary.of(files.read_json(folder / "summary.json"))
    return Artefacts(
        params=params,
        paths=paths,
        summary=summary,
        split=files.read_json(paths.split / "summary.json"),
        leaks=files.read_json(paths.split / "audit.json"),
        audit=files.read_json(paths.audit),
        explained=explained,
        index=index,
        test_names=_test_names(params, paths, index),
        metrics=records(folder / "metrics.csv", Metric),
        spread=records(folder / "spread.csv", Spread),
        operating_points=[operating_point(row) for row in rows(tables.read(folder / "operating_points.csv", TEXT))],
        subgroups=records(folder / "subgroups.csv", SubgroupMetric),
        epochs=records(folder / "epochs.csv", EpochMetric),
        demographics=records(folder / "demographics.csv", Demographics),
        external=[files.read_json(path) for path in sorted(paths.external.glob("*.json"))],
        experiments=_experiments(paths, summary, built_by),
        augment=augment,
        published=published,
    )


def explanation(paths: Paths) -> Tree:
    """The summary that `explain` wrote. Errors: MissingError."""
    tree: Tree = files.read_json(paths.explanation / "summary.json")
    return tree


def _test_names(params: Params, paths: Paths, index: pd.DataFrame) -> list[str]:
    lists = dict.fromkeys(paths.split_of(repeat) / "test_data.csv" for repeat in params.study.repeats)
    tested = {name for path in lists for name in tables.read(path)["id"]}
    return [str(path) for path in index["path"][index["id"].isin(tested)]]


def records(path: Path, kind: type[Row]) -> list[Row]:
    """One record per row of a CSV."""
    return [record(kind, row) for row in rows(tables.read(path, TEXT))]


def totals(summary: Tree) -> dict[str, int]:
    """Split -> images, of a split's summary; the findings of one image do not add up to images."""
    if "images" in summary:
        return {split: int(summary["images"][split]) for split in SPLITS}
    return {split: sum(part["images"] for part in summary["splits"][split].values()) for split in SPLITS}


def differences(cfg: Tree, baseline: Tree) -> list[Change]:
    """What `cfg` sets otherwise than `baseline`, both nested."""
    leaves, baseline_leaves = flat(cfg), flat(baseline)
    return [(key, baseline_leaves[key], leaves[key]) for key in leaves if leaves[key] != baseline_leaves[key]]


def flat(tree: Tree, prefix: str = "") -> Tree:
    """Dotted key -> value, with null, true and false as params.yaml has them."""
    leaves: Tree = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": _as_written(value)}
    return leaves


def _as_written(value: Any) -> Any:
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else value


def rows(table: pd.DataFrame) -> list[Tree]:
    """One mapping per row of a table that was read with `TEXT`; None where a cell is empty or no number."""
    numbers = {str(name): pd.to_numeric(table[name], errors="coerce") for name in table.columns if name not in TEXT}
    mappings = table.assign(**numbers).to_dict("records")
    return [{str(key): _none_if_missing(value) for key, value in row.items()} for row in mappings]


def _none_if_missing(value: Any) -> Any:
    return None if value == "" or value != value else value  # noqa: PLR0124 - NaN alone differs from itself


def _experiments(paths: Paths, summary: Summary, built_by: Callable[[str], str]) -> list[Experiment]:
    configs = {name: read_config(paths.config(name)) for name in summary.experiments}
    baseline = configs[summary.baseline].model_dump()
    return [
        Experiment(
            name=name,
            cfg=configs[name],
            runs=runs,
            changes=differences(configs[name].model_dump(), baseline),
            library=built_by(configs[name].model.arch),
        )
        for name, runs in summary.experiments.items()
    ]
