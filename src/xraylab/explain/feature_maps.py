"""What the first and the middle layer of each network make of one and the same image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from xraylab.explain import layers, pictures
from xraylab.explain.target import Target


def write(targets: Sequence[Target], most: int, folder: Path) -> dict[str, Any] | None:
    """The image, and per network and depth the layer and a sheet of at most `most` of its maps, below `folder`.

    The image is the first target's `first_image`. None without a network.
    """
    if not targets:
        return None
    name = targets[0].first_image()
    records = []
    for target in targets:
        image = target.to_input(target.images, target.rows([name]))
        for depth, (layer, channels) in compute(target.network, image, most).items():
            picture = f"{target.name}/{depth}-layer.png"
            pictures.write(pictures.sheet(channels), folder / picture)
            records.append({"experiment": target.name, "depth": depth, "layer": layer, "picture": picture})
    return {"id": name, "layers": records}


def compute(network: nn.Module, image: Tensor, most: int) -> dict[str, tuple[str, npt.NDArray[np.float32]]]:
    """`first` and `middle` -> the layer's name and its maps, float32 (at most `most`, height, width), in their order.

    Of more channels, those that vary most over this image (1, channels, height, width). See `layers.depths`.
    """
    calls = layers.depths(network, image)
    _, outputs = layers.run(network, image, list(calls.values()))
    maps = {each.call: layers.grid(each.output)[0].detach().float().cpu() for each in outputs}
    return {depth: (call.name, _most_varying(maps[call], most)) for depth, call in calls.items()}


def _most_varying(channels: Tensor, most: int) -> npt.NDArray[np.float32]:
    variance = channels.var(dim=(1, 2))
    chosen = variance.topk(min(most, len(channels))).indices.sort().values
    return channels[chosen].numpy()
