"""The pictures of the page: radiographs as the cache holds them, saliency maps, and what an image is called."""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from xraylab import shards, tables
from xraylab.params.images import BATCHWISE
from xraylab.report import metric_tables
from xraylab.report.artefacts import Artefacts
from xraylab.report.records import Run, Tree

SAMPLES_PER_CLASS = 6
RIGHT_PER_CLASS = 6
MISTAKES = 12
ALONE_RIGHT = 6  # images that only one of the two best gets right
AUGMENTED_CLASSES = 2
LARGEST = 160  # pixels a side
METHODS = {"grad-cam": "Grad-CAM", "occlusion": "Occlusion"}
NETWORKS = {"trained": "this network", "random": "random weights"}
UNNAMED = "an image"


class Radiographs:
    """The images of the cache, by id."""

    def __init__(self, cache: Path) -> None:
        self.pixels, self.row_of = shards.load(cache)

    def of(self, ids: Sequence[str]) -> npt.NDArray[np.uint8]:
        rows: npt.NDArray[np.uint8] = self.pixels[[self.row_of[name] for name in ids]]
        return rows

    def with_images(self, table: pd.DataFrame) -> list[Tree]:
        """The rows of a table with ids, each with its image."""
        uris = [data_uri(self.pixels[self.row_of[name]]) for name in table["id"]]
        return [{str(key): value for key, value in row.items()} for row in table.assign(image=uris).to_dict("records")]


def data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    """A PNG of a grey image (height, width), made smaller where it is larger than the page needs."""
    image = Image.fromarray(pixels)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return _png_uri(buffer.getvalue())


def file_uri(path: Path) -> str:
    """A PNG file as it is."""
    return _png_uri(path.read_bytes())


def _png_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def of_classes(data: Artefacts) -> dict[str, list[Tree]]:
    """Some images of each class, evenly through the index."""
    radiographs, samples = Radiographs(data.paths.cache), {}
    for label in data.params.data.classes:
        ids = data.index.loc[data.index["label"] == label, ["id"]]
        samples[label] = radiographs.with_images(ids.iloc[_evenly(len(ids), SAMPLES_PER_CLASS)])
    return samples


def _evenly(length: int, count: int) -> npt.NDArray[np.int64]:
    """Up to `count` row numbers from the first to the last."""
    return np.unique(np.linspace(0, length - 1, count).astype(int))


def augmented(data: Artefacts) -> list[tuple[list[str], list[list[str]]]]:
    """The experiments that augment alike, and one training image of each of the first classes with some draws."""
    train = tables.read(data.paths.split_of(0) / "train_data.csv")
    ids = train.groupby("label", sort=False)["id"].first()[:AUGMENTED_CLASSES]
    images = Radiographs(data.paths.cache).of(list(ids))
    alike: dict[tuple[str, int], list[str]] = {}
    views = {}
    for each in data.experiments:
        key = (each.cfg.augment.model_dump_json(exclude=set(BATCHWISE)), each.cfg.model.img_size)
        if key not in views:
            views[key] = data.augment(each.cfg, images)
        alike.setdefault(key, []).append(each.name)
    return [
        (names, [[data_uri(view) for view in row] for row in views[key]]) for key, names in alike.items() if views[key]
    ]


def samples(data: Artefacts) -> Tree:
    """Test images as the first repeat of the best experiment sees them."""
    radiographs, run = Radiographs(data.paths.cache), _first_run(data, data.summary.top_two[0])
    table = _predictions(data, run)
    return {
        "run": run,
        "right": {
            label: radiographs.with_images(right(table, label, RIGHT_PER_CLASS)) for label in data.summary.classes
        },
        "mistakes": radiographs.with_images(mistakes(table, MISTAKES)),
        "wrong": int((table["actual"] != table["predicted"]).sum()),
    }


def _first_run(data: Artefacts, experiment: str) -> Run:
    return data.summary.experiments[experiment][0]


def _predictions(data: Artefacts, run: Run) -> pd.DataFrame:
    return tables.read(data.paths.evaluation / f"images/{run.name}.csv")


def right(table: pd.DataFrame, label: str, count: int) -> pd.DataFrame:
    """`count` images of the class that were predicted so, evenly from the surest to the least sure."""
    correct = _surest(table[(table["actual"] == label) & (table["predicted"] == label)])
    return correct.iloc[_evenly(len(correct), min(count, len(correct)))]


def mistakes(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The `count` images that were predicted wrong with the highest probability."""
    return _surest(table[table["actual"] != table["predicted"]]).head(count)


def _surest(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values("probability", ascending=False, kind="stable")


def pair(data: Artefacts) -> Tree | None:
    """The two best side by side, with the images that one of them alone gets right in the first repeat."""
    names = data.summary.top_two
    if len(names) < 2:
        return None
    radiographs = Radiographs(data.paths.cache)
    images = alone_right(*(_predictions(data, _first_run(data, name)) for name in names))
    return {
        "rows": metric_tables.pair_rows(data.summary, data.metrics, data.spread),
        "confusions": {name: metric_tables.confusions(data.summary, name)[0] for name in names},
        "repeat": data.params.study.repeats[0],
        "alone": [
            (right, wrong, radiographs.with_images(table))
            for right, wrong, table in zip(names, reversed(names), images, strict=True)
        ],
    }


def alone_right(first: pd.DataFrame, second: pd.DataFrame) -> list[pd.DataFrame]:
    """The images that the first alone gets right, and those that the second alone does; each as the other sees it.

    Both hold id, actual, predicted and probability of the same images.
    """
    aligned = second.set_index("id").loc[first["id"]].reset_index()
    first_right, second_right = (part["predicted"] == part["actual"] for part in (first, aligned))
    return [
        _surest(aligned[first_right & ~second_right]).head(ALONE_RIGHT),
        _surest(first[second_right & ~first_right]).head(ALONE_RIGHT),
    ]


def explanation(data: Artefacts) -> Tree:
    """What `explain` found: its summary with a data URI in the place of each picture's name."""
    explained, folder = data.explained, data.paths.explanation
    maps = explained["feature_maps"]
    return explained | {
        "method_names": METHODS,
        "experiments": [_with_pictures(each, folder) for each in explained["experiments"]],
        "measured": [row for each in explained["experiments"] for row in _localization(each)],
        "feature_maps": maps
        and maps | {"layers": [each | {"picture": file_uri(folder / each["picture"])} for each in maps["layers"]]},
    }


def _with_pictures(experiment: Tree, folder: Path) -> Tree:
    cells = [cell | {"images": _images(cell["images"], folder)} for cell in experiment["cells"]]
    return experiment | {"cells": cells, "top_losses": _images(experiment["top_losses"], folder)}


def _images(images: list[Tree], folder: Path) -> list[Tree]:
    return [
        image | {"pictures": {name: file_uri(folder / path) for name, path in image["pictures"].items()}}
        for image in images
    ]


def _localization(experiment: Tree) -> list[Tree]:
    """One row per method and network that were measured against the masks of findings, or of each finding by itself."""
    every = experiment["localisation"] or []
    facts = {"experiment": experiment["experiment"]}
    return [
        {**facts, "finding": each.get("finding"), "method": METHODS[method], "network": NETWORKS[kind], **metrics}
        for each in (every if isinstance(every, list) else [every])
        for method, networks in each["methods"].items()
        for kind, metrics in networks.items()
    ]


@dataclass(frozen=True)
class Names:
    """What the page calls an image: by its name, or by a number where params.yaml says so.

    `numbers`: id, and file name where only one image has it, -> number from 1; None: names are shown.
    """

    numbers: dict[str, int] | None

    @classmethod
    def of(cls, ids: Sequence[str], hidden: bool) -> "Names":
        """`ids` in the order of the index, whose row is the number."""
        if not hidden:
            return cls(None)
        times = Counter(_last(name) for name in ids)
        short = {_last(name): row for row, name in enumerate(ids, 1) if times[_last(name)] == 1}
        return cls(short | {name: row for row, name in enumerate(ids, 1)})

    def whole(self, name: str) -> str:
        """The whole id."""
        return name if self.numbers is None else self._number(name)

    def file(self, name: str) -> str:
        """The file's own name, without folders."""
        return _last(name) if self.numbers is None else self._number(name)

    def _number(self, name: str) -> str:
        number = (self.numbers or {}).get(name)
        return UNNAMED if number is None else f"image {number}"

    def finding(self, finding: Tree) -> Tree:
        """A finding of the audit; its examples name files and patients, so without them where names are hidden."""
        return finding if self.numbers is None else {**finding, "examples": []}


def _last(name: str) -> str:
    return name.rsplit("/", maxsplit=1)[-1]
