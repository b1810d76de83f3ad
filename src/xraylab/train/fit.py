"""fastai's fit through the phases of a run, resumable after every epoch."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.callback.schedule import ParamScheduler

from xraylab import tables
from xraylab.errors import TrainingError
from xraylab.model import compiling, distributed, memory, networks, optimizers, schedules
from xraylab.model.features import Features
from xraylab.model.optimizers import create_optimizer
from xraylab.model.schedules import Phase, Plateau
from xraylab.params.train import Train, TrainPhase
from xraylab.params.train import phases as phases_of
from xraylab.train import averaging, callbacks, lr_find, trackers
from xraylab.train.averaging import EMA
from xraylab.train.history import Checkpoint, EpochBar, History
from xraylab.train.learner import XrayLearner, all_but_the_head
from xraylab.train.run import TrainingRun
from xraylab.train.state import LR_CURVE, TrainingState

# fastai carries no types, so to mypy each callback subclasses Any: hence the ignores below


def fit(learn: XrayLearner, run: TrainingRun, state: TrainingState) -> None:
    """Train from the last finished epoch to the end of the last phase; then average what the configuration asks for."""
    state.discard_damaged()
    watching = trackers.callbacks(state.rows, run.paths.state, run.name) if distributed.is_main() else []
    with computing(learn, run):
        phases = create_phases(run.cfg.train, _suggested_lr(learn, run, state))
        PhasedFit(learn, phases, state, run.name, run.cfg.train.early_stop_patience, watching).run()


def find_rate(learn: XrayLearner, run: TrainingRun) -> Any:
    """The learning rate finder's curve, with the body frozen where the first phase freezes it."""
    with computing(learn, run):
        frozen = create_phases(run.cfg.train, 1.0)[0].frozen
        return lr_find.lr_curve(learn, [all_but_the_head(learn)] if frozen else [])


def create_phases(cfg: Train, suggested_lr: float | None) -> list[Phase]:
    """The phases with their optimizers; `suggested_lr` is the rate of those whose rate is to be found."""
    return [
        replace(phase, opt_func=create_optimizer(each))
        for each in phases_of(cfg)
        for phase in _scheduled(each, suggested_lr)
    ]


def _scheduled(cfg: TrainPhase, suggested_lr: float | None) -> list[Phase]:
    rate = suggested_lr if cfg.lr == "find" else cfg.lr
    make, cycle_momentum = schedules.SCHEDULES[cfg.schedule], cfg.momentum is None
    phases = make(cfg.epochs, rate, networks.PARTS, cycle_momentum, **cfg.schedule_options)
    return [replace(phase, frozen=True) for phase in phases] if cfg.frozen else phases


def _suggested_lr(learn: XrayLearner, run: TrainingRun, state: TrainingState) -> float | None:
    """The suggested learning rate, if a phase uses the finder; its curve is stored, so that a resumed run reuses it."""
    if "find" not in {phase.lr for phase in phases_of(run.cfg.train)}:
        return None
    path = state.folder / LR_CURVE
    if not distributed.everyones(path.is_file())[0]:
        curve = find_rate(learn, run)
        if distributed.is_main():
            tables.write(curve, path)
        distributed.barrier()
    return lr_find.suggestion(tables.read(path))


@contextmanager
def computing(learn: XrayLearner, run: TrainingRun) -> Iterator[None]:
    """Compute in as many threads as pay: what a head computes is less than what dividing it costs.

    Errors: TrainingError where memory runs out in a training step, with the batch size to try, and where the network
    cannot be compiled for `train.compile`.
    """
    inputs, threads = learn.dls.train_ds.inputs, torch.get_num_threads()
    vectors = isinstance(inputs, Features) and inputs.array.ndim == 2
    torch.set_num_threads(1 if vectors else run.hardware.threads)
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if memory.ran_out(error):
            raise TrainingError(_smaller(run.cfg.train.batch_size, run.cfg.train.grad_accum)) from error
        if run.cfg.train.compile and compiling.compiler_failed(error):
            raise TrainingError(_not_compiled(run.cfg.model.arch, error)) from error
        raise
    finally:
        torch.set_num_threads(threads)


def _not_compiled(arch: str, error: BaseException) -> str:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return f"train.compile: {arch} cannot be compiled on this machine ({reason}): set it to false"


def _smaller(batch_size: int, accumulate: int) -> str:
    half = batch_size // 2
    advice = (
        f"set it to {half}, and train.grad_accum to {accumulate * 2}, which takes the same steps"
        if half > 1
        else "set model.img_size lower, or take a smaller model.arch"
    )
    return f"memory ran out with train.batch_size {batch_size}: {advice}"


class _Stop(Callback):  # type: ignore[misc]
    """Ends a phase once `enough` says so."""

    order = 99

    def __init__(self, enough: Callable[[], bool]) -> None:
        self.enough = enough

    def after_epoch(self) -> None:
        if self.enough():
            raise CancelFitException


class _ReduceOnPlateau(Callback):  # type: ignore[misc]
    """Sets every epoch's rate after the losses of the phase's epochs so far.

    fastai's ReduceLROnPlateau counts anew where an interrupted run goes on.
    """

    order = 60

    def __init__(self, plateau: Plateau, losses: Callable[[], list[float]]) -> None:
        self.plateau, self.losses = plateau, losses

    def before_train(self) -> None:
        self.opt.set_hyper("lr", self.plateau.rate(self.losses()))


@dataclass
class PhasedFit:
    """A Learner, the phases to take it through, and how far it is.

    After `patience` epochs of the last phase without a better one the run stops. `watching` are callbacks that change
    nothing.
    """

    learn: XrayLearner
    phases: Sequence[Phase]
    state: TrainingState
    title: str
    patience: int | None = None
    watching: Sequence[Callback] = ()
    history: History = field(init=False)

    def run(self) -> None:
        """Train from wherever the run stands to the end of the last phase, or until it stops; then average."""
        self.history = History(self.state.rows)
        self.stateful = callbacks.stateful(self.learn)
        self.network = self.learn.model  # which an average may stand in for while it is scored
        self._resume()
        epochs_done, epochs = len(self.state.rows), sum(phase.epochs for phase in self.phases)
        self.started, self.seconds_before = time.monotonic(), self.state.seconds
        bar = EpochBar(self.title, epochs + len(self.state.averages), self.history, self.state.policy.monitor)
        # in place of fastai's bar, which begins anew in each phase and knows nothing of finished epochs
        with self.learn.no_bar(), self.learn.no_logging():
            reporters = [bar, *self.watching] if distributed.is_main() else []
            self.learn.add_cbs(cbs := [self.history, Checkpoint(self._save), *reporters])
            if distributed.is_main():
                bar.start(epochs_done)
            try:
                self._fit_phases(epochs_done)
                self._fit_averages()
            finally:
                bar.stop()
                self.learn.remove_cbs(cbs)

    def _resume(self) -> None:
        """Load the last finished epoch, if there is one."""
        saved, learn = self.state.load(), self.learn
        learn.dls.train.epoch = len(self.state.rows)
        if saved is None:
            return
        learn.scoring_batch = self.state.scoring_batch
        learn.model.load_state_dict(saved["model"])
        learn.model.to(learn.dls.device)
        learn.opt_func = self._phase_of(self.state.last).opt_func
        learn.create_opt()
        learn.opt.load_state_dict(saved["optimizer"])
        for callback in self.stateful:
            callback.load(saved[callback.saved_as])

    def _phase_of(self, epoch: int) -> Phase:
        for phase in self.phases:
            epoch -= phase.epochs
            if epoch < 0:
                break
        return phase

    def _save(self) -> None:
        self.state.seconds = self.seconds_before + time.monotonic() - self.started
        self.state.scoring_batch = self.learn.scoring_batch
        if distributed.is_main():
            carried = {callback.saved_as: callback.state() for callback in self.stateful}
            model, optimizer = self.network.state_dict(), optimizers.state(self.learn.opt)
            self.state.save(self.learn.model, model=model, optimizer=optimizer, **carried)
        distributed.barrier()  # averages read what is written here

    def _fit_phases(self, epochs_done: int) -> None:
        first = 0
        for phase in self.phases:
            end = first + phase.epochs
            if end > epochs_done and not self.state.averaged and not self._stops():
                self._fit_phase(phase, first, max(epochs_done - first, 0))
            first = end

    def _stops(self) -> bool:
        last_start = sum(phase.epochs for phase in self.phases[:-1])
        return self.state.out_of_patience(self.patience, last_start)

    def _fit_phase(self, phase: Phase, first: int, skip: int) -> None:
        """Call fastai's fit for one phase, with a new optimizer, or the saved one of a resumed phase."""
        # fastai's optimizers leave zeros where torch's leave nothing, and would go on decaying what is frozen from here
        # on; an interrupted run begins without gradients too
        self.learn.model.zero_grad(set_to_none=True)
        if skip == 0:
            self.learn.opt_func = phase.opt_func
            self.learn.create_opt()
        self.history.start_phase(phase.name)
        cbs = [ParamScheduler(phase.curves), *self._freezing(phase)]
        if phase is self.phases[-1]:
            cbs.append(_Stop(self._stops))
        if phase.plateau:
            loss = f"{self.state.policy.monitored_split}_loss"
            cbs.append(_ReduceOnPlateau(phase.plateau, lambda: [row[loss] for row in self.state.rows[first:]]))
        self.learn.fit(phase.epochs, cbs=cbs, start_epoch=skip)

    def _fit_averages(self) -> None:
        """Each average as an epoch of its own, without steps; those that the run has already are left alone."""
        moving = [callback for callback in self.learn.cbs if isinstance(callback, EMA)]
        with self.learn.removed_cbs(moving):
            for name in self.state.averages[len(self.state.averaged) :]:
                epochs = self.state.averaged_from(name)
                self.learn.model.load_state_dict(averaging.mean([self.state.weights(epoch) for epoch in epochs]))
                self.learn.model.to(self.learn.dls.device)
                self.history.start_phase(name)
                cbs = [averaging.UpdateBatchNorm(), *self._freezing(self.phases[-1])]
                self.learn.fit(1, lr=0.0, cbs=cbs)

    def _freezing(self, phase: Phase) -> list[Callback]:
        return [all_but_the_head(self.learn)] if phase.frozen else []
