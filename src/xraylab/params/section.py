"""Base of all sections of params.yaml: options that only some choices use, and checks of several keys."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

CONTRADICTION = "contradiction"  # the type of an error that no single key can know

MANY = 1_000_000_000  # no number of params.yaml means anything beyond; it keeps `.inf` and 1e309 from every formula

Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=MANY)]
NonNegative = Annotated[float, Field(ge=0, le=MANY)]
Count = Annotated[int, Field(gt=0, le=MANY)]
CountOrZero = Annotated[int, Field(ge=0, le=MANY)]
Epochs = Annotated[int, Field(gt=0, le=100_000)]
ImageCount = Annotated[int, Field(gt=0, le=1_000_000)]
"""How many images are made, or are looked at at once."""
Seed = Annotated[int, Field(ge=0, le=10**18)]
Problem = tuple[str, str]
"""The dotted key, and what is wrong with it and would be valid."""


class Option(NamedTuple):
    """An option that only some choices of another key use."""

    chooser: str  # dotted, such as train.schedule
    choices: tuple[str, ...]
    needs: str | None = "a number"  # None where null is a value of it too


class Section(BaseModel):
    """One section of params.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    OPTIONS: ClassVar[dict[str, Option]] = {}
    OFF: ClassVar[dict[str, Any]] = {}
    """Value of an unused option in a resolved config, where that is not null."""

    def problems(self) -> Iterator[Problem]:
        """Contradictions between keys; sections add theirs."""
        for name, (chooser, choices, needs) in self.OPTIONS.items():
            if needs and (choice := self._choice(chooser)) in choices and getattr(self, name) is None:
                yield name, f"{chooser} is {choice}, which needs {needs} here"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if problems := list(self.problems()):
            raise refusal(problems)
        return self

    def unused(self) -> dict[str, str]:
        """Dotted option -> the choice that has no use for it."""
        options = {
            name: f"{chooser.removesuffix('.name').rpartition('.')[2]} {choice}"
            for name, (chooser, choices, _) in self.OPTIONS.items()
            if (choice := self._choice(chooser)) not in choices
        }
        for name, inner in self._sections().items():
            options |= {f"{name}.{key}": choice for key, choice in inner.unused().items()}
        return options

    def resolved(self) -> Self:
        """The section without the options that it does not use: they are null, or what changes nothing."""
        off = {name: self.OFF.get(name) for name in self.unused() if name in type(self).model_fields}
        return self.model_copy(update=off | {name: inner.resolved() for name, inner in self._sections().items()})

    def _choice(self, chooser: str) -> Any:
        return getattr(self, chooser.rpartition(".")[2])

    def _sections(self) -> dict[str, "Section"]:
        return {name: value for name, value in self if isinstance(value, Section)}


def refusal(problems: Iterable[Problem]) -> ValidationError:
    """An error of one line per problem, which pydantic puts under the section's path."""
    lines = [
        InitErrorDetails(
            type=PydanticCustomError(CONTRADICTION, "{problem}", {"problem": text}), loc=(key,), input=None, ctx={}
        )
        for key, text in problems
    ]
    return ValidationError.from_exception_data("params.yaml", lines)
