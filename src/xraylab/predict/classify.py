"""Classify images without labels, however many, into a table, overlays and DICOM reports."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from xraylab import files, progress, tables
from xraylab.data.image_cache import SCORING_BATCH
from xraylab.errors import DataError
from xraylab.evaluate.multi_label.samples import DEFAULT_THRESHOLD
from xraylab.explain import overlays
from xraylab.inference.warnings import CODES
from xraylab.predict import decoding, ensemble, image_files, predictions, writers
from xraylab.predict.decoding import Prepared, Result, Unreadable
from xraylab.predict.ensemble import Ensemble, Study
from xraylab.predict.image_files import ImageFile, Input
from xraylab.predict.predictions import Predictions, Predictor, Submission

Table = Callable[[Predictions], pd.DataFrame]
Extra = Callable[[int, Predictions], None]
"""Writes further files of a batch, from the number of rows before it."""


@dataclass(frozen=True)
class Output:
    """The files to write, and where."""

    table: str
    """A path, or `-` for the standard output."""
    point: str | None = None
    """The operating point, as `Thresholds.find` knows it; None: Youden's."""
    submission: str | None = None
    """The header of a table of two columns, file and class, or of files and the probabilities of findings."""
    numbers: bool = False
    """Classes are written as their place in data.classes, from 0."""
    overlays: Path | None = None
    """A folder to create for a picture of each image with its Grad-CAM."""
    dicom_sr: Path | None = None
    """A folder to create for a DICOM structured report of each DICOM image."""


@dataclass(frozen=True)
class Summary:
    """The outcome, for people."""

    lines: list[str]
    n_skipped: int
    """Files that could not be read."""


def run(study: Study | None, names: Sequence[str], paths: Sequence[str], output: Output) -> Summary:
    """Predict the images that `paths` name by the mean probabilities of classifiers, and write what `output` asks for.

    `names`: runs of the study, or bundles. A file that cannot be read is told on the standard error, and left out.
    Errors: DataError for a name, path or option that does not fit, before anything is written; MissingError for a run
    that was not trained.
    """
    writers.check(output.table)
    inputs = image_files.find(paths)
    return stream(ensemble.load(names, study, warn=output.submission is None), inputs, output)


def stream(members: Ensemble, inputs: Sequence[Input], output: Output) -> Summary:
    """`run` with classifiers that are loaded: images are decoded while the network computes, and rows are appended."""
    predictor = Predictor.at(members, output.point)
    table, counts = _table(members, output), _Counts()
    with ExitStack() as stack:
        extras = list(_extras(predictor, output, stack))
        write = stack.enter_context(writers.open_table(output.table))
        write(table(predictor.predict([])))
        for batch in _batches(_decoded(inputs, predictor, output), counts):
            of_batch = predictor.predict(batch)
            write(table(of_batch))
            for extra in extras:
                extra(counts.images, of_batch)
            counts.add(of_batch, members.classes)
    return Summary(list(_lines(predictor, output, counts)), counts.skipped)


@dataclass
class _Counts:
    images: int = 0
    skipped: int = 0
    called: Counter[str] = field(default_factory=Counter)
    """Images of each class, or with each finding."""
    warnings: Counter[str] = field(default_factory=Counter)

    def add(self, batch: Predictions, classes: list[str]) -> None:
        self.images += len(batch.images)
        self.called.update(dict(zip(classes, batch.called.sum(axis=0).tolist(), strict=True)))
        self.warnings.update(warning.code for warnings in batch.warnings or [] for warning in warnings)


def _table(members: Ensemble, output: Output) -> Table:
    """The function that makes the rows. Errors: DataError for options that do not fit the classifiers."""
    classes, multi_label, numbers = members.classes, members.multi_label, output.numbers
    submission = None
    if output.submission is not None:
        submission = Submission.parse(output.submission, classes, multi_label, numbers)
    if multi_label and numbers:
        raise DataError("--numbers writes one class per image, and these runs tell several findings: leave it out")
    if submission is not None:
        return submission.table
    return partial(predictions.full_table, classes=classes, multi_label=multi_label, numbers=numbers)


def _extras(predictor: Predictor, output: Output, stack: ExitStack) -> Iterator[Extra]:
    """Writers of overlays and reports, whose folders are there when all is written, and not before."""
    if output.overlays is not None:
        folder = stack.enter_context(_new_folder(output.overlays, "--explain"))
        yield partial(_write_overlays, predictor.ensemble, folder)
    if output.dicom_sr is not None:
        from xraylab.predict import dicom_sr  # noqa: PLC0415 - an extra

        folder = stack.enter_context(_new_folder(output.dicom_sr, "--dicom-sr"))
        yield partial(dicom_sr.Reporter(predictor).write, folder)


def _new_folder(path: Path, option: str) -> AbstractContextManager[Path]:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{option} {path} is there already: name a new folder")
    return files.replacing_folder(path)


def _write_overlays(members: Ensemble, folder: Path, before: int, batch: Predictions) -> None:
    """A PNG of each image: the evidence that the first network has for the class that is the most probable."""
    labels = [members.classes[number] for number in batch.p.argmax(axis=1)]
    images = np.stack([each.image for each in batch.images])
    maps = overlays.heatmaps(members.first, images, labels)
    for number, (each, heatmap) in enumerate(zip(batch.images, maps, strict=True), before + 1):
        (folder / f"{writers.file_name(number, each.id)}.png").write_bytes(overlays.blend(each.image, heatmap))


def _decoded(inputs: Sequence[Input], predictor: Predictor, output: Output) -> Iterable[Result]:
    """Everything that can be decoded, and what cannot, under a bar."""
    first = predictor.ensemble.first
    work = partial(decoding.prepare, classifier=first, with_header=output.dicom_sr is not None)
    every = image_files.read_all(inputs)
    each = map(_refuse_formula, every) if writers.is_csv(output.table) else every
    sizes = [part.n_files for part in inputs]
    total = None if None in sizes else sum(size for size in sizes if size is not None)
    return progress.bar(decoding.in_threads(work, each), total, "predicting images")


def _refuse_formula(file: ImageFile) -> ImageFile:
    """A file that is not read, if a spreadsheet would run its name as a formula."""

    def fail() -> BinaryIO:
        raise ValueError(f"begins with {file.id[0]}, as formulas of spreadsheets do: rename it, or write .jsonl")

    return replace(file, open=fail) if file.id.startswith(tables.FORMULA_STARTS) else file


def _batches(results: Iterable[Result], counts: _Counts) -> Iterator[list[Prepared]]:
    """The images that could be read, 64 at a time; the others are told at once."""
    batch: list[Prepared] = []
    for each in results:
        if isinstance(each, Unreadable):
            counts.skipped += 1
            progress.say(f"{each.id}: {each.reason}")
            continue
        batch.append(each)
        if len(batch) == SCORING_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _lines(predictor: Predictor, output: Output, counts: _Counts) -> Iterator[str]:
    members = predictor.ensemble
    yield f"{members.name}: {counts.images} images"
    for name, limit in zip(members.classes, predictor.limits, strict=True):
        yield f"{name:24} {counts.called[name]:6}" + (f"  from {limit:.4f} on" if members.multi_label else "")
    yield f"thresholds: {_origin(predictor)}"
    if members.first.reference is not None:
        counted = [f"{code} {n}" for code in CODES if (n := counts.warnings[code])]
        yield f"warnings: {', '.join(counted) or 'none'}"
    elif output.submission is None:
        yield f"warnings: not looked for, since the training images of {members.first.name} are not at hand"
    for each in members.classifiers:
        yield "; ".join([f"{each.name}: {each.hardware}", *each.notes])
    if counts.skipped:
        yield f"{counts.skipped} files could not be read and are left out"
    if output.table != writers.STDOUT:
        yield f"written to {output.table}"


def _origin(predictor: Predictor) -> str:
    """Where the thresholds come from, or why there are none."""
    members, why = predictor.ensemble, predictor.ensemble.fixed_on
    if predictor.point is not None:
        return f"{predictor.point}{f', {why}' if why else ''}"
    left_out = "no column has_<class>"
    fallback = f"{DEFAULT_THRESHOLD} for what is predicted, and {left_out}" if members.multi_label else left_out
    return f"{fallback}, since {why or 'no validation images fixed any'}"
