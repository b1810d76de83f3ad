"""The device, the precision and the memory that a machine has, and what is done where it lacks one."""

from collections.abc import Callable

import pytest
import torch

from xraylab.errors import TrainingError
from xraylab.model import memory


def fitting(largest: int, error: Exception, seen: list[int]) -> Callable[[int], int]:
    """Work that has room for so many images at a time."""

    def work(size: int) -> int:
        seen.append(size)
        if size > largest:
            raise error
        return 10 * size

    return work


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
    ids=["CUDA", "CPU", "CPU on Windows", "MPS", "cuBLAS", "NumPy"],
)
def test_a_batch_is_halved_until_it_fits(error: Exception) -> None:
    seen: list[int] = []
    assert memory.halving(fitting(7, error, seen), 50, "scoring") == (60, 6)
    assert seen == [50, 25, 12, 6]


def test_an_error_of_another_kind_is_not_taken_for_want_of_memory() -> None:
    seen: list[int] = []
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        memory.halving(fitting(1, RuntimeError("shapes do not fit"), seen), 8, "scoring")
    assert seen == [8]


def test_where_one_image_is_too_much_the_error_names_what_was_computed() -> None:
    seen: list[int] = []
    with pytest.raises(TrainingError) as caught:
        memory.halving(fitting(0, torch.OutOfMemoryError("no"), seen), 4, "computing occlusion maps")
    assert str(caught.value) == (
        "memory ran out while computing occlusion maps, with one image at a time: "
        "set model.pixels lower, or take a smaller model.arch"
    )
    assert seen == [4, 2, 1]


def test_batches_go_on_where_memory_ran_out() -> None:
    computed = []

    def work(start: int, stop: int) -> list[int]:
        if stop - start > 3:
            raise torch.OutOfMemoryError
        computed.append((start, stop))
        return list(range(start, stop))

    parts = list(memory.batches(work, 8, 4, "scoring"))
    assert computed == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert [number for part, _ in parts for number in part] == list(range(8))
    assert [size for _, size in parts] == [2, 2, 2, 2]
