"""The largest batch that fits in memory, tried by real training steps, each size in a process of its own."""

import contextlib
import math
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import psutil
import torch
from fastai.callback.core import Callback, CancelEpochException, CancelFitException

from xraylab import processes, progress, tables
from xraylab.errors import MissingError, TrainingError, XraylabError
from xraylab.model import memory
from xraylab.params.config import Params
from xraylab.params.train import Train
from xraylab.paths import Paths
from xraylab.train.fit import create_phases
from xraylab.train.learner import all_but_the_head, dataloaders, learner
from xraylab.train.run import TrainingRun

SMALLEST = 2  # train.batch_size is no less
TIMED = 3  # steps, after those that grow
GIB = 2**30
SHARE = 0.8  # of the memory that a processor has left
GLANCE = 0.01  # seconds between two looks at how much is taken
QUIET = "ignore::FutureWarning:torch.jit._script"  # as the command line has it
EXIT_FULL = 3  # of a process that ended itself

# fastai carries no types, so to mypy the callback subclasses Any: hence the ignore below


@dataclass(frozen=True)
class Trial:
    """Training steps with batches of one size; `peak` is in bytes, and None where they did not fit."""

    batch_size: int
    peak: int | None
    images_per_second: float = 0.0
    hardware: str = ""
    epoch: int = 0
    """Images in an epoch, of which no batch holds more."""


def run(params: Params, paths: Paths, experiment: str, gib: float | None) -> list[str]:
    """The table of sizes and the line to type, for at most so many GiB. Errors: TrainingError where nothing fits."""
    if experiment not in params.experiments:
        names = ", ".join(params.experiments)
        raise MissingError(f"params.yaml has no experiment {experiment!r}; there is {names}")
    repeat, limit = params.study.repeats[0], None if gib is None else int(gib * GIB)
    images = len(tables.read(paths.split_of(repeat) / "train_data.csv"))
    available = int(memory.available() * SHARE)
    within = "the memory that is left" if gib is None else f"{gib:g} GiB"
    tried = trials(lambda size: _in_process(params, paths, experiment, repeat, size, limit, available), within)
    most = math.ceil(math.log2(max(images, 2))) + 4
    results = sorted(progress.bar(tried, most, "batch sizes"), key=lambda trial: trial.batch_size)
    overrides = params.experiments[experiment].get("train") or {}
    keys = {
        key: f"experiments.{experiment}.train.{key}" if key in overrides else f"train.{key}"
        for key in ("batch_size", "grad_accum")
    }
    return [*table(results), *advice(results, params.experiment(experiment).train, keys)]


def trials(measure: Callable[[int], Trial], within: str) -> Iterator[Trial]:
    """Sizes doubled until one does not fit or holds an epoch; then halfway between, to within a sixteenth.

    Errors: TrainingError where the smallest does not fit.
    """
    size, fits, full = SMALLEST, 0, 0
    while not full or full - fits > max(1, fits // 16):
        trial = measure(size)
        if trial.peak is None and size == SMALLEST:
            raise TrainingError(
                f"not even a batch of {SMALLEST} images fits in {within}: set train.grad_checkpointing to true, "
                "model.img_size lower, or take a smaller model.arch"
            )
        yield trial
        if trial.peak is None:
            full = size
        elif size >= trial.epoch:
            return
        else:
            fits = size
        size = (fits + full) // 2 if full else min(2 * size, trial.epoch)


def table(results: Sequence[Trial]) -> list[str]:
    """What computed, and a line for each size."""
    rows = [
        f"{trial.batch_size:10}   {'does not fit':>12}"
        if trial.peak is None
        else f"{trial.batch_size:10}   {trial.peak / GIB:8.2f} GiB   {trial.images_per_second:8.1f}"
        for trial in results
    ]
    return [results[0].hardware, "batch size   peak memory   images/s", *rows]


def advice(results: Sequence[Trial], train: Train, keys: Mapping[str, str]) -> list[str]:
    """The largest size and how to set it; and how to take the steps of now in fewer batches, or in some that fit."""
    fitting = [trial for trial in results if trial.peak is not None]
    largest = fitting[-1].batch_size
    whole = "which is an epoch" if largest >= fitting[-1].epoch else "to within a sixteenth"
    lines = [f"largest that fits: {largest}, {whole}", f"    dvc exp run -S {keys['batch_size']}={largest}"]
    images = train.batch_size * train.grad_accum
    size = max((size for size in range(SMALLEST, largest + 1) if images % size == 0), default=None)
    if size is not None and size != train.batch_size:
        lines += [
            f"for steps of {images} images, as now:",
            f"    dvc exp run -S {keys['batch_size']}={size} -S {keys['grad_accum']}={images // size}",
        ]
    return lines


def _in_process(
    params: Params, paths: Paths, experiment: str, repeat: int, size: int, limit: int | None, available: int
) -> Trial:
    """A trial in a fresh process, which gives all its memory back. Errors: TrainingError where it fails otherwise."""
    here = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if here else "spawn")
    if here:
        os.environ.setdefault("PYTHONWARNINGS", QUIET)
        context.set_forkserver_preload([__name__])  # whose imports take seconds, once for all trials
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, params, paths, experiment, repeat, size, limit, available)
    process = context.Process(target=_answer, args=arguments, daemon=True)
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:  # it ended itself, or was killed for its memory
        process.join()
        if process.exitcode not in (EXIT_FULL, -9):
            raise TrainingError(
                f"a process that tried a batch of {size} ended with exit code {process.exitcode}"
            ) from None
        return Trial(size, None)
    process.join()
    if isinstance(answer, str):
        raise TrainingError(answer)
    trial: Trial = answer
    return trial


def _answer(
    sender: Connection,
    params: Params,
    paths: Paths,
    experiment: str,
    repeat: int,
    size: int,
    limit: int | None,
    available: int,
) -> None:
    processes.end_with_creator()
    memory.keep_freed()  # as the stage does
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            run = with_batch_size(TrainingRun.load(params, paths, experiment, repeat), size)
            _bound(run.hardware.device, limit, available)
            sender.send(measured(run))
        except XraylabError as error:
            sender.send(str(error))
        except (RuntimeError, MemoryError) as error:
            if not memory.ran_out(error):
                sender.send(f"a training step of {experiment} fails: {error}")
                raise
            sender.send(Trial(size, None, hardware=str(run.hardware)))


def with_batch_size(run: TrainingRun, size: int) -> TrainingRun:
    """The same run with batches of another size."""
    train = run.cfg.train.model_copy(update={"batch_size": size})
    return replace(run, cfg=run.cfg.model_copy(update={"train": train}))


def measured(run: TrainingRun) -> Trial:
    """The peak of memory and the speed of the run's own training steps, in the phase that trains most.

    Optimizer states come with the first step, so that only what follows it needs all the memory there is to need.
    """
    dls = dataloaders(run)
    learn, train = learner(run, dls), run.cfg.train
    phases = create_phases(train, 1.0)
    phase = next((phase for phase in reversed(phases) if not phase.frozen), phases[-1])
    learn.opt_func = phase.opt_func
    steps = _Steps(train.grad_accum + 1, TIMED)
    cbs = [steps, *([all_but_the_head(learn)] if phase.frozen else [])]
    with learn.no_bar(), learn.no_logging(), learn.removed_cbs(learn.recorder):
        learn.fit(steps.last, lr=1e-6, cbs=cbs)  # as many epochs at most; an epoch has a batch or more
    size = min(train.batch_size, dls.train.n)
    return Trial(size, _peak(run.hardware.device), steps.images_per_second, str(run.hardware), dls.train.n)


class _Steps(Callback):  # type: ignore[misc]
    """Trains so many batches, then so many more under a clock; nothing is scored."""

    order = 100

    def __init__(self, before: int, timed: int) -> None:
        self.before, self.last, self.count, self.images = before, before + timed, 0, 0

    def after_batch(self) -> None:
        self.count += 1
        if self.count > self.before:
            self.images += len(self.yb[0])
        if self.count in (self.before, self.last):
            if torch.device(self.dls.device).type == "cuda":
                torch.cuda.synchronize()
            self.start, start = time.perf_counter(), getattr(self, "start", 0.0)
        if self.count == self.last:
            self.images_per_second = self.images / (self.start - start)
            raise CancelFitException

    def after_train(self) -> None:
        raise CancelEpochException


def _bound(device: str, limit: int | None, available: int) -> None:
    """Let this process fail or end where it would take more than it may: on a GPU all of it, if nothing is said."""
    if device == "cuda":
        if limit is not None:
            torch.cuda.set_per_process_memory_fraction(min(limit / torch.cuda.mem_get_info()[1], 1.0))
        return
    threading.Thread(target=_watch, args=[available if limit is None else limit], daemon=True).start()


def _watch(limit: int) -> None:
    process = psutil.Process()
    while process.memory_info().rss <= limit:
        time.sleep(GLANCE)
    os._exit(EXIT_FULL)


def _peak(device: str) -> int:
    """The most bytes that this process has held: of the GPU's memory what its allocator took, else of the machine's."""
    if device == "cuda":
        return torch.cuda.max_memory_reserved()
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # noqa: PLC0415 - Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
