"""Work done by several processes that torch.distributed joins, as torchrun's would be: forks of the test's own."""

import multiprocessing
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

SECONDS = 120


def together(number: int, work: Callable[[], Any]) -> list[Any]:
    """What each of so many processes returns, by rank. Errors: AssertionError with the traceback of one that fails."""
    if torch.cuda.is_available():
        pytest.skip("a fork cannot use the GPU that this process may have used")
    forks = multiprocessing.get_context("fork")  # which has all that is imported and patched
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        pipes = [forks.Pipe(duplex=False) for _ in range(number)]
        arguments = [(rank, number, Path(folder) / "store", work, sender) for rank, (_, sender) in enumerate(pipes)]
        processes = [forks.Process(target=_one, args=each, daemon=True) for each in arguments]
        for process in processes:
            process.start()
        try:
            answers = [receiver.recv() if receiver.poll(SECONDS) else (False, "no answer") for receiver, _ in pipes]
        finally:
            for process in processes:
                process.kill()
                process.join()
    failures = [answer for fine, answer in answers if not fine]
    assert not failures, "\n".join(failures)
    return [answer for _, answer in answers]


def _one(rank: int, number: int, store: Path, work: Callable[[], Any], sender: Connection) -> None:
    try:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=number)
        answer = True, work()
    except BaseException:
        answer = False, traceback.format_exc()
    sender.send(answer)
    time.sleep(SECONDS)  # until all have answered: one that ends tears the others' connections
