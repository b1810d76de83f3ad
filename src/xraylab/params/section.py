"""What every section of params.yaml has in common."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """One section of params.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


def belongs(chooser: str, choice: str, value: Any) -> str:
    """What is wrong with an option that is null where `choice` needs it, or set where nothing uses it."""
    if value is None:
        return f"{chooser} is {choice}, which needs a number here"
    return f"only {chooser}: {choice} uses it; set it to null"
