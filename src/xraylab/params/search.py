"""The section `search` of params.yaml: experiment, search space, sampler and number of trials."""

import math
from collections.abc import Iterator
from itertools import islice, product
from typing import Annotated, Any, Literal, Self, get_origin

from pydantic import Discriminator, Field, Tag, model_validator

from xraylab.params import messages
from xraylab.params.section import MANY, Count, Problem, Section, Seed

COMBINATIONS = 4096  # as many are checked before a search begins

Values = dict[str, Any]  # dotted key -> value


Bound = Annotated[int, Field(ge=-MANY, le=MANY)] | Annotated[float, Field(ge=-MANY, le=MANY)]


class Range(Section):
    """Numbers from `low` to `high`, both included."""

    low: Bound
    high: Bound
    log: bool = False  # drawn evenly on a logarithmic scale
    integer: bool = False  # whole numbers alone
    when: dict[str, Any] | None = None  # drawn only where these keys are drawn so; null elsewhere

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError("low must be less than high")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic scale begins above 0")
        if self.integer and not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise ValueError("with integer: true, low and high are whole numbers")
        return self

    @property
    def ends(self) -> list[Any]:
        return [int(end) if self.integer else float(end) for end in (self.low, self.high)]


def _kind(value: Any) -> str:
    """Named so that messages leave it out."""
    return "list[choices]" if isinstance(value, list) else "constrained-range"


Choices = Annotated[list[Any], Field(min_length=2)]
Dimension = Annotated[
    Annotated[Range, Tag("constrained-range")] | Annotated[Choices, Tag("list[choices]")], Discriminator(_kind)
]


class Search(Section):
    """The search of `xraylab search`; none where the space is empty."""

    experiment: str
    space: dict[str, Dimension]
    sampler: Literal["random", "tpe"]
    trials: Count
    seed: Seed
    prune: bool
    workers: Count


def applies(dimension: Range | list[Any], sampled: Values) -> bool:
    """Return whether a dimension's condition holds for the values sampled so far."""
    condition = dimension.when if isinstance(dimension, Range) else None
    return all(sampled.get(key) == value for key, value in (condition or {}).items())


def unconditional_first(space: dict[str, Dimension]) -> list[tuple[str, Range | list[Any]]]:
    """Sort dimensions: those with a condition last, since it refers to the others."""
    return sorted(space.items(), key=lambda item: isinstance(item[1], Range) and item[1].when is not None)


def unflatten(values: Values) -> dict[str, Any]:
    """{'train.lr': 1} as {'train': {'lr': 1}}."""
    tree: dict[str, Any] = {}
    for dotted, value in values.items():
        *parents, last = dotted.split(".")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = value
    return tree


def corners(space: dict[str, Dimension]) -> Iterator[Values]:
    """Every choice with every other, and with both ends of every range; the first few thousand of them."""
    dimensions = unconditional_first(space)
    ends = [dimension.ends if isinstance(dimension, Range) else dimension for _, dimension in dimensions]
    for combination in islice(product(*ends), COMBINATIONS):
        sampled: Values = {}
        for (key, dimension), value in zip(dimensions, combination, strict=True):
            sampled[key] = value if applies(dimension, sampled) else None
        yield sampled


def key_problems(space: dict[str, Dimension], root: type[Section]) -> list[Problem]:
    """Keys of a space that are no setting of `root` that can be varied."""
    problems = [(f"search.space.{key}", _key_problem(key, root)) for key in space]
    return [(key, text) for key, text in problems if text]


def _key_problem(dotted: str, root: type[Section]) -> str:
    if dotted == "train.monitor":
        return "trials that are judged differently cannot be compared"
    *parents, last = dotted.split(".")
    model: Any = root
    for number, key in enumerate([*parents, last]):
        fields = getattr(model, "model_fields", {})
        path = ".".join(dotted.split(".")[:number])
        if get_origin(model) is dict:
            return ""  # arguments of a plugin, whose names are known to it alone
        if not fields:
            return f"{path} is a single value"
        if key not in fields:
            return f"unknown key; {messages.nearest(key, fields, f'{path}.' if path else '')}"
        model = fields[key].annotation
    section = isinstance(model, type) and issubclass(model, Section)
    return f"is a whole section; name one of {', '.join(model.model_fields)}" if section else ""


def condition_problems(space: dict[str, Dimension]) -> Iterator[Problem]:
    """A condition names another key of the space that has choices, and one of these."""
    for key, dimension in space.items():
        condition = (dimension.when if isinstance(dimension, Range) else None) or {}
        for other, value in condition.items():
            choices = space.get(other)
            if not isinstance(choices, list):
                yield f"search.space.{key}.when", f"{other} is not a list of choices in search.space"
            elif value not in choices:
                listed = ", ".join(map(str, choices))
                yield f"search.space.{key}.when", f"{other} is never {value!r}; its choices are {listed}"
