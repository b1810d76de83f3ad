"""A multi-label study of trained networks, without networks: every file that `evaluate` and `report` read."""

from pathlib import Path
from typing import Any

import finished_study
import numpy as np
import pandas as pd

from xraylab import files, tables, targets
from xraylab.data.split import leakage, multi_label
from xraylab.params import config
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.task import MULTI_LABEL

FINDINGS = ("Atelectasis", "Effusion", "Hernia", "Mass")
IMAGES = {"train": 40, "valid": 60, "test": 90}
MULTI: dict[str, Any] = {
    "data": {"task": MULTI_LABEL, "classes": list(FINDINGS), "positive": None, "source": "findings"},
    "loss": {"name": "focal"},
}


def make(
    root: Path,
    changes: dict[str, Any] | None = None,
    images: dict[str, int] | None = None,
    keep: tuple[str, ...] = ("baseline", "l2"),
    skill: float = 1.5,
    patients: int = 2,
    absent: tuple[str, ...] = (),
) -> tuple[Params, Paths]:
    """Finished runs of the experiments to `keep` under `root`, of findings that go together.

    `images`: of each split. `patients`: images of each, or 0 where they are unknown. `absent`: findings that no image
    has. Of each finding some labels are uncertain, and some missing.
    """
    paths = Paths(root)
    tree = files.read_yaml(finished_study.SHIPPED)
    tree["experiments"] = {name: tree["experiments"][name] for name in keep}
    files.write_yaml(config.merge(config.merge(tree, MULTI), changes or {}), paths.params)
    given = config.read(paths.params)
    table = _images(given.data.classes, images or IMAGES, patients, absent)
    splits = _write_data(paths, given, table)
    rng = np.random.default_rng(0)
    for experiment in given.experiments:
        cfg = given.experiment(experiment).model_dump() | {"pretrained_sha256": None}
        files.write_yaml(cfg, paths.config(experiment))
        for repeat in given.study.repeats:
            finished_study.write_run(paths, given, experiment, repeat)
            _write_run(paths, given, experiment, repeat)
            _write_predictions(paths, given, experiment, repeat, splits[repeat % len(splits)], rng, skill)
    return given, paths


def _images(findings: list[str], counts: dict[str, int], patients: int, absent: tuple[str, ...]) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    split = np.repeat(list(counts), list(counts.values()))
    n = len(split)
    common, own = rng.normal(size=n)[:, None], rng.normal(size=(n, len(findings)))
    rarity = np.linspace(0.0, 1.0, len(findings))
    labels = (0.5 * common + 0.9 * own > 0.3 + rarity).astype(float)
    labels[:, [findings.index(name) for name in absent]] = 0
    chance = rng.random(labels.shape)
    labels[chance < 0.05] = targets.UNCERTAIN
    labels[chance > 0.92] = np.nan
    ids = [f"{name}{number}.png" for number, name in enumerate(split)]
    names = [f"p{number // patients}-{name}" if patients else "" for number, name in enumerate(split)]
    table = pd.DataFrame({"id": ids, "path": ids, "patient": names, "source": "", "split": split})
    table["sex"] = np.where(np.arange(n) % 3, "F", "M")
    return pd.concat([table, targets.to_columns(labels, findings)], axis=1)


def _write_data(paths: Paths, given: Params, table: pd.DataFrame) -> list[pd.DataFrame]:
    folds = given.split.folds
    splits = [table] if folds is None else [_fold(table, folds, number) for number in range(folds)]
    for number, images in enumerate(splits):
        folder = paths.split if folds is None else paths.split / f"fold-{number}"
        for split in finished_study.SPLITS:
            tables.write(images[images["split"] == split].drop(columns="split"), folder / f"{split}_data.csv")
    parts = [multi_label.summarize(images, images["split"], finished_study.SPLITS) for images in splits]
    summary = {"strategy": given.split.strategy, "folds": folds, **parts[0], "each_fold": parts if folds else []}
    files.write_json(summary | {"removed": [], "test_sources": []}, paths.split / "summary.json")
    files.write_json([], paths.split / "audit.json")
    tables.write(leakage.NONE, paths.split / "removed.csv")
    tables.write(table.drop(columns="split").assign(width=24, height=24), paths.index)
    tables.write(table[["id"]], paths.cache / "rows.csv")
    np.save(paths.cache / "images.npy", np.random.default_rng(1).integers(0, 256, (len(table), 24, 24), np.uint8))
    files.write_json(finished_study.NOT_EXPLAINED, paths.explanation / "summary.json")
    files.write_json(_audit(table, given.data.classes), paths.audit)
    return splits


def _fold(table: pd.DataFrame, folds: int, number: int) -> pd.DataFrame:
    of_patient = pd.factorize(table["patient"].where(table["patient"] != "", table["id"]))[0]
    return table.assign(split=pd.Series((of_patient - number) % folds).map({0: "test", 1: "valid"}).fillna("train"))


def _audit(table: pd.DataFrame, findings: list[str]) -> dict[str, Any]:
    classes = {name: {"images": int((table[f"y_{name}"] == 1).sum()), "patients": 0} for name in findings}
    return {
        "images": len(table),
        "layout": "table",
        "why": "a table has a column for each finding",
        "patients": "known",
        "classes": classes,
        "findings": [],
        "shortcuts": {"cramers_v": {}, "model": None, "warning": None, "remedy": "Test it elsewhere."},
    }


def _write_run(paths: Paths, given: Params, experiment: str, repeat: int) -> None:
    """model.json and history.csv as multi-label training writes them."""
    folder = paths.model(experiment, repeat)
    files.write_json(
        files.read_json(folder / "model.json") | {"task": MULTI_LABEL, "positive": None}, folder / "model.json"
    )
    history = tables.read(folder / "history.csv")
    for split in ("valid", "test"):
        if f"{split}_loss" in history:
            history[f"{split}_auroc"] = 1 - history[f"{split}_loss"] / 2
            history[f"{split}_auprc"] = 1 - history[f"{split}_loss"]
    tables.write(history, folder / "history.csv")


def _write_predictions(
    paths: Paths,
    given: Params,
    experiment: str,
    repeat: int,
    images: pd.DataFrame,
    rng: np.random.Generator,
    skill: float,
) -> None:
    """Sigmoids of normal logits, those of images with the finding raised by `skill`; in logits of another scale."""
    findings = given.data.classes
    scored = images[images["split"] != "train"]
    labels = targets.values(scored, findings)
    parts = []
    for checkpoint in ("best", "last"):
        logits = rng.normal(size=labels.shape) + skill * (labels == 1) - 1.2
        probabilities = 1 / (1 + np.exp(-1.5 * logits))
        columns = {f"p_{name}": probabilities[:, number] for number, name in enumerate(findings)}
        parts.append(scored[["split", "id", "label"]].assign(checkpoint=checkpoint, **columns))
    tables.write(pd.concat(parts), paths.prediction(experiment, repeat))
