"""One training run: a fastai Learner taken through its phases, resumable after every epoch."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from fastai.callback.core import TrainEvalCallback
from fastai.callback.schedule import ParamScheduler
from fastai.data.core import DataLoaders
from fastai.learner import Learner

from xraylab.data.batches import TrainingBatches
from xraylab.model import networks, weights
from xraylab.model.hardware import Hardware
from xraylab.model.schedules import Phase
from xraylab.train import callbacks, frozen, state
from xraylab.train.callbacks import Row


@dataclass
class Run:
    """What a run has done so far, and where it keeps it."""

    folder: Path
    select: str  # the history column that chooses the best epoch, such as valid_f1
    keep_all: bool
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def best(self) -> int:
        """The first epoch with the best figure: the lowest loss, or the highest of anything else."""
        sign = 1 if self.select.endswith("_loss") else -1
        return min(range(len(self.rows)), key=lambda epoch: sign * self.rows[epoch][self.select])

    @property
    def last(self) -> int:
        return len(self.rows) - 1

    @property
    def kept(self) -> list[int]:
        """The epochs whose weights are kept."""
        return list(range(len(self.rows))) if self.keep_all else sorted({self.best, self.last})

    def weights(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:03d}.safetensors"

    def save(self, learn: Learner) -> None:
        """Keep this epoch: weights first, then the state that says that the epoch is finished."""
        weights.save(learn.model, self.weights(self.last))
        state.save(
            self.folder,
            rows=self.rows,
            seconds=self.seconds,
            model=learn.model.state_dict(),
            optimizer=learn.opt.state_dict(),
        )
        for epoch in set(range(len(self.rows))) - set(self.kept):
            self.weights(epoch).unlink(missing_ok=True)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch compute with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def learner(
    dls: DataLoaders,
    network: torch.nn.Module,
    loss: torch.nn.Module,
    opt_func: Callable[..., Any],
    hardware: Hardware,
    cbs: list[Any],
) -> Learner:
    """A fastai Learner whose optimizer sees every parameter alike: decay on all, nothing trained while frozen."""
    network = network.to(memory_format=torch.channels_last)
    cbs = [TrainEvalCallback(), callbacks.Autocast(hardware), *cbs]
    return Learner(
        dls,
        network,
        loss,
        opt_func=opt_func,
        splitter=networks.parameter_groups,
        cbs=cbs,
        default_cbs=False,
        wd_bn_bias=True,
        train_bn=False,
    )


def fit(
    learn: Learner,
    phases: list[Phase],
    run: Run,
    history: callbacks.History,
    batches: TrainingBatches | None,
    seed: int,
    title: str,
) -> None:
    """Train from wherever `run` stands to the end of the last phase."""
    done = _resume(learn, phases, run)
    started, before = time.monotonic(), run.seconds

    def save() -> None:
        run.seconds = before + time.monotonic() - started
        run.save(learn)

    bar = callbacks.Bar(title, sum(phase.epochs for phase in phases), history)
    learn.add_cbs([history, callbacks.Checkpoint(save), bar])
    bar.start(done)
    try:
        first = 0
        for phase in phases:
            if first + phase.epochs > done:
                _fit_phase(learn, phase, first, max(done - first, 0), history, batches, seed)
            first += phase.epochs
    finally:
        bar.stop()


def _fit_phase(
    learn: Learner,
    phase: Phase,
    first: int,
    skip: int,
    history: callbacks.History,
    batches: TrainingBatches | None,
    seed: int,
) -> None:
    """One call of fastai's fit; a phase begins with a fresh optimizer, a resumed one goes on with its own."""
    if skip == 0:
        learn.create_opt()
    history.start_phase(phase.name)
    cbs = [callbacks.Reseed(seed, first, batches), ParamScheduler(phase.curves)]
    if phase.frozen:
        body = [module for part in networks.groups(learn.model)[:-1] for module in part]
        cbs.append(frozen.Frozen(body))
    learn.fit(phase.epochs, cbs=cbs, start_epoch=skip)


def _resume(learn: Learner, phases: list[Phase], run: Run) -> int:
    """Load the last finished epoch, if there is one, and return how many are finished."""
    saved = state.load(run.folder)
    if saved is None:
        return 0
    run.rows[:], run.seconds = saved["rows"], saved["seconds"]
    learn.model.load_state_dict(saved["model"])
    learn.model.to(learn.dls.device)
    learn.create_opt()
    learn.opt.load_state_dict(saved["optimizer"])
    return len(run.rows)
