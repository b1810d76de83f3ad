"""A study of several findings per image whose networks, of random weights, are there, with their predictions."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from finished_study import SHIPPED

from xraylab import files, tables, targets
from xraylab.model import weights
from xraylab.params import config
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.predict.checkpoints import TrainedModel
from xraylab.task import MULTI_LABEL
from xraylab.train import outputs
from xraylab.train.run import TrainingRun

FINDINGS = ["Effusion", "Mass", "Nodule"]
SHARES = (0.5, 0.3, 0.4)
SPLITS = ("train", "valid", "test")
EACH = 30  # images of a split
PIXELS = 24
FILM = 48  # pixels of the images before they were fitted
LOSS: dict[str, Any] = {"name": "focal"}
MULTI_LABEL: dict[str, Any] = {
    "data": {"task": MULTI_LABEL, "classes": FINDINGS, "positive": None, "source": "findings"},
    "split": {"strategy": "random"},
    "images": {"size": PIXELS},
    "model": {"img_size": PIXELS},
    "loss": LOSS,
    "experiments": {"baseline": {}},
}


def make(root: Path, changes: dict[str, Any] | None = None, seed: int = 0) -> tuple[Params, Paths]:
    """The shipped params.yaml with `changes`; labels 1, 0, -1 and none; networks; random predictions."""
    paths = Paths(root)
    tree = files.read_yaml(SHIPPED)
    del tree["experiments"]
    files.write_yaml(config.merge(config.merge(tree, MULTI_LABEL), changes or {}), paths.params)
    given = config.read(paths.params)
    rng = np.random.default_rng(seed)
    table = _write_images(paths, rng)
    for number, name in enumerate(given.experiments):
        files.write_yaml(given.experiment(name).model_dump() | {"pretrained_sha256": None}, paths.config(name))
        _write_run(given, paths, name, 7 + number)
        tables.write(_predictions(table, rng), paths.prediction(name, 0))
    files.write_json({"ranked_on": "valid", "top_two": list(given.experiments)[:2]}, paths.evaluation / "top_two.json")
    return given, paths


def _write_images(paths: Paths, rng: np.random.Generator) -> pd.DataFrame:
    names = [f"films/{split}{number}.png" for split in SPLITS for number in range(EACH)]
    labels = (rng.random((len(names), len(FINDINGS))) < SHARES).astype(float)
    labels[rng.random(labels.shape) < 0.1] = targets.UNCERTAIN
    labels[rng.random(labels.shape) < 0.1] = np.nan
    columns = targets.to_columns(labels, FINDINGS)
    table = pd.DataFrame({"id": names, "path": names, "patient": "", "source": "", "split": np.repeat(SPLITS, EACH)})
    table = pd.concat([table, columns], axis=1)
    for split in SPLITS:
        tables.write(table[table["split"] == split].drop(columns="split"), paths.split / f"{split}_data.csv")
    tables.write(table.assign(width=FILM, height=FILM), paths.index)
    tables.write(table[["id"]], paths.cache / "rows.csv")
    np.save(paths.cache / "images.npy", rng.integers(0, 256, (len(names), PIXELS, PIXELS), np.uint8))
    shortcuts = {name: {"auroc": 0.99 if name == "Mass" else None} for name in FINDINGS}
    model = {"auroc": 0.99, "images": len(names), "facts": ["format", "size"]}
    files.write_json({"shortcuts": {"model": model, "findings": shortcuts}}, paths.audit)
    return table


def _write_run(given: Params, paths: Paths, name: str, seed: int) -> None:
    folder = paths.model(name, 0)
    record = {
        **outputs.describe(TrainingRun.load(given, paths, name, 0)),
        "best_epoch": 1, "last_epoch": 1, "kept_epochs": [1], "hardware": {"precision": "float32"},
    }  # fmt: skip
    files.write_json(record, folder / "model.json")
    weights.save(TrainedModel(folder, record).untrained(seed), folder / "best.safetensors")


def _predictions(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Probabilities of validation and test images that are higher where a finding is."""
    scored = table[table["split"] != "train"][["split", "id", "label"]].reset_index(drop=True)
    labels = targets.values(table[table["split"] != "train"], FINDINGS)
    p = (rng.random(labels.shape) + (labels == 1)) / 2
    return scored.assign(checkpoint="best", **{f"p_{name}": p[:, number] for number, name in enumerate(FINDINGS)})
