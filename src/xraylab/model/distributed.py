"""Processes that train one network together, each on a device of its own: who they are, and what they tell each other.

In one process, which is the rule, all of this does nothing.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

LEAST = 2  # images: from a single one, batch norm cannot be computed
BUCKET = 2**24  # numbers that are summed over the processes at a time


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0 on."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process is the one that writes and prints."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        all_agree(True)


@contextmanager
def main_first() -> Iterator[None]:
    """Let the main process through before the others, who then find what it has written."""
    if not is_main():
        barrier()
    try:
        yield
    finally:
        if is_main():
            barrier()


def part(images: int) -> slice:
    """Which of a batch's images this process computes: as many as any other, or one more.

    A batch of fewer than two for each is computed whole by all of them.
    """
    return slice(*_bounds(images)[rank()]) if images >= LEAST * world_size() else slice(images)


def _bounds(images: int) -> list[tuple[int, int]]:
    world = world_size()
    edges = [images * number // world for number in range(world + 1)]
    return list(pairwise(edges))


def gather(local: Tensor, images: int) -> Tensor:
    """A tensor of the whole batch from each process's rows of it: gradients flow to its own.

    So all compute the same loss, whatever it makes of the batch, and the gradients of the processes' own parts sum to
    that of the whole batch. Of a batch that each computes whole, each has an equal share in the gradient.
    """
    if world_size() == 1:
        return local
    if len(local) == images:
        return local.detach() + (local - local.detach()) / world_size() if local.requires_grad else local
    sizes = [stop - start for start, stop in _bounds(images)]
    sent = local.new_zeros((max(sizes), *local.shape[1:]))
    sent[: len(local)] = local.detach()
    parts = [torch.empty_like(sent) for _ in sizes]
    dist.all_gather(parts, sent)
    rows = [received[:size] for received, size in zip(parts, sizes, strict=True)]
    rows[rank()] = local
    return torch.cat(rows)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its sum over the processes."""
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    for bucket in _buckets(gradients):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        dist.all_reduce(flat)
        sums = torch.split(flat, [gradient.numel() for gradient in bucket])
        for gradient, total in zip(bucket, sums, strict=True):
            gradient.copy_(total.view_as(gradient))


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        alike = not bucket or bucket[0].dtype == tensor.dtype
        if not alike or sum(each.numel() for each in bucket) >= BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def average_statistics(network: nn.Module, norms: Iterable[str]) -> None:
    """Replace the statistics of these batch norms by their means over the processes, as timm's `dist_bn: reduce`."""
    for name in norms if world_size() > 1 else ():
        norm = network.get_submodule(name)
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.running_var is not None:
            for statistic in (norm.running_mean, norm.running_var):
                dist.all_reduce(statistic)
                statistic.div_(world_size())


def all_agree(fine: bool) -> bool:
    """Whether every process says so."""
    if world_size() == 1:
        return fine
    answer = torch.tensor(int(fine))
    dist.all_reduce(answer, dist.ReduceOp.MIN)
    return bool(answer)


def everyones(fact: Any) -> list[Any]:
    """What each process says, by rank."""
    if world_size() == 1:
        return [fact]
    facts: list[Any] = [None] * world_size()
    dist.all_gather_object(facts, fact)
    return facts
