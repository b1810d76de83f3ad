"""The models that are served, what they answer for an image, and the one place where networks compute."""

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from xraylab import targets
from xraylab.data.pixels import Gray
from xraylab.errors import XraylabError, speaking_of
from xraylab.evaluate.multi_label.samples import DEFAULT_THRESHOLD
from xraylab.inference import card
from xraylab.inference.classifier import Classifier
from xraylab.inference.thresholds import Floats
from xraylab.inference.warnings import ImageFacts, ImageWarning
from xraylab.paths import Paths
from xraylab.predict import cards, classifiers


@dataclass(frozen=True)
class ServedModel:
    """A classifier, the name that answers give it, and its operating point unless a request names another."""

    name: str
    classifier: Classifier
    point: str | None
    """None without validation images."""

    def answer(self, p: Floats, warnings: Sequence[ImageWarning], point: str | None) -> dict[str, Any]:
        """One image's `predicted`, `p_<class>`, `calibrated_<class>`, `has_<class>` and warnings; `p` is (classes,)."""
        classes, calibrated, reached = self.classifier.classes, self.classifier.calibrate(p[None]), {}
        if point is not None:
            reached = {name: bool(row[0]) for name, row in self.classifier.reaches(p[None], point).items()}
        result: dict[str, Any] = {"model": self.name, "predicted": self._predicted(p, reached), "point": point}
        result |= {f"p_{name}": float(each) for name, each in zip(classes, p, strict=True)}
        if calibrated is not None:
            result |= {f"calibrated_{name}": float(each) for name, each in zip(classes, calibrated[0], strict=True)}
        result |= {f"has_{name}": int(each) for name, each in reached.items()}
        return result | {"warnings": [asdict(each) for each in warnings]}

    def _predicted(self, p: Floats, reached: dict[str, bool]) -> str:
        """The class of the highest probability, or the findings that reach their threshold."""
        classes = self.classifier.classes
        if not self.classifier.multi_label:
            return classes[int(p.argmax())]
        default = zip(classes, p >= DEFAULT_THRESHOLD, strict=True)
        present = {name: reached.get(name, bool(each)) for name, each in default}
        return targets.joined(np.array([present[name] for name in classes], float), classes)

    def describe(self) -> dict[str, Any]:
        """Its part of the answer to GET /model."""
        classifier = self.classifier
        points = classifier.thresholds.points
        return {
            "name": self.name,
            "task": classifier.record["task"],
            "classes": classifier.classes,
            "point": self.point,
            "operating_points": [
                {"class": each.class_, "point": each.point, "threshold": each.threshold} for each in points
            ],
            "preprocessing": classifier.record["images"],
            "arch": classifier.record["arch"],
            "hardware": str(classifier.hardware),
            "notes": list(classifier.notes),
            "card": None if classifier.card is None else json.loads(card.to_json(classifier.card)),
        }


def find(source: str, precision: str | None) -> Classifier:
    """A run or a bundle with its reference, for warnings, and its card; without one, `notes` say why.

    Errors: as `classifiers.find`.
    """
    classifier = classifiers.find(source, precision, reference=True)
    if classifier.card is not None:
        return classifier
    try:
        return replace(classifier, card=cards.of_run(Paths.here(), source))
    except XraylabError as error:
        return replace(classifier, notes=(*classifier.notes, f"no model card: {' '.join(str(error).split())}"))


def served(each: Sequence[Classifier], point: str | None) -> list[ServedModel]:
    """The models under names of their own. Errors: DataError for an operating point that one does not have."""
    models: list[ServedModel] = []
    for classifier in each:
        name = _unused(classifier.name, [model.name for model in models])
        models.append(
            ServedModel(name, classifier, _default_point(classifier) if point is None else _find(classifier, point))
        )
    return models


def class_names(models: Sequence[ServedModel]) -> list[str]:
    """The classes or findings of all models, each once."""
    return list(dict.fromkeys(name for model in models for name in model.classifier.classes))


def point_names(models: Sequence[ServedModel]) -> list[str]:
    """The operating points of all models, each once."""
    return list(dict.fromkeys(name for model in models for name in model.classifier.thresholds.names))


def _default_point(classifier: Classifier) -> str | None:
    """The one of the highest Youden index, else the first; None without any."""
    thresholds = classifier.thresholds
    return thresholds.youden or next(iter(thresholds.names), None)


def _find(classifier: Classifier, point: str) -> str:
    with speaking_of(f"--point, {classifier.name}"):
        return classifier.thresholds.find(point)


def _unused(name: str, used: Sequence[str]) -> str:
    return name if name not in used else f"{name} (2)"


@dataclass(frozen=True)
class Batching:
    """How many images a network computes at once, and how long a batch waits for more of them after its first."""

    size: int = 32
    seconds: float = 0.005


@dataclass(frozen=True)
class Row:
    """A model's probabilities and warnings for one image."""

    p: Floats
    """(classes,)."""
    warnings: list[ImageWarning]


@dataclass(frozen=True)
class _Waiting:
    image: Gray
    facts: ImageFacts | None
    row: asyncio.Future[Row]


class Batcher:
    """Scores the images of all requests in batches; `observe` hears the size of each."""

    def __init__(
        self,
        classifier: Classifier,
        executor: ThreadPoolExecutor,
        batching: Batching,
        observe: Callable[[int], object],
    ) -> None:
        self.classifier, self.executor, self.batching, self.observe = classifier, executor, batching, observe
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    async def score(self, image: Gray, facts: ImageFacts | None) -> Row:
        """Score a prepared image (size, size)."""
        row: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Waiting(image, facts, row))
        return await row

    async def _run(self) -> None:
        while True:
            batch = [each for each in await self._collect() if not each.row.done()]  # a request may have been given up
            if batch:
                await self._score(batch)

    async def _collect(self) -> list[_Waiting]:
        batch = [await self._waiting.get()]
        with suppress(TimeoutError):
            async with asyncio.timeout(self.batching.seconds):
                while len(batch) < self.batching.size:
                    batch.append(await self._waiting.get())
        return batch

    async def _score(self, batch: list[_Waiting]) -> None:
        self.observe(len(batch))
        try:
            rows = await asyncio.get_running_loop().run_in_executor(self.executor, self._compute, batch)
        except Exception as error:  # every request of the batch hears of it, and the next batch is scored
            for each in batch:
                if not each.row.done():
                    each.row.set_exception(error)
            return
        for each, row in zip(batch, rows, strict=True):
            if not each.row.done():
                each.row.set_result(row)

    def _compute(self, batch: Sequence[_Waiting]) -> list[Row]:
        images, reference = np.stack([each.image for each in batch]), self.classifier.reference
        scores = self.classifier.score(images)
        if reference is None:
            return [Row(p, []) for p in scores.p]
        facts = [each.facts for each in batch if each.facts is not None]
        warnings = reference.check(images, scores.features, facts)
        return [Row(p, each) for p, each in zip(scores.p, warnings, strict=True)]
