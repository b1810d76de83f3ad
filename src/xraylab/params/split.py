"""The section `split` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from xraylab.params.section import Fraction, Section, belongs


class Split(Section):
    strategy: Literal["sorted-id", "random", "given", "hash", "folds", "leave-one-source-out"]
    files: Annotated[str, Field(min_length=1)] | None
    folds: Annotated[int, Field(ge=2)] | None
    test: Annotated[float, Field(gt=0, lt=1)] | None
    valid: Fraction | None
    seed: NonNegativeInt
    train_per_class: Literal["all", "smallest"] | PositiveInt
    on_leakage: Literal["resolve", "stop", "accept"]
    max_resolved: Fraction


def split_problems(split: Split) -> list[str]:
    problems = []
    draws_test = split.strategy in {"sorted-id", "random", "hash"}
    if draws_test != (split.test is not None):
        problems.append(
            f"split.test: split.strategy is {split.strategy}, which needs a fraction here"
            if draws_test
            else f"split.test: split.strategy {split.strategy} knows the test side; set it to null"
        )
    if (split.strategy == "folds") != (split.folds is not None):
        problems.append(f"split.folds: {belongs('split.strategy', 'folds', split.folds)}")
    if split.files is not None and split.strategy != "given":
        problems.append(f"split.files: {belongs('split.strategy', 'given', split.files)}")
    if split.valid is None and split.strategy != "given":
        problems.append("split.valid: null keeps the given validation side, which split.strategy given alone has")
    return problems
