"""Networks made faster: for inference, batch norms fused and compiled where that pays; for training, compiled."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from xraylab.model import memory
from xraylab.model.hardware import Hardware

Forward = Callable[[Tensor], Tensor]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# what was compiled before, of this run or of others, leaves the code as it is: a resumed run has the same bits
FOR_TRAINING: dict[str, Any] = {"dynamic": False, "isolate_recompiles": True, "options": {"deterministic": True}}
NOT_FUSED = "batch norms not folded"  # how the reason begins where it is so

# From so many multiply-adds per thread on, compiling is quicker than not (bench/inference.py measures both sides).
# Constants, not a stopwatch: the same images on the same machine are always scored in the same way, to the bit.
# A GPU is not listed: it is done before a compiler is. Nor is bfloat16 without AMX, where compiled networks are no
# quicker to speak of.
BREAK_EVEN = {("cpu", "float32"): 2e13, ("cpu", "bfloat16"): 2e13}


class _LayerTracer(fx.Tracer):
    """Traces down to layers; a convolution or norm of a library's own making is one too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*CONVOLUTIONS, *NORMS)) or super().is_leaf_module(m, module_qualified_name)


def fuse_batch_norm(network: nn.Module) -> tuple[nn.Module, str]:
    """A copy for inference, in evaluation mode, and what was done with its batch norms, in words; '' where it has none.

    A pair is fused where the norm alone reads what the convolution puts out, and each is called once. Everything else
    stays as it is; a network whose calls cannot be traced is only copied.
    """
    fused = copy.deepcopy(network).eval()
    norms = sum(isinstance(module, NORMS) for module in fused.modules())
    try:
        graph = _LayerTracer().trace(fused)
    except Exception as error:  # tracing runs any network's code on stand-ins for tensors, which may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return fused, f"{NOT_FUSED}, since the network cannot be traced ({reason})"
    pairs = list(_pairs(fused, graph))
    for convolution, norm in pairs:
        both = fuse_conv_bn_eval(fused.get_submodule(convolution), fused.get_submodule(norm))  # type: ignore[arg-type, type-var]
        fused.set_submodule(convolution, both)
        fused.set_submodule(norm, nn.Identity())
    return fused, f"{len(pairs)} of {norms} batch norms folded into convolutions" if norms else ""


def _pairs(network: nn.Module, graph: fx.Graph) -> Iterator[tuple[str, str]]:
    """Names of convolutions and of the batch norms that can be fused into them."""
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    parents = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    for node in graph.nodes:
        previous = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(previous, fx.Node) or previous.op != "call_module":
            continue
        pair = str(previous.target), str(node.target)
        used_elsewhere = len(previous.users) > 1 or any(calls[name] > 1 or name in parents for name in pair)
        if not used_elsewhere and _can_fuse(*(network.get_submodule(name) for name in pair)):
            yield pair


def _can_fuse(convolution: nn.Module, norm: nn.Module) -> bool:
    """Exactly these types (a subclass may compute something else), without hooks, and with fixed statistics."""
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in (convolution, norm))
    return type(convolution) in CONVOLUTIONS and type(norm) in NORMS and not hooked and norm.running_mean is not None


def least_images(multiply_adds: int, hardware: Hardware) -> int | None:
    """From how many images on compiling repays itself for a network of so many multiply-adds; None: never."""
    work = BREAK_EVEN.get((hardware.device, hardware.precision))
    if hardware.precision == "bfloat16" and not torch.cpu._is_amx_tile_supported():
        return None
    return None if work is None else round(work * hardware.threads / multiply_adds)


def compile_network(network: nn.Module, example: Tensor, hardware: Hardware) -> tuple[Forward, str]:
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


def compile_for_training(network: nn.Module) -> None:
    """Compile the network in place, when it is first called: its parts and their names stay as they are."""
    network.compile(**FOR_TRAINING)


def compiler_failed(error: BaseException) -> bool:
    """Whether an error of a compiled network is the compiler's."""
    return isinstance(error, torch._dynamo.exc.TorchDynamoException)
