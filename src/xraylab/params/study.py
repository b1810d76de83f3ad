"""The sections `study`, `predict` and `report` of params.yaml."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from xraylab.params.section import Problem, Section, Seed


class Study(Section):
    title: str
    preset: str | None
    baseline: str
    repeats: Annotated[list[Seed], Field(min_length=1)]

    def problems(self) -> Iterator[Problem]:
        if len(set(self.repeats)) < len(self.repeats):
            yield "repeats", "names a repeat twice"


class Predict(Section):
    tta: Annotated[int, Field(ge=0, le=10_000)]


class Report(Section):
    hide_names: bool
