"""Names of choices to which plugins add theirs."""

from functools import partial
from typing import Annotated

from pydantic import AfterValidator

from xraylab import plugins

BUILT_IN: dict[str, list[str]] = {
    "callback": [],
    "layout": [
        "auto", "class-folders", "tbx11k", "covid-radiography", "covidx", "kermany", "acse4", "nih", "chexpert",
        "mimic-cxr", "vindr", "padchest", "shenzhen", "table",
    ],
    "loss": ["cross_entropy", "bce", "focal", "asymmetric"],
    "sampler": ["none", "weighted", "stratified", "downsample", "source_balanced"],
}  # fmt: skip
"""Built-in names by kind; `model.arch` is checked when the stage `features` runs."""


def _checked(kind: str, name: str) -> str:
    names = [*BUILT_IN[kind], *plugins.of_kind(kind, BUILT_IN[kind])]
    if name not in names:
        *first, last = map(repr, names) if names else [f"a {kind} of a plugin, and none is installed"]
        raise ValueError(f"should be {', '.join(first)} or {last}" if first else f"should be {last}")
    return name


CallbackName = Annotated[str, AfterValidator(partial(_checked, "callback"))]
LayoutName = Annotated[str, AfterValidator(partial(_checked, "layout"))]
LossName = Annotated[str, AfterValidator(partial(_checked, "loss"))]
SamplerName = Annotated[str, AfterValidator(partial(_checked, "sampler"))]
