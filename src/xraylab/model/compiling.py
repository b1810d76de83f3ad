"""Compiled networks: faster once compiled, which takes seconds, and so only where enough images repay it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from xraylab.model import memory
from xraylab.model.hardware import Hardware

Forward = Callable[[Tensor], Tensor]

# From so many multiply-adds per thread on, compiling is quicker than not (bench/inference.py measures both sides).
# Constants, not a stopwatch: the same images on the same machine are always scored in the same way, to the bit.
# A GPU is not listed: it is done before a compiler is. Nor is bfloat16 without AMX, where compiled networks are no
# quicker to speak of.
BREAK_EVEN = {("cpu", "float32"): 2e13, ("cpu", "bfloat16"): 2e13}


def least_images(multiply_adds: int, hardware: Hardware) -> int | None:
    """From how many images on compiling repays itself for a network of so many multiply-adds; None: never."""
    work = BREAK_EVEN.get((hardware.device, hardware.precision))
    if hardware.precision == "bfloat16" and not torch.cpu._is_amx_tile_supported():
        return None
    return None if work is None else round(work * hardware.threads / multiply_adds)


def compiled(network: nn.Module, example: Tensor, hardware: Hardware) -> tuple[Forward, str]:
    """The network compiled with its weights as constants, for batches of `example`'s shape; others run uncompiled.

    Where compiling fails, as without a C++ compiler, the network itself. Second: what was done, in words.
    """
    quick = torch.compile(network, dynamic=False, options={"freezing": True, "deterministic": True})
    try:
        with torch.inference_mode(), hardware.autocast():
            quick(example)
    except (torch._dynamo.exc.TorchDynamoException, RuntimeError, MemoryError) as error:
        if memory.ran_out(error):
            return network, "not compiled, since memory does not suffice for a whole batch"
        if not isinstance(error, torch._dynamo.exc.TorchDynamoException):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return network, f"not compiled, since that fails here ({reason})"
    return lambda batch: quick(batch) if batch.shape == example.shape else network(batch), "compiled"
