"""The section `split` of params.yaml."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from xraylab.params.section import Count, Fraction, Option, Problem, Section, Seed


class Split(Section):
    OPTIONS: ClassVar = {
        "test_pct": Option("split.strategy", ("sorted-id", "random", "hash"), "a fraction"),
        "folds": Option("split.strategy", ("folds",)),
        "files": Option("split.strategy", ("given",), needs=None),
    }

    strategy: Literal["sorted-id", "random", "given", "hash", "folds", "leave-one-source-out"]
    files: Annotated[str, Field(min_length=1)] | None
    folds: Annotated[int, Field(ge=2, le=100_000)] | None
    test_pct: Annotated[float, Field(gt=0, lt=1)] | None
    valid_pct: Fraction | None
    seed: Seed
    max_train_per_class: Literal["all", "smallest"] | Count
    on_leakage: Literal["resolve", "stop", "accept"]
    max_resolved: Fraction

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.valid_pct is None and self.strategy != "given":
            yield "valid_pct", "null keeps the given validation split, which split.strategy given alone has"
