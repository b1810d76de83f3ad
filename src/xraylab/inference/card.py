"""The model card of one trained network, typed and strict: card.json of a bundle.

After Mitchell et al., Model Cards for Model Reporting, 2019.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from xraylab.errors import DataError
from xraylab.inference.thresholds import OperatingPoint, Thresholds
from xraylab.params.images import Images
from xraylab.params.model import HeadName
from xraylab.params.section import Fraction
from xraylab.task import MULTI_LABEL

FORMAT = 1
"""Of card.json and of the bundle around it; a reader refuses newer ones."""
RESEARCH_ONLY = "For research, not for diagnosis."
STRICT = ConfigDict(strict=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

ClassName = Annotated[str, Field(alias="class")]


@dataclass(frozen=True, config=STRICT)
class Estimate:
    """A metric's value with its confidence interval; None where the images give none."""

    value: float | None
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True, config=STRICT)
class Metric:
    """A metric of one class, of a mean over classes (`macro`, `micro`), or `overall`, on the test images."""

    class_: ClassName
    metric: str
    estimate: Estimate
    n: int | None
    """Number of images."""


@dataclass(frozen=True, config=STRICT)
class CardPoint:
    """An operating point: its threshold was chosen on validation images, its metrics are of the test images."""

    class_: ClassName
    point: str
    threshold: float
    sensitivity: Estimate
    specificity: Estimate


@dataclass(frozen=True, config=STRICT)
class Plugin:
    """The installed package that offers the architecture."""

    distribution: str
    version: str


@dataclass(frozen=True, config=STRICT)
class Head:
    """The layers after the backbone: see `model.heads.Head`."""

    kind: HeadName
    width: Annotated[int, Field(ge=1, le=65536)] | None
    batch_norm: bool | None


@dataclass(frozen=True, config=STRICT)
class Network:
    """The network, as `model.create.create_recorded_model` builds it."""

    arch: str
    plugin: Plugin | None
    channels: Literal[1, 3]
    img_size: Annotated[int, Field(ge=16, le=4096)]
    head: Head
    dropout: Fraction
    parameters: int
    multiply_adds: int
    precision: Literal["float32", "tf32", "bfloat16", "float16"]
    """In which it was trained."""


@dataclass(frozen=True, config=STRICT)
class Preprocessing:
    """From a decoded image to the network's input."""

    images: dict[str, Any]
    """The section `images` of params.yaml."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of each channel in [0, 1]; they become 0 and 1."""
    description: str


@dataclass(frozen=True, config=STRICT)
class SplitSize:
    """Images of a split, and its patients where they are known."""

    images: int
    patients: int | None


@dataclass(frozen=True, config=STRICT)
class Data:
    """The images that the network was trained, selected and tested on."""

    source: str
    sources: tuple[str, ...]
    """Names of several sources; empty with one."""
    splits: dict[str, SplitSize]
    training_sha256: str
    """SHA-256 of the sorted SHA-256 of the training files, one a line."""
    description: str


@dataclass(frozen=True, config=STRICT)
class Selection:
    """How the epoch was selected."""

    epoch: int
    """Counted from 0."""
    monitor: str
    on_test: bool
    """True where it was selected on the test images, as some published studies do: its metrics are too optimistic."""
    description: str


@dataclass(frozen=True, config=STRICT)
class StartingWeights:
    """The weights that the training began with."""

    pretrained: str
    """model.pretrained: none, default, a name, a file or a run."""
    description: str
    licence: str | None
    """None where it is not known."""
    sha256: str | None


@dataclass(frozen=True, config=STRICT)
class ModelCard:
    """A trained network: how it was trained and tested, and what it must not be used for."""

    format: int
    name: str
    """experiment/repeat."""
    study: str
    task: Literal["single-label", "multi-label"]
    classes: tuple[str, ...]
    """The classes, or the findings of a multi-label study."""
    positive: str | None
    network: Network
    preprocessing: Preprocessing
    operating_points: tuple[CardPoint, ...]
    """Empty without validation images."""
    temperature: float | None
    temperatures: dict[str, float]
    """Of each finding."""
    data: Data
    training: tuple[str, ...]
    """Sentences."""
    selection: Selection
    starting_weights: StartingWeights
    metrics: tuple[Metric, ...]
    """On the test images, by the selected epoch of this run."""
    confidence: float
    """Level of the intervals."""
    statistics: str
    intended_use: str
    limits: tuple[str, ...]
    """Cautions and limitations, one sentence each."""
    versions: dict[str, str]
    """Of the packages that trained and evaluated the network."""

    @property
    def thresholds(self) -> Thresholds:
        """As `Classifier` takes them."""
        points = [OperatingPoint(each.class_, each.point, each.threshold) for each in self.operating_points]
        return Thresholds(points, self.temperature, dict(self.temperatures))

    @property
    def record(self) -> dict[str, Any]:
        """The keys of model.json that `Classifier` needs."""
        network, experiment = self.network, self.name.partition("/")
        return {
            "experiment": experiment[0],
            "repeat": int(experiment[2]),
            "arch": network.arch,
            "channels": network.channels,
            "img_size": network.img_size,
            "head": asdict(network.head),
            "dropout": network.dropout,
            "multiply_adds": network.multiply_adds,
            "normalise": {"mean": list(self.preprocessing.mean), "std": list(self.preprocessing.std)},
            "images": dict(self.preprocessing.images),
            "task": self.task,
            "classes": list(self.classes),
            "positive": self.positive,
            "hardware": {"precision": network.precision},
        }

    @property
    def multi_label(self) -> bool:
        """Return whether an image can have several findings."""
        return self.task == MULTI_LABEL

    def metric(self, name: str, class_: str | None = None) -> Metric | None:
        """A metric of a class; without one overall, of the positive class, or the mean, whichever there is."""
        names = [class_] if class_ else ["overall", self.positive, "macro"]
        rows = [row for each in names for row in self.metrics if (row.class_, row.metric) == (each, name)]
        return rows[0] if rows else None


CARD: TypeAdapter[ModelCard] = TypeAdapter(ModelCard)


def to_json(card: ModelCard) -> str:
    """card.json, the same bytes for the same card."""
    tree = CARD.dump_python(card, mode="json", by_alias=True)
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str | bytes, name: str = "card.json") -> ModelCard:
    """Read what `to_json` wrote; unknown keys, missing ones and values of other types are refused.

    Errors: DataError, which begins with `name`; where a newer version of xraylab wrote it, it says so alone.
    """
    try:
        tree = json.loads(text)
        written = tree.get("format") if isinstance(tree, dict) else None
        if isinstance(written, int) and written > FORMAT:
            raise DataError(
                f"{name} has format {written}, this xraylab reads up to {FORMAT}: pip install --upgrade xraylab"
            )
        card = CARD.validate_json(text)
        Images.model_validate(card.preprocessing.images)
        problems = list(_contradictions(card))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not JSON: {error}") from None
    if problems:
        raise DataError(f"{name} is not a model card:", problems)
    return card


def _contradictions(card: ModelCard) -> Iterator[str]:
    """What no single key can tell to be wrong."""
    channels, steps = card.network.channels, card.preprocessing
    if not channels == len(steps.mean) == len(steps.std) or min(steps.std) <= 0:
        yield f"preprocessing.mean, preprocessing.std: one number for each of {channels} channels, std above 0"
    if not card.classes or len(set(card.classes)) < len(card.classes):
        yield "classes: names, each once"
    points = [each.class_ for each in card.operating_points]
    named = {*points, *card.temperatures, *([card.positive] if card.positive is not None else [])}
    if unknown := sorted(named - set(card.classes)):
        yield f"classes: lacks {', '.join(unknown)}, which other keys name"
    temperatures = [*([card.temperature] if card.temperature is not None else []), *card.temperatures.values()]
    if any(each <= 0 for each in temperatures):
        yield "temperature, temperatures: above 0"
    if not card.name.partition("/")[2].isdecimal():
        yield f"name: experiment/repeat, got {card.name}"
