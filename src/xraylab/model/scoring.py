"""Networks' opinions of images, as fast as this machine gives them."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from xraylab.data.batches import SCORING_BATCH
from xraylab.model import compiling, folding, memory
from xraylab.model.compiling import Forward
from xraylab.model.hardware import Hardware, laid_out, memory_format


def prepared(
    network: nn.Module, hardware: Hardware, images: int, input_shape: tuple[int, int, int], multiply_adds: int
) -> tuple[Forward, list[str]]:
    """The network made ready to score so many images of `input_shape` (channels, height, width), and how, in words.

    It is compiled or not by the number of images and multiply-adds alone, so that the same study has the same bits.
    """
    ours, fold = folding.folded(network)
    ours = ours.to(memory_format=memory_format(hardware.device)).to(hardware.device)
    least = compiling.least_images(multiply_adds, hardware)
    if least is None:
        return ours, [fold, f"not compiled: never repaid on {hardware.device} in {hardware.precision}"]
    if images < least:
        return ours, [fold, f"not compiled: {images} images do not repay it, {least} would"]
    channels, height, width = input_shape
    # strides as batches have them: `contiguous` would leave one channel alone, and the first batch compile anew
    example = torch.zeros(SCORING_BATCH, height, width, channels, device=hardware.device).permute(0, 3, 1, 2)
    quick, how = compiling.compiled(ours, example, hardware)
    return quick, [fold, how]


def probabilities(networks: Sequence[Forward], batches: Iterable[Tensor], hardware: Hardware) -> list[Tensor]:
    """Softmax of each network's logits, float32 (images, classes), on the CPU; each batch is made once for all."""
    scores, _ = scored(networks, batches, hardware, "scoring images")
    return scores


def scored(
    networks: Sequence[Forward], batches: Iterable[Tensor], hardware: Hardware, phase: str
) -> tuple[list[Tensor], int]:
    """`probabilities`, and in how many images at a time: batches that do not fit into memory are halved until they do.

    Errors: TrainingError naming the phase where not even one image fits.
    """
    logits: list[list[Tensor]] = [[] for _ in networks]
    size = SCORING_BATCH
    with torch.inference_mode(), hardware.autocast():
        for batch in batches:
            for answers, fitted in memory.batches(_answers(networks, batch, hardware), len(batch), size, phase):
                size = fitted
                for answer, so_far in zip(answers, logits, strict=True):
                    so_far.append(answer)
    return [torch.cat(each).softmax(dim=1).cpu() for each in logits], size


def _answers(networks: Sequence[Forward], batch: Tensor, hardware: Hardware) -> Callable[[int, int], list[Tensor]]:
    """Each network's logits for a part of the batch; on the device: a GPU goes on while the next batch is made."""

    def answers(start: int, stop: int) -> list[Tensor]:
        there = laid_out(batch[start:stop].to(hardware.device), hardware.device)
        return [network(there).float() for network in networks]

    return answers
