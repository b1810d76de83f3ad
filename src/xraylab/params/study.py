"""The sections `study`, `predict` and `report` of params.yaml."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, NonNegativeInt

from xraylab.params.section import Problem, Section


class Study(Section):
    title: str
    preset: str | None
    baseline: str
    repeats: Annotated[list[NonNegativeInt], Field(min_length=1)]

    def problems(self) -> Iterator[Problem]:
        if len(set(self.repeats)) < len(self.repeats):
            yield "repeats", "names a repeat twice"


class Predict(Section):
    tta: NonNegativeInt


class Report(Section):
    hide_names: bool
