"""Gradient checkpointing: the backward pass computes a block's activations again, and only its input is kept.

Chen et al. 2016, arXiv:1604.06174. The gradients are the same; a training step takes about a third longer.
"""

from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from xraylab.errors import ParamsError
from xraylab.model import freezing

REMEDY = "set it to false, or take another model.arch"


@runtime_checkable
class TimmModel(Protocol):
    """A timm network, which knows its blocks itself."""

    def set_grad_checkpointing(self, enable: bool = True) -> None: ...


def enable(network: nn.Module, arch: str) -> None:
    """Let the blocks of a network, or of what trains of one, be computed again: timm's own way, or each block.

    Nothing is renamed. Batch norms meet every batch twice: `callbacks.KeepStatistics` belongs to it. Errors:
    ParamsError where the network has no blocks, or timm cannot do it.
    """
    body = dict(network.named_children()).get("body", network)
    if isinstance(body, TimmModel):
        try:
            body.set_grad_checkpointing(True)
        except AssertionError:  # timm's way to say so
            raise ParamsError(f"train.grad_checkpointing: timm has none for {arch}: {REMEDY}") from None
        return
    blocks = freezing.blocks(network)
    if not blocks:
        raise ParamsError(
            f"train.grad_checkpointing: what is trained of {arch} has no blocks to compute again: {REMEDY}"
        )
    for name in blocks:
        block: Any = network.get_submodule(name)
        block.forward = partial(_recomputed, type(block).forward, block)  # a copy of the network gets its own


def _recomputed(forward: Any, block: nn.Module, *inputs: Any, **options: Any) -> Any:
    """What the block makes of its inputs; where gradients are wanted, to be computed again for them."""
    if not torch.is_grad_enabled():
        return forward(block, *inputs, **options)
    # DenseNet's layers take a list, which has grown by the time of the backward pass
    unchanged = [list(each) if isinstance(each, list) else each for each in inputs]
    return checkpoint(forward, block, *unchanged, use_reentrant=False, **options)
