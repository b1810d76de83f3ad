"""A study whose networks have been trained, without networks: every file that `evaluate` and `report` read."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraylab import files, tables
from xraylab.data.split import leakage
from xraylab.params import config
from xraylab.params.config import Params
from xraylab.paths import Paths

SHIPPED = Path(__file__).parents[2] / "params.yaml"
PIXELS = 24
SOURCES = ["Anna", "Mercy", "South"]
"""With leave-one-source-out: the k-th image of a class is of source k mod 3, which fold k mod 3 tests."""
SPLITS = ("train", "valid", "test")
NOT_EXPLAINED: dict[str, Any] = {"ranked_on": None, "methods": [], "experiments": [], "feature_maps": None}


def make(
    root: Path,
    changes: dict[str, Any] | None = None,
    images: dict[str, dict[str, int]] | None = None,
    keep: tuple[str, ...] = ("baseline", "l2"),
    skill: float = 2.0,
) -> tuple[Params, Paths]:
    """The shipped params.yaml with `changes`, and finished runs of the experiments to `keep` under `root`.

    `images`: split -> class -> number; with split.folds, of each class every k-th image is tested in one fold.
    `skill`: how far the true class's logit stands out.
    """
    paths = Paths(root)
    tree = files.read_yaml(SHIPPED)
    tree["experiments"] = {name: tree["experiments"][name] for name in keep}
    files.write_yaml(config.merge(tree, changes or {}), paths.params)
    given = config.read(paths.params)
    counts = images or {split: dict.fromkeys(given.data.classes, 8) for split in SPLITS}
    splits = _write_data(paths, given, counts)
    files.write_json(NOT_EXPLAINED, paths.explanation / "summary.json")
    rng = np.random.default_rng(0)
    for name in given.experiments:
        cfg = given.experiment(name).model_dump() | {"pretrained_sha256": None}
        files.write_yaml(cfg, paths.config(name))
        for repeat in given.study.repeats:
            write_run(paths, given, name, repeat)
            write_predictions(paths, given, name, repeat, splits[repeat % len(splits)], rng, skill)
    return given, paths


def _write_data(paths: Paths, given: Params, counts: dict[str, dict[str, int]]) -> list[pd.DataFrame]:
    """The images with their splits, once per fold."""
    rows = [
        {"id": f"{label}/{split}{number}.png", "label": label, "patient": "", "split": split}
        for split, classes in counts.items()
        for label, images in classes.items()
        for number in range(images)
    ]
    table = pd.DataFrame(rows, columns=["id", "label", "patient", "split"])
    table.insert(1, "path", table["id"])
    by_source = given.split.strategy == "leave-one-source-out"
    folds = len(SOURCES) if by_source else given.split.folds
    splits = [table] if folds is None else [_fold(table, folds, number) for number in range(folds)]
    table["source"] = np.array(SOURCES)[table.groupby("label").cumcount() % len(SOURCES)] if by_source else ""
    splits = [images.assign(source=table["source"]) for images in splits]
    for number, images in enumerate(splits):
        folder = paths.split if folds is None else paths.split / f"fold-{number}"
        for split in SPLITS:
            tables.write(images[images["split"] == split].drop(columns="split"), folder / f"{split}_data.csv")
    parts = [_part(images, given.data.classes) for images in splits]
    summary = {"strategy": given.split.strategy, "folds": folds, **parts[0], "each_fold": parts if folds else []}
    files.write_json(
        summary | {"removed": [], "test_sources": SOURCES if by_source else []}, paths.split / "summary.json"
    )
    files.write_json([], paths.split / "audit.json")
    tables.write(leakage.NONE, paths.split / "removed.csv")
    files.write_json(_audit(table), paths.audit)
    tables.write(table.assign(width=PIXELS, height=PIXELS), paths.index)
    tables.write(table[["id"]], paths.cache / "rows.csv")
    pixels = np.random.default_rng(1).integers(0, 256, (len(table), PIXELS, PIXELS), np.uint8)
    np.save(paths.cache / "images.npy", pixels)
    return splits


def _audit(table: pd.DataFrame) -> dict[str, Any]:
    images = table["label"].value_counts(sort=False)
    return {
        "images": len(table),
        "layout": "class-folders",
        "why": "there is a folder for each class",
        "patients": "unknown",
        "classes": {label: {"images": int(count), "patients": 0} for label, count in images.items()},
        "findings": [],
        "shortcuts": {"cramers_v": {}, "model": None, "warning": None, "remedy": "Test it elsewhere."},
    }


def _fold(table: pd.DataFrame, folds: int, number: int) -> pd.DataFrame:
    place = (table.groupby("label").cumcount() - number) % folds
    return table.assign(split=place.map({0: "test", 1: "valid"}).fillna("train"))


def _part(table: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    held = {
        split: {label: _range(table[(table["split"] == split) & (table["label"] == label)]) for label in classes}
        for split in SPLITS
    }
    return {"splits": held, "unused": dict.fromkeys(classes, 0)}


def _range(rows: pd.DataFrame) -> dict[str, Any]:
    names = [name.split("/")[1] for name in rows["id"]]
    return {"images": len(names), "first": names[0] if names else None, "last": names[-1] if names else None}


def write_run(paths: Paths, given: Params, experiment: str, repeat: int) -> None:
    """model.json and history.csv; the best epoch is the last but one."""
    resolved, folder = given.experiment(experiment), paths.model(experiment, repeat)
    epochs = resolved.train.epochs
    model = {
        "experiment": experiment,
        "repeat": repeat,
        "arch": resolved.model.arch,
        "classes": given.data.classes,
        "task": given.data.task,
        "positive": given.data.positive,
        "channels": resolved.model.channels,
        "img_size": resolved.model.img_size,
        "head": {"kind": resolved.model.head, "width": None, "batch_norm": None},
        "dropout": resolved.model.dropout,
        "normalise": {"mean": [0.449], "std": [0.226]},
        "images": given.images.model_dump(),
        "augment": resolved.augment.model_dump(),
        "parameters": 11_171_266,
        "multiply_adds": 566_231_040,
        "multiply_adds_counted": "multiply-adds of convolutions, fully connected layers and attention",
        "frozen": {
            "layers_frozen": 20 if resolved.model.freeze.choices else 0,
            "layers_in_all": 41,
            "parameters": 676_800 if resolved.model.freeze.choices else 0,
        },
        "monitor": resolved.train.monitor,
        "lr_found": 1.4e-3 if resolved.train.lr == "find" else None,
        "best_epoch": epochs - 2,
        "last_epoch": epochs - 1,
        "kept_epochs": [epochs - 2, epochs - 1],
        "train_seconds": 192.4,
        "hardware": {"device": "cpu", "name": "AVX2", "precision": "float32", "threads": 2, "torch": "2.15.0"},
    }
    files.write_json(model, folder / "model.json")
    tables.write(_history(given, epochs, resolved.train.monitored_split, repeat), folder / "history.csv")


def _history(given: Params, epochs: int, monitored_split: str, repeat: int) -> pd.DataFrame:
    done = np.arange(1, epochs + 1) / epochs
    rng = np.random.default_rng(repeat)
    table = pd.DataFrame({"epoch": range(epochs), "phase": "all", "lr": 1e-3})
    scored = [
        split
        for split in ("valid", "test")
        if split == monitored_split or (split == "valid" and given.split.valid_pct > 0)
    ]
    for split in ["train", *scored]:
        noise = rng.normal(0, 0.01, epochs) * (split != "train")
        table[f"{split}_loss"] = 0.6 * np.exp(-3 * done) + 0.03 + abs(noise) * 4
        table[f"{split}_accuracy"] = 1 - table[f"{split}_loss"] / 3
        if split != "train":
            table[f"{split}_f1"] = 1 - table[f"{split}_loss"] / 2
    return table


def write_predictions(
    paths: Paths,
    given: Params,
    experiment: str,
    repeat: int,
    images: pd.DataFrame,
    rng: np.random.Generator,
    skill: float,
) -> None:
    """Softmax of normal logits, the true class's raised by `skill`."""
    classes = given.data.classes
    scored = images[images["split"] != "train"]
    actual = scored["label"].map(classes.index).to_numpy(int)
    parts = []
    for checkpoint in ("best", "last"):
        logits = rng.normal(size=(len(scored), len(classes))) + skill * np.eye(len(classes))[actual]
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        columns = {f"p_{label}": probabilities[:, number] for number, label in enumerate(classes)}
        parts.append(scored[["split", "id", "label"]].assign(checkpoint=checkpoint, **columns))
    tables.write(pd.concat(parts), paths.prediction(experiment, repeat))
