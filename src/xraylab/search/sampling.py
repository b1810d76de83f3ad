"""Which settings come next, and which trials are hopeless: Optuna over a journal that survives a restart."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from xraylab.params.search import Dimension, Range, Search, Values, applies, ordered

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "random": lambda seed: RandomSampler(seed=seed),
    "tpe": lambda seed: TPESampler(seed=seed),
}
COMPARED = 5  # finished trials before any is ended early
DONE = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def opened(journal: Path, name: str, figure: str) -> optuna.Study:
    """The search of that name, with all trials that it has had; a new one where there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name=name,
        direction=direction(figure),
        pruner=MedianPruner(n_startup_trials=COMPARED),
        load_if_exists=True,
    )


def direction(figure: str) -> Literal["minimize", "maximize"]:
    return "minimize" if figure.endswith("_loss") else "maximize"


def unfinished(study: optuna.Study) -> list[Trial]:
    """Trials that a stopped search left behind. They keep number and values, and are done again."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [Trial(study, trial._trial_id) for trial in running]


def ask(study: optuna.Study, sampler: str, seed: int) -> Trial:
    """The next trial. Its random numbers are a function of (seed, number), so that a restart draws the same ones."""
    number = len(study.get_trials(deepcopy=False))
    study.sampler = SAMPLERS[sampler](int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
    return study.ask()


def draw(trial: Trial, space: dict[str, Dimension]) -> Values:
    """The trial's value of every key, None where it does not apply; the same ones when asked again."""
    drawn: Values = {}
    for key, dimension in ordered(space):
        drawn[key] = _value(trial, key, dimension) if applies(dimension, drawn) else None
    return drawn


def _value(trial: Trial, key: str, dimension: Dimension) -> Any:
    if isinstance(dimension, Range):
        low, high = dimension.ends
        if dimension.integer:
            return trial.suggest_int(key, low, high, log=dimension.log)
        return trial.suggest_float(key, low, high, log=dimension.log)
    return json.loads(trial.suggest_categorical(key, [json.dumps(choice) for choice in dimension]))


def value_of(trial: FrozenTrial, key: str, dimension: Dimension) -> Any:
    """What was drawn for a key, None where it did not apply; a list of values as text."""
    value = trial.params.get(key)
    if value is None or isinstance(dimension, Range):
        return value
    choice = json.loads(value)
    return value if isinstance(choice, list) or choice is None else choice


def hopeless(trial: Trial, epoch: int, epochs: int, value: float) -> bool:
    """Whether a trial, with `value` after `epoch` of `epochs`, is behind the median of earlier ones at that epoch.

    Never in the first third, in which schedules warm up, nor after the last epoch.
    """
    if not math.isfinite(value):
        return epoch < epochs
    trial.report(value, epoch)
    return epochs / 3 < epoch < epochs and trial.should_prune()


def left(study: optuna.Study, search: Search) -> int:
    """How many trials are still to be finished."""
    return max(0, search.trials - len(study.get_trials(deepcopy=False, states=DONE)))
