"""The trials of a search: Optuna says what each tries, over a journal that survives a restart."""

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from xraylab.errors import XraylabError
from xraylab.params.search import Dimension, Range, Search, Values, applies, unconditional_first
from xraylab.search.screen import Screen, label

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "random": lambda seed: RandomSampler(seed=seed),
    "tpe": lambda seed: TPESampler(seed=seed),
}
STARTUP_TRIALS = 5  # finished before any is pruned
MAX_FAILURES = 3  # so many and no success: it is the search that is wrong, not the settings
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

Report = Callable[[int, int, float], None]  # epoch, of how many, metric; raises optuna.TrialPruned
Objective = Callable[[int, Values, Report], Awaitable[float]]  # the trial's number and values; its metric


class FailedError(Exception):
    """A trial could not be finished; its text says why."""


def open_study(journal: Path, name: str, metric: str) -> optuna.Study:
    """Open the search of that name with all trials that it has had; a new one where there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name=name,
        direction="minimize" if metric.endswith("_loss") else "maximize",
        pruner=MedianPruner(n_startup_trials=STARTUP_TRIALS),
        load_if_exists=True,
    )


def in_state(study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=states or None)


async def run(study: optuna.Study, search: Search, objective: Objective, screen: Screen) -> None:
    """Finish `search.trials` trials, first those that a stopped search left behind, with their number and values.

    Errors: XraylabError where the first ones all fail.
    """
    stopped = [Trial(study, trial._trial_id) for trial in reversed(in_state(study, TrialState.RUNNING))]
    failures: list[str] = []
    broken: tuple[BaseException, ...] = ()

    def hopeless() -> bool:
        return len(failures) >= MAX_FAILURES and not in_state(study, TrialState.COMPLETE)

    async def work() -> None:
        while not hopeless() and (stopped or len(in_state(study)) < search.trials):
            trial = stopped.pop() if stopped else ask(study, search)
            failures.extend(await _run_one(study, search, trial, objective, screen))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(search.workers):
                group.create_task(work())
    except* XraylabError as errors:
        broken = errors.exceptions
    if broken:
        raise broken[0]
    if hopeless():
        raise XraylabError(f"the search has ended, because its first {len(failures)} trials failed", failures)


async def _run_one(
    study: optuna.Study, search: Search, trial: Trial, objective: Objective, screen: Screen
) -> list[str]:
    """Run a trial and tell Optuna how it ended. Returns why it failed, where it did."""
    values, start = suggest(trial, search.space), time.monotonic()

    def report(epoch: int, epochs: int, metric: float) -> None:
        screen.epoch(trial.number, epoch, epochs, metric)
        known = in_state(study)[trial.number].intermediate_values  # from a caller that was stopped
        if search.prune and epoch not in known and should_prune(trial, epoch, epochs, metric):
            raise optuna.TrialPruned

    def tell(state: TrialState, outcome: str, metric: float | None = None) -> None:
        trial.set_user_attr("seconds", round(time.monotonic() - start, 1))
        study.tell(trial, metric, state=state)
        screen.trial_ended(trial.number, outcome, metric)

    screen.started(trial.number, label(trial.number, values))
    try:
        metric = await objective(trial.number, values, report)
    except optuna.TrialPruned:
        tell(TrialState.PRUNED, "behind the others, ended early")
    except FailedError as error:
        tell(TrialState.FAIL, "failed")
        screen.print(str(error))
        return [str(error)]
    else:
        tell(TrialState.COMPLETE, f"{screen.metric} {metric:.4f}", metric)
    return []


def ask(study: optuna.Study, search: Search) -> Trial:
    """The next trial. Its random numbers are a function of (seed, number), so that a restart draws the same ones."""
    seed = np.random.SeedSequence([search.seed, len(in_state(study))]).generate_state(1)[0]
    study.sampler = SAMPLERS[search.sampler](int(seed))
    return study.ask()


def suggest(trial: Trial, space: dict[str, Dimension]) -> Values:
    """The trial's value of every key, None where it does not apply; the same ones when asked again."""
    values: Values = {}
    for key, dimension in unconditional_first(space):
        values[key] = _suggest(trial, key, dimension) if applies(dimension, values) else None
    return values


def _suggest(trial: Trial, key: str, dimension: Dimension) -> Any:
    if not isinstance(dimension, Range):
        return json.loads(trial.suggest_categorical(key, [json.dumps(choice) for choice in dimension]))
    low, high = dimension.ends
    draw = trial.suggest_int if dimension.integer else trial.suggest_float
    return draw(key, low, high, log=dimension.log)


def should_prune(trial: Trial, epoch: int, epochs: int, value: float) -> bool:
    """True where `value`, after `epoch` of `epochs`, is behind the median of earlier trials at that epoch.

    Never in the first third, in which schedules warm up, nor after the last epoch.
    """
    if not math.isfinite(value):
        return epoch < epochs
    trial.report(value, epoch)
    return epochs / 3 < epoch < epochs and trial.should_prune()
