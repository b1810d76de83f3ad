"""What the first and the middle layer of a network make of an image."""

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from xraylab.explain import layers


def of(network: nn.Module, image: Tensor, most: int) -> dict[str, tuple[str, npt.NDArray[np.float32]]]:
    """`first` and `middle` -> the layer's name and its maps, float32 (at most `most`, height, width), in their order.

    Of more channels, those that vary most over this image (1, channels, height, width). See `layers.depths`.
    """
    places = layers.depths(network, image)
    _, seen = layers.run(network, image, list(places.values()))
    found = {each.place: layers.grid(each.output)[0].detach().float().cpu() for each in seen}
    return {depth: (place.name, _varying(found[place], most)) for depth, place in places.items()}


def _varying(channels: Tensor, most: int) -> npt.NDArray[np.float32]:
    spread = channels.var(dim=(1, 2))
    chosen = spread.topk(min(most, len(channels))).indices.sort().values
    return channels[chosen].numpy()
