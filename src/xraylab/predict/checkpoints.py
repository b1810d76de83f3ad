"""Finished runs: load them by name, rebuild their networks after any saved epoch, and predict with them."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from xraylab import files, leftovers, tables, targets
from xraylab.data import cache
from xraylab.data.augment import Augmentation
from xraylab.data.cache import Decoding
from xraylab.data.names import some
from xraylab.data.prepare import Preparation
from xraylab.errors import DataError, MissingError, WeightsError
from xraylab.evaluate import confusion, macro
from xraylab.evaluate.confusion import Floats
from xraylab.model import weights
from xraylab.model.create import create_recorded_model
from xraylab.params.images import Images
from xraylab.paths import Paths, parse_run
from xraylab.predict import inference
from xraylab.task import is_multi

CHECKPOINTS = ("best", "last")
RECORD_KEYS: dict[str, type | UnionType] = {
    "experiment": str, "repeat": int, "arch": str, "channels": int, "img_size": int, "head": dict,
    "dropout": int | float, "normalise": dict, "multiply_adds": int, "task": str, "classes": list,
    "positive": str | None, "images": dict, "augment": dict, "best_epoch": int, "last_epoch": int, "kept_epochs": list,
    "hardware": dict,
}  # fmt: skip
"""The keys of model.json that predictions need, and the types of their values."""


@dataclass(frozen=True)
class TrainedModel:
    """A run below models/; `record` is its model.json."""

    folder: Path
    record: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.record['experiment']}/{self.record['repeat']}"

    @property
    def classes(self) -> list[str]:
        """The classes, or the findings of a multi-label study."""
        return list(self.record["classes"])

    @property
    def task(self) -> str:
        return str(self.record["task"])

    def epoch(self, checkpoint: str = "best") -> int:
        """The epoch of `best` or `last`."""
        return int(self.record[f"{checkpoint}_epoch"])

    def network(self, epoch: int) -> nn.Module:
        """The network with that epoch's weights. Errors: WeightsError naming the epochs that were kept."""
        network = create_recorded_model(self.record)
        weights.restore(network, self.folder / self._file(epoch))
        return network

    def untrained(self, seed: int) -> nn.Module:
        """A network of the same architecture with random weights, for comparison."""
        torch.manual_seed(seed)
        return create_recorded_model(self.record)

    def predict_cached(
        self, epochs: Sequence[int], images: pd.DataFrame, image_cache: Path, tta: int
    ) -> tuple[list[pd.DataFrame], list[str]]:
        """Class probabilities by each epoch's network of images in the cache: see `inference.predict_proba`."""
        networks = [self.network(epoch) for epoch in epochs]
        return inference.predict_proba(networks, self.record, images, image_cache, tta)

    def predict(self, path: Path | str, tta: int = 0) -> dict[str, float]:
        """The best epoch's probability of each class or finding for one image file.

        Errors: DataError where it cannot be read.
        """
        raw, images = Path(path).parent, pd.DataFrame({"id": [Path(path).name], "path": [Path(path).name]})
        ((p,),), _ = predict_files([self], images, raw, tta)
        return dict(zip(self.classes, p.tolist(), strict=True))

    def _file(self, epoch: int) -> str:
        record = self.record
        for checkpoint in CHECKPOINTS:
            if epoch == self.epoch(checkpoint):
                return f"{checkpoint}.safetensors"
        if epoch in record["kept_epochs"]:
            return f"epoch-{epoch:03d}.safetensors"
        raise WeightsError(
            f"epoch {epoch} of {record['experiment']}-{record['repeat']} was not kept; "
            f"kept are {', '.join(map(str, record['kept_epochs']))}. To keep every epoch, set train.checkpoints to all"
        )


def load_run(paths: Paths, experiment: str, repeat: int = 0) -> TrainedModel:
    """Load a finished run.

    Errors: MissingError with the nearest name where it is not trained, DataError where an earlier version trained it.
    """
    folder = paths.model(experiment, repeat)
    if not (folder / "model.json").is_file():
        trained = sorted(f"{path.parts[-3]}/{path.parts[-2]}" for path in paths.models.glob("*/*/model.json"))
        near = difflib.get_close_matches(f"{experiment}/{repeat}", trained, n=1)
        hint = f"; did you mean {near[0]}? Trained: {some(trained)}" if near else f"; trained: {some(trained)}"
        raise MissingError(
            f"{experiment}/{repeat} is not trained{hint if trained else ''}. "
            "`dvc repro` trains what params.yaml names under experiments and study.repeats"
        )
    return TrainedModel(folder, _read_record(folder / "model.json"))


def _read_record(path: Path) -> dict[str, Any]:
    """model.json. Errors: DataError where an earlier version of xraylab wrote it, or a user has edited it."""
    record: dict[str, Any] = files.read_json(path)
    expected: dict[str, Iterable[str]] = {
        "": RECORD_KEYS,
        "images": Images.model_fields,
        "augment": [field.name for field in fields(Augmentation)],
    }
    for section, keys in expected.items():
        present = record[section] if section else record
        if missing := [f"{section}.{key}".removeprefix(".") for key in keys if key not in present]:
            raise DataError(
                f"{path} was written by an earlier version of xraylab (it has no {missing[0]}): `dvc repro` trains the "
                "run again"
            )
        if not section:
            _refuse_other_types(record, path)
    return record


def _refuse_other_types(record: dict[str, Any], path: Path) -> None:
    """Errors: DataError where a value is none that training writes."""
    for key, kind in RECORD_KEYS.items():
        if not isinstance(record[key], kind):
            raise DataError(
                f"{path} was edited by hand ({key} is {record[key]!r}): `dvc checkout --force {path}` brings it back"
            )


def find_run(paths: Paths, name: str) -> TrainedModel:
    """The run called experiment/repeat; experiment alone is its repeat 0. Errors: DataError, MissingError."""
    experiment, repeat = parse_run(name)
    return load_run(paths, experiment, repeat or 0)


def find_runs(paths: Paths, names: Sequence[str]) -> list[TrainedModel]:
    """The runs called experiment/repeat, and all repeats of each experiment named alone, each of them once.

    Errors: DataError where a name is none, or where two runs know other classes; MissingError for one not trained.
    """
    runs: dict[Path, TrainedModel] = {}
    for experiment, repeat in map(parse_run, names):
        folders = (paths.models / experiment).glob("*") if repeat is None else ()
        repeats = sorted(int(folder.name) for folder in folders if folder.name.isdecimal())
        for number in repeats or [repeat or 0]:
            run = load_run(paths, experiment, number)
            runs.setdefault(run.folder, run)
    first, *rest = runs.values()
    for run in rest:
        if (run.task, run.classes) != (first.task, first.classes):
            raise DataError(f"{first.name} and {run.name} know other classes: `dvc repro` trains them anew")
    return [first, *rest]


def predict_files(
    runs: Sequence[TrainedModel], images: pd.DataFrame, raw: Path, tta: int
) -> tuple[list[Floats], list[str]]:
    """Predict images (columns id and path below `raw`): per run, probabilities (n, classes) by its best epoch; and how.

    Each image is decoded once, and prepared as the training images were. Errors: DataError where the runs differ in
    that, or with the path of an unreadable image.
    """
    settings = _common_preparation(runs)
    probabilities, notes = [], []
    with leftovers.temporary_folder() as image_cache:
        prepared = Preparation.recorded(settings)
        cache.write(image_cache, Decoding(raw, images, settings["size"], settings["resize_method"], prepared))
        for run in runs:
            (table,), how = run.predict_cached([run.epoch()], images[["id"]], image_cache, tta)
            probabilities.append(table[[f"p_{label}" for label in run.classes]].to_numpy(float))
            notes.append("; ".join([*inference.first_lines(run.record), *how]))
    return probabilities, notes


def evaluate_checkpoint(
    paths: Paths, experiment: str, repeat: int, epoch: int | None, split: str, tta: int = 0
) -> dict[str, Any]:
    """Metrics of one kept epoch (None: the best) on one split.

    They are accuracy, precision, recall, F1 and confusion; of several findings macro AUROC, AUPRC and F1 and accuracy,
    and those of each finding. `tta` augmented copies join each image, as in `predict`. Errors: MissingError where the
    experiment was not trained, WeightsError where the epoch was not kept, DataError where the split is empty or of
    other classes.
    """
    run = load_run(paths, experiment, repeat)
    epoch, multi_label = run.epoch() if epoch is None else epoch, is_multi(run.task)
    images = tables.read(paths.split_of(repeat) / f"{split}_data.csv")
    _refuse_other_data(images, run, split)
    (table,), notes = run.predict_cached([epoch], images, paths.cache, tta)
    return {
        "epoch": epoch,
        "images": len(images),
        **(_of_findings(table, run) if multi_label else _of_classes(table, run)),
        "computed": "; ".join([*inference.first_lines(run.record), *notes]),
    }


def _of_findings(table: pd.DataFrame, run: TrainedModel) -> dict[str, Any]:
    labels, p = targets.values(table, run.classes), table[[f"p_{name}" for name in run.classes]].to_numpy(float)
    known = np.where(targets.known(labels), labels, np.nan)
    each = {name: macro.scores(known[:, [n]], p[:, [n]]) for n, name in enumerate(run.classes)}
    return {**macro.scores(known, p), "findings": each}


def _of_classes(table: pd.DataFrame, run: TrainedModel) -> dict[str, Any]:
    classes = run.classes
    actual = np.array([classes.index(label) for label in table["label"]], np.int64)
    predicted = table[[f"p_{label}" for label in classes]].to_numpy().argmax(axis=1)
    matrix = confusion.confusion_matrix(actual, predicted, len(classes))
    positive = classes.index(run.record["positive"]) if run.record["positive"] else None
    return {
        "accuracy": confusion.accuracy(matrix),
        "precision": confusion.precision(matrix, positive),
        "recall": confusion.recall(matrix, positive),
        "f1": confusion.f1(matrix, positive),
        "confusion": matrix.tolist(),
    }


def _common_preparation(runs: Sequence[TrainedModel]) -> dict[str, Any]:
    """The section `images` that these runs were trained with. Errors: DataError where they differ."""
    for run in runs:
        if run.record["images"] != runs[0].record["images"]:
            raise DataError(
                f"{runs[0].name} and {run.name} were trained on images prepared in other ways: `dvc repro` trains "
                "them anew"
            )
    return dict(runs[0].record["images"])


def _refuse_other_data(images: pd.DataFrame, run: TrainedModel, split: str) -> None:
    if images.empty:
        raise DataError(f"the {split} split has no images (split.valid_pct is 0): score the other split")
    classes, findings = run.classes, [name.removeprefix(targets.PREFIX) for name in targets.of_table(images)]
    if is_multi(run.task):
        names, other = findings or ["one label per image"], set(findings) != set(classes)
    else:
        names = findings or sorted(set(images["label"]) - set(classes))
        other = bool(names)
    if other:
        raise DataError(
            f"the experiment was trained on {', '.join(classes)}, the data now hold {', '.join(names)}: "
            "`dvc repro` trains it anew"
        )
