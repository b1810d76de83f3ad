"""Class probabilities of images by trained networks, as fast as this machine computes them."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from xraylab import progress
from xraylab.data.image_cache import SCORING_BATCH
from xraylab.model import compiling, memory
from xraylab.model.compiling import Forward
from xraylab.model.hardware import Hardware, in_memory_format, memory_format


def prepare(
    network: nn.Module, hardware: Hardware, images: int, input_shape: tuple[int, int, int], multiply_adds: int
) -> tuple[Forward, list[str]]:
    """The network made ready to score so many images of `input_shape` (channels, height, width), and what is notable.

    Notable is that it is compiled, or why what could have made it faster fails.

    It is compiled or not by the number of images and multiply-adds alone, so that the same study has the same bits.
    """
    fused, notes = fuse(network, hardware)
    least = compiling.least_images(multiply_adds, hardware)
    if least is None or images < least:
        return fused, notes
    channels, height, width = input_shape
    # strides as batches have them: `contiguous` would leave one channel alone, and the first batch compile anew
    example = torch.zeros(SCORING_BATCH, height, width, channels, device=hardware.device).permute(0, 3, 1, 2)
    quick, how = compiling.compile_network(fused, example, hardware)
    return quick, [*notes, how]


def fuse(network: nn.Module, hardware: Hardware) -> tuple[nn.Module, list[str]]:
    """A copy of the network with fused batch norms on the device, and why they are not, where that fails."""
    fused, how = compiling.fuse_batch_norm(network)
    fused = fused.to(memory_format=memory_format(hardware.device)).to(hardware.device)
    return fused, [how] if how.startswith(compiling.NOT_FUSED) else []


def probabilities(networks: Sequence[Forward], batches: Iterable[Tensor], hardware: Hardware) -> list[Tensor]:
    """Softmax of each network's logits, float32 (images, classes), on the CPU; each batch is made once for all."""
    parts = [score(networks, partial(_part, batch), len(batch), hardware, "scoring images")[0] for batch in batches]
    return [torch.cat(each) for each in zip(*parts, strict=True)]


def score(
    networks: Sequence[Forward],
    make: Callable[[int, int], Tensor],
    images: int,
    hardware: Hardware,
    phase: str,
    multi_label: bool = False,
) -> tuple[list[Tensor], int]:
    """`probabilities` of so many images, and how many of them at a time; `make` makes those from one to before another.

    `multi_label`: the sigmoid of each logit by itself instead of the softmax of all. Errors: as `outputs`.
    """
    logits, size = outputs(networks, make, images, hardware, phase)
    return [activation(multi_label)(each).cpu() for each in logits], size


def activation(multi_label: bool) -> Callable[[Tensor], Tensor]:
    """From logits (n, classes) to probabilities."""
    return torch.sigmoid if multi_label else partial(torch.softmax, dim=1)


def outputs(
    networks: Sequence[Forward], make: Callable[[int, int], Tensor], images: int, hardware: Hardware, phase: str
) -> tuple[list[Tensor], int]:
    """Each network's output for so many images, float32, on the device, and how many images went in at a time.

    More than one batch are scored under a bar. Where memory runs out, for a batch or for what the networks make of it,
    batches are halved and the rest goes on in such ones. Errors: TrainingError naming the phase where not even one
    image fits.
    """

    def forward(start: int, stop: int) -> list[Tensor]:
        batch = in_memory_format(make(start, stop).to(hardware.device), hardware.device)
        return [network(batch).float() for network in networks]  # not copied to the CPU: a GPU goes on meanwhile

    parts, size, count = [], SCORING_BATCH, -(-images // SCORING_BATCH)
    batches = memory.batches(forward, images, SCORING_BATCH, phase)
    with torch.inference_mode(), hardware.autocast():
        for each, size in progress.bar(batches, count, phase) if count > 1 else batches:  # noqa: B007 - the last one
            parts.append(each)
    return [torch.cat(each) for each in zip(*parts, strict=True)], size


def _part(batch: Tensor, start: int, stop: int) -> Tensor:
    return batch[start:stop]
