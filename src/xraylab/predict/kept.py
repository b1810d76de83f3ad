"""The network of a finished run, as it was after any epoch whose weights were kept."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from xraylab.errors import WeightsError
from xraylab.model import weights
from xraylab.model.create import create_recorded_model

CHECKPOINTS = ("best", "last")


def epoch_of(model: dict[str, Any], checkpoint: str) -> int:
    """The epoch of `best` or `last` in a model.json."""
    return int(model[f"{checkpoint}_epoch"])


def network(folder: Path, model: dict[str, Any], epoch: int) -> nn.Module:
    """The network with that epoch's weights. Errors: WeightsError naming the epochs that were kept."""
    built = create_recorded_model(model)
    weights.restore(built, folder / _file(model, epoch))
    return built


def untrained(model: dict[str, Any], seed: int) -> nn.Module:
    """A network of the same architecture with random weights, for comparison."""
    torch.manual_seed(seed)
    return create_recorded_model(model)


def _file(model: dict[str, Any], epoch: int) -> str:
    for checkpoint in CHECKPOINTS:
        if epoch == epoch_of(model, checkpoint):
            return f"{checkpoint}.safetensors"
    if epoch in model["kept_epochs"]:
        return f"epoch-{epoch:03d}.safetensors"
    raise WeightsError(
        f"epoch {epoch} of {model['experiment']}-{model['repeat']} was not kept; "
        f"kept are {', '.join(map(str, model['kept_epochs']))}. To keep every epoch, set train.keep to all"
    )
