"""Classify unlabelled images by trained runs, into a full table or a competition's submission.

With several findings per image a table has the probability of each, and whether it reaches the finding's threshold.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xraylab import tables, targets
from xraylab.data.layouts.listing import is_image, walk
from xraylab.errors import DataError
from xraylab.evaluate.confusion import Floats
from xraylab.evaluate.multi_label import samples
from xraylab.evaluate.multi_label.samples import DEFAULT_THRESHOLD
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.predict import checkpoints
from xraylab.predict.checkpoints import TrainedModel
from xraylab.task import is_multi


def run(
    cfg: Params, paths: Paths, names: list[str], path: Path, target: Path, submission: str | None, numbers: bool
) -> Iterator[str]:
    """Classify the image or the folder of images `path` by the mean probabilities of runs, and write a CSV.

    Each name is experiment/repeat, or an experiment with all its repeats. `submission` is the header of a table of two
    columns, file and class, instead of the whole one, or of files and the probabilities of findings; `numbers`: classes
    are written as their place in data.classes, from 0. Errors: DataError for a name, path or header that does not fit,
    or an image that cannot be read, MissingError for a run that was not trained.
    """
    runs = checkpoints.find_runs(paths, names)
    several = is_multi(runs[0].task)
    header: tuple[str, ...] | None = None
    if submission is not None:
        header = _columns(submission, runs[0].classes) if several else _header(submission)
    if several and numbers:
        raise DataError("--numbers writes one class per image, and these runs tell several findings: leave it out")
    raw, images = _images(path)
    per_run, notes = checkpoints.predict_files(runs, images, raw, cfg.predict.tta)
    p: Floats = np.mean(per_run, axis=0)
    if several:
        table, lines = _of_findings(paths, runs, images, p, header)
    else:
        table, lines = _of_classes(runs[0].classes, images, p, header, numbers)
    tables.write(table, target)
    yield f"{', '.join(run.name for run in runs)}: {len(images)} images"
    yield from lines
    yield from notes
    yield f"written to {target}"


def _of_classes(
    classes: list[str], images: pd.DataFrame, p: Floats, header: tuple[str, ...] | None, numbers: bool
) -> tuple[pd.DataFrame, list[str]]:
    """The table, and how many images were predicted as which class."""
    highest = p.argmax(axis=1)
    predicted = pd.Series(highest if numbers else [classes[number] for number in highest])
    lines = [f"{label:24} {(highest == number).sum():6}" for number, label in enumerate(classes)]
    if header is None:
        return _full_table(images, predicted, p, classes), lines
    return pd.DataFrame({header[0]: _short_names(images), header[1]: predicted}), lines


def _of_findings(
    paths: Paths, runs: Sequence[TrainedModel], images: pd.DataFrame, p: Floats, header: tuple[str, ...] | None
) -> tuple[pd.DataFrame, list[str]]:
    """The table, and in how many images each finding reaches which threshold."""
    findings = runs[0].classes
    thresholds, why = fit_thresholds(paths, runs)
    called = p >= thresholds
    lines = [
        f"{name:24} {count:6}  from {threshold:.4f} on"
        for name, count, threshold in zip(findings, called.sum(axis=0), thresholds, strict=True)
    ]
    lines.append(f"thresholds: {why}")
    if header is not None:
        columns = {name: p[:, findings.index(name)] for name in header[1:]}
        return pd.DataFrame({header[0]: _short_names(images), **columns}), lines
    predicted = pd.Series([targets.joined(row, findings) for row in called.astype(float)])
    decisions = {f"has_{name}": called[:, number].astype(int) for number, name in enumerate(findings)}
    return _full_table(images, predicted, p, findings).assign(**decisions), lines


def fit_thresholds(paths: Paths, runs: Sequence[TrainedModel]) -> tuple[Floats, str]:
    """The threshold of each finding for the mean probabilities of these runs, and where it comes from.

    It has the highest Youden index on the validation images that all of them have, so of one run it is its own.
    """
    findings = runs[0].classes
    valid = [_valid_predictions(paths, run) for run in runs]
    shared = sorted(set.intersection(*(set(table.index) for table in valid)))
    if not shared:
        return np.full(len(findings), DEFAULT_THRESHOLD), f"{DEFAULT_THRESHOLD}, since {_why_none(runs)}"
    mean: Floats = np.mean([table.loc[shared].to_numpy(float) for table in valid], axis=0)
    labels = targets.values(tables.read(paths.index).set_index("id").loc[shared], findings)
    known = np.where(targets.known(labels), labels, np.nan)
    return samples.fit_thresholds(known, mean), f"highest Youden index on {len(shared)} validation images"


def _valid_predictions(paths: Paths, run: TrainedModel) -> pd.DataFrame:
    """The probabilities of the run's best epoch for its validation images, by id; none where there is no table."""
    columns, path = (
        [f"p_{name}" for name in run.classes],
        paths.prediction(run.record["experiment"], run.record["repeat"]),
    )
    if not path.is_file():
        return pd.DataFrame(columns=columns)
    table = tables.read(path)
    return table[(table["checkpoint"] == "best") & (table["split"] == "valid")].set_index("id")[columns]


def _why_none(runs: Sequence[TrainedModel]) -> str:
    if len(runs) > 1:
        return "the runs have no validation images in common"
    return "there are no predictions of validation images"


def _images(path: Path) -> tuple[Path, pd.DataFrame]:
    """The folder, and its images as the columns id and path, in the natural order of their names."""
    if path.is_file() and is_image(path.name):
        folder, names = path.parent, [path.name]
    elif path.is_dir():
        folder, names = path, walk(path).images
    else:
        raise DataError(f"{path} is neither an image nor a folder of images")
    if not names:
        raise DataError(f"{path} holds no images")
    return folder, pd.DataFrame({"id": names, "path": names})


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


def _full_table(images: pd.DataFrame, predicted: pd.Series, p: Floats, classes: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {"id": images["id"], "predicted": predicted, **{f"p_{label}": p[:, n] for n, label in enumerate(classes)}}
    )


def _short_names(images: pd.DataFrame) -> list[str]:
    """Competitions know an image by its file's name without the suffix."""
    names = [Path(name).stem for name in images["id"]]
    if len(set(names)) < len(names):
        raise DataError("two images have one name, in different folders or with different suffixes: name one folder")
    return names
