"""Names of choices that others may add to, such as the losses of a plugin."""

from typing import Annotated, Literal

from pydantic import AfterValidator

Kind = Literal["layout", "loss", "sampler"]

ALLOWED: dict[Kind, list[str]] = {
    "layout": [
        "auto", "class-folders", "tbx11k", "covid-radiography", "covidx", "kermany", "acse4", "nih", "shenzhen",
        "table",
    ],
    "loss": ["cross_entropy", "focal"],
    "sampler": ["none", "weighted", "stratified", "downsample", "source_balanced"],
}  # fmt: skip
"""Which names params.yaml may hold; any name of `model.arch` is asked for when the stage `features` runs."""


def allow(kind: Kind, name: str) -> None:
    """Let params.yaml hold one name more. Errors: ValueError where it is taken."""
    if name in ALLOWED[kind]:
        raise ValueError(f"there is a {kind} {name!r} already")
    ALLOWED[kind].append(name)


def _checked(kind: Kind, name: str) -> str:
    if name not in ALLOWED[kind]:
        *others, last = (repr(each) for each in ALLOWED[kind])
        raise ValueError(f"should be {', '.join(others)} or {last}")
    return name


LayoutName = Annotated[str, AfterValidator(lambda name: _checked("layout", name))]
LossName = Annotated[str, AfterValidator(lambda name: _checked("loss", name))]
SamplerName = Annotated[str, AfterValidator(lambda name: _checked("sampler", name))]
