"""What is studied, what repeats are predicted from, and what the report shows: three short sections."""

from typing import Annotated

from pydantic import Field, NonNegativeInt

from xraylab.params.section import Section


class Study(Section):
    title: str
    preset: str | None
    baseline: str
    repeats: Annotated[list[NonNegativeInt], Field(min_length=1)]


class Predict(Section):
    tta: NonNegativeInt


class Report(Section):
    hide_names: bool
