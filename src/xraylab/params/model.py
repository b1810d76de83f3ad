"""The section `model` of params.yaml, and what no single key of it can know.

Whether a name is an architecture's is asked when the stage `features` runs: only torchvision and timm know, and they
take seconds to import.
"""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from xraylab.params.section import Fraction, Section, belongs

HeadName = Literal["linear", "concat", "dense"]
WITH_WIDTH = ("concat", "dense")


class Freeze(Section):
    upto: Annotated[str, Field(min_length=1)] | None
    layers: Annotated[float, Field(gt=0, lt=1)] | None
    blocks: int | None
    batch_norm: Literal["eval", "train"]
    cache: bool

    @property
    def chosen(self) -> dict[str, str | float]:
        """Which keys say what is frozen, and what they say."""
        ways = {"upto": self.upto, "layers": self.layers, "blocks": self.blocks}
        return {key: value for key, value in ways.items() if value is not None}


class Model(Section):
    arch: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    pretrained: Annotated[str, Field(min_length=1)]
    channels: Literal[1, 3]
    pixels: Annotated[int, Field(ge=16, le=2048)]
    head: HeadName
    head_width: PositiveInt | None
    head_batch_norm: bool | None
    dropout: Fraction
    freeze: Freeze


def contradictions(model: Model) -> dict[str, str]:
    """What no single key can know: dotted key -> problem."""
    return {**_of_head(model), **_of_freezing(model.freeze, model.pretrained)}


def uncacheable(freeze: Freeze) -> str | None:
    """Why there is nothing that could be computed once and for all."""
    if not freeze.chosen:
        return (
            "nothing is frozen, so there is nothing to compute once: set model.freeze.upto, layers or blocks, "
            "or this to false"
        )
    if freeze.batch_norm == "train":
        return (
            "model.freeze.batch_norm: train changes the frozen part's output with every batch, so it cannot be "
            "computed once: set that to eval, or this to false"
        )
    return None


def _of_head(model: Model) -> dict[str, str]:
    found = {}
    if (model.head in WITH_WIDTH) != (model.head_width is not None):
        choice = model.head if model.head_width is None else " or ".join(WITH_WIDTH)
        found["model.head_width"] = belongs("model.head", choice, model.head_width)
    if model.head == "dense" and model.head_batch_norm is None:
        found["model.head_batch_norm"] = "model.head is dense, which needs true or false here"
    if model.head != "dense" and model.head_batch_norm is not None:
        found["model.head_batch_norm"] = belongs("model.head", "dense", model.head_batch_norm)
    return found


def _of_freezing(freeze: Freeze, pretrained: str) -> dict[str, str]:
    found = {}
    chosen = list(freeze.chosen)
    if len(chosen) > 1:
        found[f"model.freeze.{chosen[1]}"] = f"model.freeze.{chosen[0]} says already what is frozen: set one to null"
    if freeze.blocks == 0:
        found["model.freeze.blocks"] = "0 blocks freeze nothing: set it to null"
    if freeze.batch_norm == "train" and not chosen:
        found["model.freeze.batch_norm"] = "nothing is frozen, so that it changes nothing: set it to eval"
    if chosen and pretrained == "none":
        found[f"model.freeze.{chosen[0]}"] = (
            "model.pretrained is none, so what would be frozen has learnt nothing: set model.pretrained to default or "
            "a file, or this to null"
        )
    return found
