"""Batch norms that follow a convolution, folded into its weights: the same answers with fewer passes over memory."""

import copy
from collections import Counter
from collections.abc import Iterator

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
NOT_FOLDED = "batch norms not folded"  # how the reason begins where it is so


class _Calls(fx.Tracer):
    """Traces down to layers; a convolution or norm of a library's own making is one too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*CONVOLUTIONS, *NORMS)) or super().is_leaf_module(m, module_qualified_name)


def folded(network: nn.Module) -> tuple[nn.Module, str]:
    """A copy for scoring, in evaluation mode, and what was done with its batch norms, in words; '' where it has none.

    A pair is folded where the norm alone reads what the convolution puts out, and each is called once. Everything else
    stays as it is; a network whose calls cannot be traced is only copied.
    """
    ours = copy.deepcopy(network).eval()
    norms = sum(isinstance(module, NORMS) for module in ours.modules())
    try:
        graph = _Calls().trace(ours)
    except Exception as error:  # tracing runs any network's code on stand-ins for tensors, which may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return ours, f"{NOT_FOLDED}, since the network cannot be traced ({reason})"
    done = 0
    for convolution, norm in list(_pairs(ours, graph)):
        fused = fuse_conv_bn_eval(ours.get_submodule(convolution), ours.get_submodule(norm))  # type: ignore[arg-type, type-var]
        ours.set_submodule(convolution, fused)
        ours.set_submodule(norm, nn.Identity())
        done += 1
    return ours, f"{done} of {norms} batch norms folded into convolutions" if norms else ""


def _pairs(network: nn.Module, graph: fx.Graph) -> Iterator[tuple[str, str]]:
    """Names of convolutions and of the batch norms that can be folded into them."""
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    for node in graph.nodes:
        before = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        pair = str(before.target), str(node.target)
        used_elsewhere = len(before.users) > 1 or any(calls[name] > 1 or name in read for name in pair)
        if not used_elsewhere and _foldable(*(network.get_submodule(name) for name in pair)):
            yield pair


def _foldable(convolution: nn.Module, norm: nn.Module) -> bool:
    """Exactly these types (a subclass may compute something else), nobody listening, and fixed statistics."""
    heard = any(module._forward_hooks or module._forward_pre_hooks for module in (convolution, norm))
    return type(convolution) in CONVOLUTIONS and type(norm) in NORMS and not heard and norm.running_mean is not None
