"""What a search leaves for the report and for git: reports/search/trials.csv and reports/search/importance.json."""

from typing import Any

import optuna
import pandas as pd
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from xraylab import files, tables
from xraylab.params.search import Range, Search, Values
from xraylab.paths import Paths
from xraylab.search import sampling

STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "ended early", TrialState.FAIL: "failed"}
FEWEST = 4  # finished trials, below which an importance means nothing


def trials(study: optuna.Study, search: Search, name: Any) -> pd.DataFrame:
    """One row per trial that ended: name, state, figure (of the finished ones), epochs seen, seconds, values."""
    ended = study.get_trials(deepcopy=False, states=sampling.DONE)
    return pd.DataFrame([_row(trial, search, name(trial.number)) for trial in ended])


def _row(trial: FrozenTrial, search: Search, name: str) -> Values:
    figure = trial.value if trial.state == TrialState.COMPLETE else None
    reported = max(trial.intermediate_values, default=None)
    facts = {"trial": name, "state": STATES[trial.state], "figure": figure, "epochs_seen": reported}
    values = {key: sampling.value_of(trial, key, search.space[key]) for key in search.space}
    return facts | {"seconds": trial.user_attrs["seconds"]} | values


def importances(study: optuna.Study, seed: int) -> dict[str, float] | None:
    """Share of each key in the variance of the figure over the space, by functional ANOVA of a random forest.

    Hutter, Hoos and Leyton-Brown, ICML 2014, as Optuna computes it; over the keys that every trial has. None where too
    few trials are finished, or all have the same figure.
    """
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(finished) < FEWEST or len({trial.value for trial in finished}) == 1:
        return None
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))


def write(study: optuna.Study, search: Search, name: Any, figure: str, repeat: int, paths: Paths) -> None:
    """Both files, of all trials so far."""
    table = trials(study, search, name)
    if table.empty:
        return
    best = study.best_trial.number if (table["state"] == "finished").any() else None
    tables.write(table, paths.search / "trials.csv")
    files.write_json(
        {
            "experiment": search.experiment,
            "repeat": repeat,
            "figure": figure,
            "sampler": search.sampler,
            "seed": search.seed,
            "trials": search.trials,
            "best": None if best is None else name(best),
            "keys": {key: _scale(dimension) for key, dimension in search.space.items()},
            "importances": importances(study, search.seed),
        },
        paths.search / "importance.json",
    )


def _scale(dimension: Range | list[Any]) -> str:
    """How a chart draws the key."""
    if isinstance(dimension, Range):
        return "log" if dimension.log else "linear"
    return "choices"
