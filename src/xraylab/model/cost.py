"""How large a network is, and how much it computes for one image."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

COUNTED = "multiply-adds of convolutions, fully connected layers and the matrix products of attention"


def parameters(network: nn.Module) -> int:
    """The number of trainable numbers."""
    return sum(p.numel() for p in network.parameters())


def multiply_adds(network: nn.Module, channels: int, pixels: int) -> int:
    """Multiply-adds for one image (channels, pixels, pixels), of what `COUNTED` says.

    torch's counter counts a multiply-add as two operations; batch norm, activations and pooling are left out.
    """
    was_training = network.training
    network.eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.zeros(1, channels, pixels, pixels))
    network.train(was_training)
    return int(counter.get_total_flops()) // 2
