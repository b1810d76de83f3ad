"""The recipe `backbones`: a linear probe and a fine-tuning of all named weights that are on this machine."""

from collections.abc import Iterator, Sequence
from typing import Any

from xraylab.errors import WeightsError
from xraylab.params.images import STRENGTHS, UNCHANGING, Augment
from xraylab.registry import weights as registry
from xraylab.registry.weights import NamedWeights

Tree = dict[str, Any]
ALL_TRAINED = {"until": None, "layer_fraction": None, "n_blocks": None}
HEAD_TRAINED = {**ALL_TRAINED, "until": "head", "batch_norm": "eval", "cache": True}
NOT_AUGMENTED = {name: UNCHANGING.get(name, 0.0) for name in Augment.model_fields if name not in STRENGTHS}
"""Features can be computed once only of images that do not change."""


def values(tree: Tree) -> tuple[Tree, list[str]]:
    """By dotted key, what is laid over a params.yaml, and the weights that are left out, in sentences.

    Cached images get the largest size that one of the networks takes. Errors: WeightsError where there are no weights.
    """
    from xraylab.model import named  # noqa: PLC0415 - torch takes time, and no other recipe needs it

    entries = list(registry.read().values())
    usable = [entry for entry in entries if named.is_here(entry)]
    left_out = list(_left_out([entry for entry in entries if entry not in usable]))
    if not usable:
        raise WeightsError(
            f"no named weights that could be compared are on this machine: put some into {named.folder()}, as "
            "`xraylab weights show NAME` says:",
            left_out,
        )
    size = max(tree["images"]["size"], *(entry.img_size for entry in usable))
    experiments = dict(each for entry in usable for each in _of_weights(entry, tree))
    return {"images.size": size, "experiments": {**tree["experiments"], **experiments}}, left_out


def _left_out(entries: Sequence[NamedWeights]) -> Iterator[str]:
    from xraylab.model import named  # noqa: PLC0415 - as above

    pickled = {entry.name: file for entry in entries if (file := named.local_file(entry))}
    absent = [entry.name for entry in entries if entry.name not in pickled]
    if absent:
        yield f"left out, not on this machine: {', '.join(absent)}"
    for name, file in pickled.items():
        yield f"left out, a pickled module: {name} (`xraylab weights convert {file}` makes safetensors of it)"


def _of_weights(entry: NamedWeights, tree: Tree) -> Iterator[tuple[str, Tree]]:
    """Name and overrides of the two experiments, which hold whatever the sections of `tree` say."""
    model, train = {"pretrained": entry.name, "img_size": entry.img_size}, tree["train"]
    one_phase = _differing(train, {"phases": None})
    in_turn = {"schedule": "one_cycle"} if one_phase or train["schedule"] == "fine_tune" else {}
    probe = {
        "model": {**model, "freeze": _differing(tree["model"]["freeze"], HEAD_TRAINED)},
        "augment": _differing(tree["augment"], NOT_AUGMENTED),
        "loss": _differing(tree["loss"], {"coral_weight": 0.0}),
        "train": {**in_turn, **one_phase, **_differing(train, {"grad_checkpointing": False})},
    }
    freeze = _differing(tree["model"]["freeze"], ALL_TRAINED)
    tuned = {
        "model": {**model, "freeze": freeze} if freeze else model,
        "train": {"schedule": "fine_tune", **one_phase},
    }
    yield f"{entry.name}-probe", {section: overrides for section, overrides in probe.items() if overrides}
    yield f"{entry.name}-tuned", tuned


def _differing(section: Tree, overrides: Tree) -> Tree:
    """What of `overrides` a section does not say already."""
    return {key: value for key, value in overrides.items() if section[key] != value}
