"""A network's opinion of images."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from xraylab.model.hardware import Hardware


def probabilities(network: nn.Module, batches: Iterable[Tensor], hardware: Hardware) -> Tensor:
    """Softmax of the logits, float32 (images, classes), on the CPU."""
    network = network.to(memory_format=torch.channels_last).to(hardware.device).eval()
    with torch.inference_mode(), hardware.autocast():
        logits = [network(batch.to(hardware.device)).float().cpu() for batch in batches]
    return torch.cat(logits).softmax(dim=1)
