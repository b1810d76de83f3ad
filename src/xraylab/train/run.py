"""One training run: a fastai Learner taken through its phases, resumable after every epoch."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from fastai.callback.core import Callback, CancelFitException, TrainEvalCallback
from fastai.callback.schedule import ParamScheduler
from fastai.data.core import DataLoaders
from fastai.learner import Learner

from xraylab.errors import TrainingError
from xraylab.model import memory, networks, optimizers
from xraylab.model.hardware import Hardware, memory_format
from xraylab.model.schedules import Phase, Plateau
from xraylab.train import blend, callbacks, frozen, state, steps
from xraylab.train.callbacks import Starts
from xraylab.train.precision import Autocast, LossScaling
from xraylab.train.record import Run
from xraylab.train.scored import HalvingLearner
from xraylab.train.source_losses import GroupDRO


@dataclass(frozen=True)
class Part:
    """A phase, and the optimizer that it begins with."""

    phase: Phase
    opt_func: Callable[..., Any]


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch compute with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def enough_memory(batch_size: int, accumulate: int) -> Iterator[None]:
    """Errors: TrainingError where memory runs out in a training step, with the batch size to try."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not memory.ran_out(error):
            raise
        half = batch_size // 2
        advice = (
            f"set it to {half}, and train.accumulate to {accumulate * 2}, which takes the same steps"
            if half > 1
            else "set model.pixels lower, or take a smaller model.arch"
        )
        raise TrainingError(f"memory ran out with train.batch_size {batch_size}: {advice}") from error


def learner(
    dls: DataLoaders,
    network: torch.nn.Module,
    loss: torch.nn.Module,
    opt_func: Callable[..., Any],
    hardware: Hardware,
    cbs: list[Any],
) -> HalvingLearner:
    """A fastai Learner whose optimizer sees every parameter alike: decay on all, nothing trained while frozen."""
    network = network.to(memory_format=memory_format(hardware.device))
    scaling = [LossScaling(hardware.device)] if hardware.precision == "float16" else []
    cbs = [TrainEvalCallback(), Autocast(hardware), *scaling, *cbs]
    return HalvingLearner(
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
    learn: HalvingLearner,
    parts: list[Part],
    run: Run,
    history: callbacks.History,
    drawn: Starts,
    seed: int,
    title: str,
    patience: int | None,
    average: steps.Average | None,
    watching: list[Callback],
) -> None:
    """Train from wherever `run` stands to the end of the last phase, or until it stops; then average what is asked.

    `patience`: after so many epochs of the last phase without a better one the run stops. `average` is scored and kept
    in the network's place; `watching` are callbacks that change nothing.
    """
    network = learn.model
    stateful = _stateful(learn)
    done = _resume(learn, parts, run, average)
    started, before = time.monotonic(), run.seconds

    def save() -> None:
        run.seconds = before + time.monotonic() - started
        run.scoring_batch = learn.scoring_batch
        own = {} if average is None else {"average": average.state()}
        own |= {name: callback.state() for name, callback in stateful.items()}
        run.save(learn.model, model=network.state_dict(), optimizer=optimizers.state(learn.opt), **own)

    epochs = sum(part.phase.epochs for part in parts)
    last_begins = epochs - parts[-1].phase.epochs
    bar = callbacks.Bar(title, epochs + len(run.averages), history, run.choice.select)
    learn.add_cbs([history, callbacks.Checkpoint(save), bar, *watching])
    bar.start(done)
    try:
        first = 0
        for part in parts:
            end = first + part.phase.epochs
            if end > done and not run.averaged and not run.stops(patience, last_begins):
                extra: list[Callback] = [] if average is None else [average]
                extra += [_Stop(lambda: run.stops(patience, last_begins))] if part is parts[-1] else []
                _fit_phase(learn, part, first, max(done - first, 0), history, drawn, seed, extra, run)
            first = end
        _fit_averages(learn, parts[-1].phase.frozen, history, drawn, seed, run)
    finally:
        bar.stop()


class _Stop(Callback):  # type: ignore[misc]
    """Ends a phase once `enough` says so."""

    order = 99

    def __init__(self, enough: Callable[[], bool]) -> None:
        self.enough = enough

    def after_epoch(self) -> None:
        if self.enough():
            raise CancelFitException


class _Follow(Callback):  # type: ignore[misc]
    """Sets every epoch's rate after the losses of the phase's epochs so far."""

    order = 60

    def __init__(self, plateau: Plateau, losses: Callable[[], list[float]]) -> None:
        self.plateau, self.losses = plateau, losses

    def before_train(self) -> None:
        self.opt.set_hyper("lr", self.plateau.rate(self.losses()))


def _fit_phase(
    learn: Learner,
    part: Part,
    first: int,
    skip: int,
    history: callbacks.History,
    drawn: Starts,
    seed: int,
    extra: list[Callback],
    run: Run,
) -> None:
    """One call of fastai's fit; a phase begins with a fresh optimizer, a resumed one goes on with its own."""
    phase = part.phase
    # fastai's optimizers leave zeros where torch's leave nothing, and would go on decaying what is frozen from here on;
    # an interrupted run begins without gradients too
    learn.model.zero_grad(set_to_none=True)
    if skip == 0:
        learn.opt_func = part.opt_func
        learn.create_opt()
    history.start_phase(phase.name)
    loss = f"{run.choice.watched}_loss"
    cbs = [callbacks.Reseed(seed, first, drawn), ParamScheduler(phase.curves), *extra, *held(learn, phase.frozen)]
    if phase.plateau:
        cbs.append(_Follow(phase.plateau, lambda: [row[loss] for row in run.rows[first:]]))
    learn.fit(phase.epochs, cbs=cbs, start_epoch=skip)


def _fit_averages(
    learn: Learner, head_alone: bool, history: callbacks.History, drawn: Starts, seed: int, run: Run
) -> None:
    """Each average as an epoch of its own, without steps; those that the run has already are left alone."""
    for name in run.averages[len(run.averaged) :]:
        learn.model.load_state_dict(blend.mean([run.weights(epoch) for epoch in run.sources(name)]))
        learn.model.to(learn.dls.device)
        history.start_phase(name)
        cbs = [callbacks.Reseed(seed, len(run.rows), drawn), blend.Refresh(), *held(learn, head_alone)]
        learn.fit(1, lr=0.0, cbs=cbs)


def held(learn: Learner, head_alone: bool) -> list[frozen.Frozen]:
    """What holds everything but the head still, where the head alone trains."""
    if not head_alone:
        return []
    return [frozen.Frozen([module for part in networks.groups(learn.model)[:-1] for module in part])]


def _stateful(learn: Learner) -> dict[str, LossScaling | GroupDRO]:
    """What carries something from one batch to the next: the scale of the loss in float16, the weights of groups."""
    return {callback.saved_as: callback for callback in learn.cbs if isinstance(callback, LossScaling | GroupDRO)}


def _resume(learn: HalvingLearner, parts: list[Part], run: Run, average: steps.Average | None) -> int:
    """Load the last finished epoch, if there is one, and return how many are finished."""
    saved = state.load(run.folder)
    stateful = _stateful(learn)
    if saved is None:
        for callback in stateful.values():
            callback.start()  # the learning rate finder took steps too
        return 0
    run.rows[:], run.seconds = saved["rows"], saved["seconds"]
    run.scoring_batch = learn.scoring_batch = saved["scoring_batch"]
    learn.model.load_state_dict(saved["model"])
    learn.model.to(learn.dls.device)
    learn.opt_func = _of_epoch(parts, run.last).opt_func
    learn.create_opt()
    learn.opt.load_state_dict(saved["optimizer"])
    if average is not None:
        average.load(saved["average"])
    for name, callback in stateful.items():
        callback.load(saved[name])
    return len(run.rows)


def _of_epoch(parts: list[Part], epoch: int) -> Part:
    for part in parts:
        epoch -= part.phase.epochs
        if epoch < 0:
            break
    return part
