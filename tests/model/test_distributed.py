"""What several processes tell each other, against the same computed by one."""

from functools import partial

import numpy as np
import pytest
import torch
from processes import together
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from xraylab.errors import TrainingError
from xraylab.model import distributed, memory, sync_bn


def bounds(sizes: list[int]) -> list[list[int]]:
    return [list(range(size)[distributed.part(size)]) for size in sizes]


def test_parts_make_the_batch_and_are_of_one_size_or_one_more() -> None:
    sizes = [6, 7, 8, 32]
    for size, parts in zip(sizes, zip(*together(3, partial(bounds, sizes)), strict=True), strict=True):
        assert [n for part in parts for n in part] == list(range(size))
        assert {len(part) for part in parts} <= {size // 3, size // 3 + 1}


def test_a_batch_too_small_to_share_is_computed_whole_by_each() -> None:
    assert together(3, partial(bounds, [5])) == [[[0, 1, 2, 3, 4]]] * 3


IMAGES = 7


def loss_of_all(kind: str) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Gradients, statistics and output of a network on its part of a batch, with a loss that no mean of parts is."""
    torch.manual_seed(0)
    flat = kind == "1d"
    act = [BatchNormAct2d(4)] if kind == "timm" else [nn.BatchNorm1d(4) if flat else nn.BatchNorm2d(4), nn.ReLU()]
    layer = nn.Linear(3, 4) if flat else nn.Conv2d(3, 4, 2)
    network = nn.Sequential(layer, *act)
    if distributed.world_size() > 1:
        sync_bn.convert(network)
    images = torch.randn(IMAGES, 3, *([] if flat else [5, 5]))
    whole = distributed.gather(network(images[distributed.part(IMAGES)]), IMAGES)
    whole.flatten(1).sum(dim=1).square().prod().log().backward()
    distributed.sum_gradients(network.parameters())
    return [p.grad for p in network.parameters() if p.grad is not None], list(network.buffers()), whole.detach()


@pytest.mark.parametrize("kind", ["1d", "2d", "timm"])
def test_gradients_and_statistics_are_those_of_the_whole_batch(kind: str) -> None:
    gradients, statistics, output = loss_of_all(kind)
    for number in (2, 3):
        for theirs in together(number, partial(loss_of_all, kind)):
            for one, shared in zip([*gradients, *statistics, output], [*theirs[0], *theirs[1], theirs[2]], strict=True):
                np.testing.assert_allclose(shared.detach(), one.detach(), rtol=1e-4, atol=1e-5)


def test_a_batch_norm_of_another_kind_is_refused() -> None:
    class Own(nn.BatchNorm2d):
        pass

    with pytest.raises(TrainingError, match=r"^train\.sync_bn: 0 is a Own, which cannot be computed over several"):
        sync_bn.convert(nn.Sequential(Own(3)))


def halved_together() -> list[int]:
    """Sizes of the batches that a process scores, of which one has no memory for more than 8 images."""
    sizes: list[int] = []

    def score(start: int, stop: int) -> None:
        fits = stop - start <= 8 or distributed.rank() == 0
        if not distributed.all_agree(fits):
            raise MemoryError
        sizes.append(stop - start)

    list(memory.batches(score, 20, 16, "scoring"))
    return sizes


def test_all_take_smaller_batches_where_one_is_out_of_memory() -> None:
    assert together(2, halved_together) == [[8, 8, 4], [8, 8, 4]]
