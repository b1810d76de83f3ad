"""Model cards of finished runs, out of what their study's stages wrote."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from platform import python_version

import pandas as pd

from xraylab import files, plugins, tables
from xraylab.errors import DataError
from xraylab.evaluate.study import REPEAT
from xraylab.inference import bundle as bundles
from xraylab.inference import card as cards
from xraylab.inference.card import FORMAT, ModelCard
from xraylab.inference.thresholds import Thresholds
from xraylab.model.names import built_by
from xraylab.params import config
from xraylab.params.config import ExperimentConfig
from xraylab.paths import Paths
from xraylab.predict import checkpoints, classifiers, thresholds
from xraylab.predict.checkpoints import TrainedModel
from xraylab.registry import weights as registry
from xraylab.report import artefacts, provenance, records, study_facts
from xraylab.report.artefacts import SPLITS, Artefacts, Experiment
from xraylab.report.records import Estimate, Run, where

PACKAGES = ("opencv-python-headless", "pillow", "safetensors", "timm", "torch", "torchvision")
"""Those that make predictions, besides `provenance.PACKAGES`."""


def of_run(paths: Paths, name: str) -> ModelCard:
    """The card of experiment/repeat, by its best epoch.

    The stage `explain` need not have run: the card says so. Errors: MissingError where `evaluate` has not, DataError
    where its results are of another training.
    """
    run = checkpoints.find_run(paths, name)
    explained = (paths.explanation / "summary.json").is_file()
    summary = artefacts.explanation(paths) if explained else artefacts.NOT_EXPLAINED
    data = artefacts.read(config.read(paths.params), paths, built_by, lambda cfg, images: [], None, summary)
    experiment = _experiment(data, run)
    sentences, cfg = study_facts.card(data, experiment), experiment.cfg
    fixed = thresholds.read(paths.evaluation, run.record["experiment"], run.record["repeat"])
    return ModelCard(
        format=FORMAT,
        name=run.name,
        study=data.params.study.title,
        task=data.params.data.task,
        classes=tuple(run.classes),
        positive=run.record["positive"],
        network=_network(run),
        preprocessing=cards.Preprocessing(
            images=run.record["images"],
            mean=tuple(run.record["normalise"]["mean"]),
            std=tuple(run.record["normalise"]["std"]),
            description=study_facts.preprocessing(data.params),
        ),
        operating_points=tuple(_points(data, run, fixed)),
        temperature=fixed.temperature,
        temperatures=fixed.temperatures,
        data=_data(data, run, sentences["Data"]),
        training=tuple(sentences["Training"]),
        selection=_selection(data, run, cfg),
        starting_weights=_starting_weights(cfg, experiment.library),
        metrics=tuple(_metrics(data, run)),
        confidence=data.summary.confidence,
        statistics=study_facts.statistics(data.summary),
        intended_use=" ".join(sentences["Intended use"]),
        limits=tuple(sentences["Cautions"]),
        versions=_versions(),
    )


def bundle(paths: Paths, name: str, target: Path | None = None, hashes: bool = False) -> Iterator[str]:
    """Write a run's bundle to `target`, by default bundles/<experiment>-<repeat>.zip of the study, and describe it.

    `hashes` as for `write_bundle`.
    """
    if target is None:
        target = paths.bundles / bundles.file_name(checkpoints.find_run(paths, name).name)
    card = write_bundle(paths, name, target, hashes)
    shown = target.relative_to(paths.root) if target.is_relative_to(paths.root) else target
    yield f"{shown}: {card.name}, {target.stat().st_size / 1e6:.1f} MB, sha256 {files.sha256(target)}"
    if card.selection.on_test:
        yield "warning: its epoch was selected on the test images, so its metrics are too optimistic; card.json says so"
    if not card.operating_points:
        yield "it has no operating points: the study has no validation images (split.valid_pct is 0)"
    yield f'to use it: `xraylab predict-images {shown} FOLDER`, or xraylab.load("{shown}") in Python'


def write_bundle(paths: Paths, name: str, target: Path, hashes: bool = False) -> ModelCard:
    """Write a run's bundle, and return its card. Errors: as `of_run`.

    `hashes`: with the perceptual hashes of the training images, by which copies of them are recognised.
    """
    card, classifier = of_run(paths, name), classifiers.of_run(paths, name, reference=True)
    reference = classifier.reference if hashes or not classifier.reference else classifier.reference.without_hashes()
    bundles.write(target, replace(classifier, card=card, reference=reference))
    return card


def check(path: Path) -> Iterator[str]:
    """Check a bundle: its hashes, and that it reproduces its expected outputs here. Errors: as `bundles.load`."""
    card = bundles.load(path, check=True).card
    if card:
        yield f"{path}: {card.name} of “{card.study}” is whole, and reproduces its expected outputs here"


def _experiment(data: Artefacts, run: TrainedModel) -> Experiment:
    """The run's experiment. Errors: DataError where the study was evaluated with another training of it."""
    name, repeat = run.record["experiment"], run.record["repeat"]
    for experiment in data.experiments:
        if experiment.name == name and records.record(Run, run.record) in where(experiment.runs, repeat=repeat):
            return experiment
    raise DataError(f"reports/evaluation is not of this training of {run.name}: `dvc repro` evaluates it")


def _network(run: TrainedModel) -> cards.Network:
    record, plugin = run.record, plugins.of_kind("architecture").get(run.record["arch"])
    return cards.Network(
        arch=record["arch"],
        plugin=cards.Plugin(plugin.distribution, plugin.version) if plugin else None,
        channels=record["channels"],
        img_size=record["img_size"],
        head=cards.Head(**record["head"]),
        dropout=float(record["dropout"]),
        parameters=record["parameters"],
        multiply_adds=record["multiply_adds"],
        precision=record["hardware"]["precision"],
    )


def _estimate(row: Estimate | None) -> cards.Estimate:
    return cards.Estimate(row.value, row.ci_low, row.ci_high) if row else cards.Estimate(None, None, None)


def _points(data: Artefacts, run: TrainedModel, fixed: Thresholds) -> Iterator[cards.CardPoint]:
    """The points that `Classifier` knows, with their metrics on the test images."""
    of_run = where(data.operating_points, experiment=run.record["experiment"], repeat=run.record["repeat"])
    metrics = {(row.class_, row.point): row.metrics for row in of_run}
    for each in fixed.points:
        of_point = metrics[each.class_, each.point]
        sensitivity, specificity = (_estimate(of_point.get(name)) for name in ("sensitivity", "specificity"))
        yield cards.CardPoint(each.class_, each.point, each.threshold, sensitivity, specificity)


def _metrics(data: Artefacts, run: TrainedModel) -> Iterator[cards.Metric]:
    of_run = where(
        data.metrics,
        experiment=run.record["experiment"],
        kind=REPEAT,
        number=run.record["repeat"],
        checkpoint="best",
        split="test",
    )
    for row in of_run:
        yield cards.Metric(row.class_, row.metric, _estimate(row), None if row.n is None else int(row.n))


def _data(data: Artefacts, run: TrainedModel, sentences: list[str]) -> cards.Data:
    folder, index = data.paths.split_of(run.record["repeat"]), data.index.set_index("id")
    splits = {split: index.loc[tables.read(folder / f"{split}_data.csv")["id"]] for split in SPLITS}
    return cards.Data(
        source=_without_folders(data.params.data.source_text, data),
        sources=tuple(data.sources) if len(data.sources) > 1 else (),
        splits={split: _size(images) for split, images in splits.items()},
        training_sha256=_hash(splits["train"]),
        description=_without_folders(" ".join(sentences), data),
    )


def _without_folders(text: str, data: Artefacts) -> str:
    """Name local sources by their last part: a bundle is passed on, and folders above say who made it."""
    source = data.params.data.source
    for path in [source] if isinstance(source, str) else [each.path for each in source]:
        if Path(path).is_absolute() or path.startswith("~"):
            text = text.replace(path, Path(path).name)
    return text


def _size(images: pd.DataFrame) -> cards.SplitSize:
    """Patients are known where every image has one."""
    patients = images["patient"]
    known = bool(len(images)) and bool((patients != "").all())
    return cards.SplitSize(len(images), patients.nunique() if known else None)


def _hash(images: pd.DataFrame) -> str:
    """The same for the same files, whatever their names and order."""
    return hashlib.sha256("".join(f"{each}\n" for each in sorted(images["file_hash"])).encode()).hexdigest()


def _selection(data: Artefacts, run: TrainedModel, cfg: ExperimentConfig) -> cards.Selection:
    return cards.Selection(
        epoch=run.epoch(),
        monitor=run.record["monitor"],
        on_test=run.record["experiment"] in data.summary.chosen_on_test,
        description=provenance.selection(cfg.train),
    )


def _starting_weights(cfg: ExperimentConfig, library: str) -> cards.StartingWeights:
    entry = registry.find(cfg.model.pretrained)
    return cards.StartingWeights(
        pretrained=cfg.model.pretrained,
        description=provenance.start(cfg.model.pretrained, library),
        licence=entry.licence if entry else None,
        sha256=cfg.pretrained_sha256,
    )


def _versions() -> dict[str, str]:
    """Of the packages here, where the card is made."""
    names = sorted({*provenance.PACKAGES, *PACKAGES})
    return {"python": python_version()} | {name: metadata.version(name) for name in names}
