"""Predictions of images, and their rows in a table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from xraylab import targets
from xraylab.errors import DataError
from xraylab.evaluate.confusion import Floats
from xraylab.evaluate.multi_label.samples import DEFAULT_THRESHOLD
from xraylab.inference.thresholds import Bools
from xraylab.inference.warnings import ImageWarning
from xraylab.predict.decoding import Prepared
from xraylab.predict.ensemble import Ensemble


@dataclass(frozen=True)
class Predictions:
    """Of some images, each an entry of every list, or a row of every array."""

    images: Sequence[Prepared]
    p: Floats
    """(n, classes)."""
    calibrated: Floats | None
    has: dict[str, Bools]
    """Class or finding -> which images reach its threshold, for those that have one at the operating point."""
    called: Bools
    """(n, classes): the class of the highest probability, or each finding that reaches its threshold."""
    warnings: list[list[ImageWarning]] | None


@dataclass(frozen=True)
class Predictor:
    """An ensemble at one operating point."""

    ensemble: Ensemble
    point: str | None
    """None where no threshold was fixed."""

    @classmethod
    def at(cls, ensemble: Ensemble, text: str | None) -> "Predictor":
        """At the point that `text` names, or at Youden's where it is there. Errors: DataError as `Thresholds.find`."""
        names = ensemble.thresholds.names
        if text is None:
            return cls(ensemble, ensemble.thresholds.youden)
        if not names:
            raise DataError(f"--point {text!r}: there are no operating points, since {ensemble.fixed_on}")
        return cls(ensemble, ensemble.thresholds.find(text))

    def predict(self, images: Sequence[Prepared]) -> Predictions:
        """Predict a batch; an empty one has all columns and no row."""
        ensemble, size = self.ensemble, self.ensemble.first.size
        if not images:
            p = np.empty((0, len(ensemble.classes)))
            return self._of(images, p, None if ensemble.first.reference is None else [])
        pixels = np.stack([image.image for image in images]).reshape(-1, size, size)
        scores = ensemble.score(pixels)
        facts = [image.facts for image in images if image.facts is not None]
        reference = ensemble.first.reference
        warnings = None if reference is None else reference.check(pixels, scores.features, facts)
        return self._of(images, scores.p, warnings)

    @property
    def limits(self) -> Floats:
        """The threshold of each finding: at the operating point, or a half."""
        named = self.ensemble.thresholds.named(self.point) if self.point else {}
        return np.array([named.get(name, DEFAULT_THRESHOLD) for name in self.ensemble.classes])

    def _of(self, images: Sequence[Prepared], p: Floats, warnings: list[list[ImageWarning]] | None) -> Predictions:
        ensemble = self.ensemble
        has = ensemble.reaches(p, self.point) if self.point else {}
        called = p >= self.limits if ensemble.multi_label else np.arange(p.shape[1]) == p.argmax(axis=1)[:, None]
        return Predictions(images, p, ensemble.calibrate(p), has, called, warnings)


def full_table(predictions: Predictions, classes: list[str], multi_label: bool, numbers: bool) -> pd.DataFrame:
    """One row per image; `numbers`: the predicted class as its number."""
    each = predictions
    columns = {
        "id": pd.Series([image.id for image in each.images], dtype=object),
        "predicted": _predicted(each, classes, multi_label, numbers),
        **{f"p_{name}": each.p[:, number] for number, name in enumerate(classes)},
    }
    if each.calibrated is not None:
        columns |= {f"calibrated_{name}": each.calibrated[:, number] for number, name in enumerate(classes)}
    columns |= {f"has_{name}": reached.astype(np.int64) for name, reached in each.has.items()}
    if each.warnings is not None:
        codes = ["; ".join(warning.code for warning in warnings) for warnings in each.warnings]
        columns["warnings"] = pd.Series(codes, dtype=object)
    uids = [image.sop_instance_uid for image in each.images]
    return pd.DataFrame(columns | {"sop_instance_uid": pd.Series(uids, dtype=object)})


def _predicted(predictions: Predictions, classes: list[str], multi_label: bool, numbers: bool) -> pd.Series:
    if multi_label:
        joined = [targets.joined(row, classes) for row in predictions.called.astype(float)]
        return pd.Series(joined, dtype=object)
    highest = predictions.p.argmax(axis=1)
    return pd.Series(highest) if numbers else pd.Series([classes[number] for number in highest], dtype=object)


@dataclass(frozen=True)
class Submission:
    """A competition's table: the files' names without suffix, and the class, or the probabilities of findings."""

    header: tuple[str, ...]
    classes: list[str]
    multi_label: bool
    numbers: bool
    names: set[str] = field(default_factory=set)
    """Of the rows so far."""

    @classmethod
    def parse(cls, text: str, classes: list[str], multi_label: bool, numbers: bool) -> "Submission":
        """From the header as it is written on the command line. Errors: DataError."""
        header = _columns(text, classes) if multi_label else _header(text)
        return cls(header, classes, multi_label, numbers)

    def table(self, predictions: Predictions) -> pd.DataFrame:
        """The rows of these images. Errors: DataError where two images have one name."""
        names = pd.Series([Path(image.id).stem for image in predictions.images], dtype=object)
        if len(self.names | set(names)) < len(self.names) + len(names):
            raise DataError(
                "two images have one name, in different folders or with different suffixes: name one folder"
            )
        self.names.update(names)
        if not self.multi_label:
            predicted = _predicted(predictions, self.classes, False, self.numbers)
            return pd.DataFrame({self.header[0]: names, self.header[1]: predicted})
        columns = {name: predictions.p[:, self.classes.index(name)] for name in self.header[1:]}
        return pd.DataFrame({self.header[0]: names, **columns})


def _header(text: str) -> tuple[str, str]:
    """Two names of columns."""
    first, comma, second = (part.strip() for part in text.partition(","))
    if not (first and comma and second) or "," in second or first == second:
        raise DataError(f"--submission {text!r}: write the names of its two columns, such as Id,Label")
    return first, second


def _columns(text: str, findings: list[str]) -> tuple[str, ...]:
    """The name of the column of files, and findings."""
    parts = tuple(part.strip() for part in text.split(","))
    unknown = [name for name in parts[1:] if name not in findings]
    if len(parts) < 2 or not parts[0] or unknown or len(set(parts)) < len(parts):
        raise DataError(
            f"--submission {text!r}: write the name of the column of files and then findings, whose probabilities are "
            f"written: {','.join(['Id', *findings])}"
        )
    return parts
