"""One classifier, or several that predict together by the mean of their probabilities."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from xraylab import tables, targets
from xraylab.data.augment import Augmentation, Gray, SampledAugmentation
from xraylab.data.image_cache import ImageCache, Normalise
from xraylab.errors import DataError
from xraylab.evaluate.calibration import fit_temperature
from xraylab.evaluate.confusion import Floats
from xraylab.evaluate.metrics import has_both
from xraylab.evaluate.operating_points import all_rules, threshold_curve
from xraylab.inference import bundle
from xraylab.inference import thresholds as operating
from xraylab.inference.classifier import Classifier, Scores
from xraylab.inference.thresholds import Bools, OperatingPoint, Thresholds
from xraylab.model import scoring
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.predict import checkpoints, classifiers

Study = tuple[Params, Paths]


@dataclass(frozen=True)
class Ensemble:
    """Classifiers of the same classes, of images prepared in the same way; made by `load`."""

    classifiers: Sequence[Classifier]
    thresholds: Thresholds
    """Of the mean probabilities; of a single classifier its own."""
    fixed_on: str
    """Where the thresholds come from, or why there are none, in words."""
    tta: Sequence[int]
    """How many augmented copies of an image join it, for each classifier."""

    @property
    def first(self) -> Classifier:
        """The one whose preparation and reference all share."""
        return self.classifiers[0]

    @property
    def classes(self) -> list[str]:
        return self.first.classes

    @property
    def multi_label(self) -> bool:
        return self.first.multi_label

    @property
    def name(self) -> str:
        return ", ".join(each.name for each in self.classifiers)

    def score(self, images: Gray) -> Scores:
        """The mean probabilities of prepared images (n, size, size), and the features of the first network."""
        first, *rest = [each.score(images) for each in self.classifiers]
        each = [
            np.mean([scores.p, *_augmented(classifier, images, tta)], axis=0)
            for classifier, scores, tta in zip(self.classifiers, [first, *rest], self.tta, strict=True)
        ]
        return Scores(np.mean(each, axis=0), first.features)

    def calibrate(self, p: Floats) -> Floats | None:
        """As `Classifier.calibrate`, of the mean probabilities."""
        return operating.calibrate(p, self.classes, self.thresholds, self.multi_label)

    def reaches(self, p: Floats, point: str) -> dict[str, Bools]:
        """As `Classifier.reaches`, of the mean probabilities."""
        limits = self.thresholds.named(point)
        return {name: p[:, self.classes.index(name)] >= limit for name, limit in limits.items()}


def load(sources: Sequence[str], study: Study | None, warn: bool) -> Ensemble:
    """The classifiers that `sources` name: runs of the study (an experiment is all its repeats) and paths of bundles.

    `warn`: the first has the statistics that warnings need, where they are at hand. Errors: DataError where they know
    other classes, or were trained on images prepared in other ways, or for a name that is none; MissingError for a run
    that was not trained.
    """
    runs = checkpoints.find_runs(study[1], _runs(sources)) if study is not None and _runs(sources) else []
    bundles = [name for name in dict.fromkeys(sources) if is_bundle(name)]
    members = [classifiers.find(name) for name in bundles]
    if study is not None:
        members = [
            classifiers.of_run(study[1], run.name, reference=warn and not n) for n, run in enumerate(runs)
        ] + members
    _refuse_different(members)
    tta = study[0].predict.tta if study is not None else 0
    thresholds, fixed_on = members[0].thresholds, ""
    if len(members) > 1 or not thresholds.points:
        thresholds, fixed_on = _fit(study, [run.name for run in runs], members)
    return Ensemble(members, thresholds, fixed_on, [tta] * len(runs) + [0] * len(bundles))


def is_bundle(source: str) -> bool:
    """Return whether a name is that of a bundle, and not of a run."""
    return source.endswith(bundle.SUFFIX)


def _runs(sources: Sequence[str]) -> list[str]:
    return [name for name in sources if not is_bundle(name)]


def _refuse_different(members: Sequence[Classifier]) -> None:
    first, *rest = members
    for other in rest:
        if (other.multi_label, other.classes) != (first.multi_label, first.classes):
            raise DataError(f"{first.name} and {other.name} know other classes: `dvc repro` trains them anew")
        if other.record["images"] != first.record["images"]:
            raise DataError(
                f"{first.name} and {other.name} were trained on images prepared in other ways: `dvc repro` trains "
                "them anew"
            )


def _augmented(classifier: Classifier, images: Gray, tta: int) -> Iterator[Floats]:
    """Probabilities of augmented copies; each image is augmented alike, whatever is predicted beside it."""
    augmentation = Augmentation.recorded(classifier.record["augment"]).for_tta() if tta else None
    if augmentation is None or not augmentation.changes:
        return
    record, n_classes = classifier.record, len(classifier.classes)
    cache = ImageCache(images, Normalise.recorded(record["normalise"]), record["img_size"], classifier.hardware.device)
    for sampled in augmentation.draw_copies(tta, 1, record["repeat"]):
        make = partial(_view, cache, sampled.of(np.zeros(len(images), np.int64)), augmentation)
        (raw,), _ = scoring.outputs([classifier.forward], make, len(images), classifier.hardware, "scoring images")
        yield scoring.activation(classifier.multi_label)(raw[:, :n_classes]).cpu().numpy().astype(np.float64)


def _view(cache: ImageCache, sampled: SampledAugmentation, augmentation: Augmentation, start: int, stop: int) -> Tensor:
    rows = np.arange(start, stop)
    return cache.augment(rows, sampled.of(rows), augmentation)


def _fit(study: Study | None, names: Sequence[str], members: Sequence[Classifier]) -> tuple[Thresholds, str]:
    """Operating points and temperatures of the mean probabilities on the validation images that all runs share."""
    if study is None or len(names) < len(members):
        several = "several classifiers, of which one is a bundle, have no validation images"
        return Thresholds(), several if len(members) > 1 else "the bundle has no thresholds"
    cfg, paths = study
    classes, multi_label = members[0].classes, members[0].multi_label
    valid = [_valid_predictions(paths, name, classes) for name in names]
    shared = sorted(set.intersection(*(set(table.index) for table in valid)))
    if not shared:
        several = "the runs have no validation images in common"
        return Thresholds(), several if len(names) > 1 else "there are no predictions of validation images"
    p: Floats = np.mean([table.loc[shared, _columns(classes)].to_numpy(float) for table in valid], axis=0)
    labels = _labels(paths, shared, classes, multi_label)
    why = f"fitted on {len(shared)} validation images"
    return (_of_findings if multi_label else _of_classes)(cfg, classes, labels, p), why


def _columns(classes: Sequence[str]) -> list[str]:
    return [f"p_{name}" for name in classes]


def _valid_predictions(paths: Paths, name: str, classes: Sequence[str]) -> pd.DataFrame:
    """The probabilities of the run's best epoch for its validation images, by id; none where there is no table."""
    experiment, repeat = name.split("/")
    path = paths.prediction(experiment, int(repeat))
    if not path.is_file():
        return pd.DataFrame(columns=_columns(classes))
    table = tables.read(path)
    return table[(table["checkpoint"] == "best") & (table["split"] == "valid")].set_index("id")


def _labels(paths: Paths, ids: list[str], classes: list[str], multi_label: bool) -> Floats:
    """1, 0, or NaN where nobody knows: (images, classes)."""
    index = tables.read(paths.index).set_index("id").loc[ids]
    if not multi_label:
        return np.column_stack([index["label"] == name for name in classes]).astype(float)
    labels = targets.values(index, classes)
    return np.where(targets.known(labels), labels, np.nan)


def _of_findings(cfg: Params, findings: list[str], labels: Floats, p: Floats) -> Thresholds:
    points, temperatures = list[OperatingPoint](), dict[str, float]()
    for number, name in enumerate(findings):
        known = ~np.isnan(labels[:, number])
        positive, of_finding = labels[known, number] == 1, p[known, number]
        points += _points(cfg, name, positive, of_finding)
        if has_both(positive):
            both = np.column_stack([1 - of_finding, of_finding])
            temperatures[name] = fit_temperature(positive.astype(np.int64), both)
    return Thresholds(points, None, temperatures)


def _of_classes(cfg: Params, classes: list[str], labels: Floats, p: Floats) -> Thresholds:
    positive = cfg.data.positive
    reported = classes if positive is None else [positive]
    points = [
        point
        for name in reported
        for point in _points(cfg, name, labels[:, classes.index(name)] == 1, p[:, classes.index(name)])
    ]
    return Thresholds(points, fit_temperature(labels.argmax(axis=1), p))


def _points(cfg: Params, name: str, positive: Bools, p: Floats) -> list[OperatingPoint]:
    """The operating points of one class, as the stage `evaluate` names them."""
    curve, rules = threshold_curve(positive, p), all_rules(cfg.evaluate.sensitivities, cfg.evaluate.specificities)
    limits: dict[str, Any] = {"0.5": 0.5}
    if curve is not None:
        limits |= {point: rule(curve) for point, rule in rules.items()}
    return [OperatingPoint(name, point, limit) for point, limit in limits.items() if limit is not None]
