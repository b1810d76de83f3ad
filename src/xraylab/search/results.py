"""What a search leaves for the report and for git: reports/search/trials.csv and reports/search/importance.json."""

import json
from collections.abc import Callable
from typing import Any

import optuna
import pandas as pd
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from xraylab import files, tables
from xraylab.params.search import Dimension, Range, Search, Values
from xraylab.paths import Paths
from xraylab.search.screen import Best
from xraylab.search.trials import ENDED, in_state

STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "ended early", TrialState.FAIL: "failed"}
MIN_TRIALS = 4  # finished ones, below which an importance means nothing


def best(study: optuna.Study) -> Best | None:
    """Metric and number of the best finished trial."""
    return (study.best_value, study.best_trial.number) if in_state(study, TrialState.COMPLETE) else None


def write(
    study: optuna.Study, search: Search, name: Callable[[int], str], metric: str, repeat: int, paths: Paths
) -> None:
    """Write both files, of all trials so far."""
    rows = [_row(trial, search, name(trial.number)) for trial in in_state(study, *ENDED)]
    if not rows:
        return
    winner = best(study)
    facts = {
        "experiment": search.experiment,
        "repeat": repeat,
        "metric": metric,
        "sampler": search.sampler,
        "seed": search.seed,
        "trials": search.trials,
        "best": name(winner[1]) if winner else None,
        "keys": {key: _scale(dimension) for key, dimension in search.space.items()},
        "importances": importances(study, search.seed),
    }
    tables.write(pd.DataFrame(rows), paths.search / "trials.csv")
    files.write_json(facts, paths.search / "importance.json")


def _row(trial: FrozenTrial, search: Search, name: str) -> Values:
    """Name, state, metric (of a finished one), epochs seen, seconds, and the value of every key."""
    return {
        "trial": name,
        "state": STATES[trial.state],
        "value": trial.value if trial.state == TrialState.COMPLETE else None,
        "epochs_seen": max(trial.intermediate_values, default=None),
        "seconds": trial.user_attrs["seconds"],
        **{key: _value(trial, key, dimension) for key, dimension in search.space.items()},
    }


def _value(trial: FrozenTrial, key: str, dimension: Dimension) -> Any:
    """The value drawn for a key, None where it did not apply; a list of values as text."""
    value = trial.params.get(key)
    if value is None or isinstance(dimension, Range):
        return value
    choice = json.loads(value)
    return value if isinstance(choice, list) or choice is None else choice


def _scale(dimension: Dimension) -> str:
    """How a chart draws the key."""
    if isinstance(dimension, Range):
        return "log" if dimension.log else "linear"
    return "choices"


def importances(study: optuna.Study, seed: int) -> dict[str, float] | None:
    """Share of each key in the variance of the metric over the space, by functional ANOVA of a random forest.

    Hutter, Hoos and Leyton-Brown, ICML 2014, as Optuna computes it; over the keys that every trial has. None where too
    few trials are finished, or all have the same metric.
    """
    finished = in_state(study, TrialState.COMPLETE)
    if len(finished) < MIN_TRIALS or len({trial.value for trial in finished}) == 1:
        return None
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
