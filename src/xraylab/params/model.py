"""The section `model` of params.yaml.

Whether a name is an architecture's is asked when the stage `features` runs: only torchvision and timm know, and they
take seconds to import.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field

from xraylab.params.section import MANY, Fraction, Option, Problem, Section
from xraylab.registry import weights as registry

HeadName = Literal["linear", "concat", "dense"]


def _number(value: Any) -> Any:
    if isinstance(value, bool):  # true equals 1
        raise ValueError("should be 1 or 3")
    return value


class Freeze(Section):
    OFF: ClassVar = {"batch_norm": "eval", "cache": False}

    until: Annotated[str, Field(min_length=1)] | None
    layer_fraction: Annotated[float, Field(gt=0, lt=1)] | None
    n_blocks: Annotated[int, Field(ge=-MANY, le=MANY)] | None
    batch_norm: Literal["eval", "train"]
    cache: bool

    @property
    def choices(self) -> dict[str, str | float]:
        """The keys that are set, and their values."""
        ways = {"until": self.until, "layer_fraction": self.layer_fraction, "n_blocks": self.n_blocks}
        return {key: value for key, value in ways.items() if value is not None}

    def unused(self) -> dict[str, str]:
        return {} if self.choices else dict.fromkeys(self.OFF, "a network of which nothing is frozen")

    def problems(self) -> Iterator[Problem]:
        choices = list(self.choices)
        if len(choices) > 1:
            yield choices[1], f"model.freeze.{choices[0]} says already what is frozen: set one to null"
        if self.n_blocks == 0:
            yield "n_blocks", "0 blocks freeze nothing: set it to null"
        if choices and self.cache and self.batch_norm == "train":
            yield (
                "cache",
                "model.freeze.batch_norm: train changes the frozen part's output with every batch, so it cannot be "
                "computed once: set that to eval, or this to false",
            )


class Model(Section):
    OPTIONS: ClassVar = {
        "head_hidden": Option("model.head", ("concat", "dense")),
        "head_batch_norm": Option("model.head", ("dense",), "true or false"),
    }

    arch: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    pretrained: Annotated[str, Field(min_length=1)]
    channels: Annotated[Literal[1, 3], BeforeValidator(_number)]
    img_size: Annotated[int, Field(ge=16, le=2048)]
    head: HeadName
    head_hidden: Annotated[int, Field(gt=0, le=1_000_000)] | None
    head_batch_norm: bool | None
    dropout: Fraction
    freeze: Freeze

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        entry = registry.find(self.pretrained)
        if entry and (problem := registry.size_problem(entry, self.img_size)):
            yield "img_size", problem
        choices = list(self.freeze.choices)
        if choices and self.pretrained == "none":
            yield (
                f"freeze.{choices[0]}",
                "model.pretrained is none, so what would be frozen has learnt nothing: set model.pretrained to default "
                "or a file, or this to null",
            )

    def resolved(self) -> Self:
        """With the architecture that named weights are of."""
        entry, section = registry.find(self.pretrained), super().resolved()
        return section.model_copy(update={"arch": entry.arch}) if entry else section
