"""`xraylab search`: from params.yaml to finished trials."""

import asyncio
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.trial import TrialState
from rich.console import Console

from xraylab import files
from xraylab.errors import ParamsError, XraylabError
from xraylab.jobs import dvc, machine, pipeline
from xraylab.jobs.dvc import Dvc
from xraylab.jobs.run import until_signal
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.search import experiment, loop, results, sampling
from xraylab.search.screen import Screen

DATA = ("split", "cache")  # the stages whose outputs a trial trains on


def run(given: Params, paths: Paths) -> None:
    """Finish the trials that params.yaml asks for, and write reports/search.

    Errors: ParamsError where it asks for none or for a search on test data; XraylabError where trials fail, or another
    search runs. A signal ends everything that was started; finished trials remain.
    """
    refuse(given)
    dvc.mend(paths.root)
    paths.searches.mkdir(parents=True, exist_ok=True)
    process = Dvc(paths.root)
    try:
        with FileLock(paths.searches / "lock", timeout=0):
            number = asyncio.run(until_signal(process, _search(process, given, paths)))
    except Timeout:
        raise XraylabError("another search runs in this study; wait for it, or stop it") from None
    if number:
        dvc.mend(paths.root)
        Console(stderr=True).print("stopped; `xraylab search` goes on from here", highlight=False)
        sys.exit(128 + number)


def refuse(given: Params) -> None:
    """Errors: ParamsError where there is nothing to search, or nothing honest."""
    search = given.search
    if not search.space:
        raise ParamsError("search.space is empty: name keys and their values there; docs/search.md has examples")
    if given.experiment(search.experiment).train.select_on == "test":
        raise ParamsError(
            f"a search in published mode is refused: train.select_on is test for {search.experiment}, so the best of "
            f"{search.trials} trials would be the one that suits the test images by chance, and no image would be left "
            "to show it; set train.select_on to valid"
        )


async def _search(process: Dvc, given: Params, paths: Paths) -> None:
    search, repeat = given.search, given.study.repeats[0]
    target = f"train@{search.experiment}-{repeat}"
    graph = pipeline.needs(await process.output("dag", "--dot"))
    await process.repro(*pipeline.before(graph, [(target,)]))
    figure = f"valid_{given.experiment(search.experiment).train.select_by}"
    key = identity(given, paths)
    study = sampling.opened(paths.searches / "journal.log", key, figure)
    name = partial(trial_name, key)
    devices = machine.gpus()
    runner = experiment.runner(
        process,
        search.experiment,
        repeat,
        figure,
        name,
        await _known(process, study),
        machine.shares(search.workers, devices),
        paths.searches / "logs",
    )
    console = Console(stderr=True)
    screen = Screen(figure, search.trials, _done(study), _best(study), search.workers, console)
    before = set(_runs(paths, target))
    try:
        with screen.shown():
            await loop.run(study, search, runner, screen)
    finally:  # no earlier: dvc sets the workspace aside for a moment where an experiment begins
        results.write(study, search, name, figure, repeat, paths)
    _forget(set(_runs(paths, target)) - before)
    _say(study, name, figure, console)


def identity(given: Params, paths: Paths) -> str:
    """A name for the search: trials belong together where space, base settings and data are the same."""
    search = given.search
    locked = files.read_yaml(paths.root / "dvc.lock")["stages"]
    facts = [
        search.model_dump(exclude={"trials", "workers", "prune"}),
        given.experiment(search.experiment).model_dump(),
        given.study.repeats[0],
        [locked[stage]["outs"] for stage in DATA],
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


def trial_name(key: str, number: int) -> str:
    """The name of a trial's DVC experiment."""
    return f"search-{key}-{number:03d}"


async def _known(process: Dvc, study: optuna.Study) -> set[str]:
    """DVC's names of experiments, where one may be among them that a stopped search did not note."""
    if not study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        return set()
    return set((await process.output("exp", "list", "--name-only", "--all-commits")).split())


def _runs(paths: Paths, target: str) -> Iterator[Path]:
    """Where unfinished trainings of the varied experiment could go on."""
    return (folder for folder in (paths.state / "runs").glob(f"{target.split('@')[1]}-*") if folder.is_dir())


def _forget(runs: set[Path]) -> None:
    """Those of the trials that were ended early have no use; one in use is somebody else's."""
    for folder in runs:
        with suppress(Timeout), FileLock(folder.with_suffix(".lock"), timeout=0):
            shutil.rmtree(folder)


def _done(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=sampling.DONE))


def _best(study: optuna.Study) -> tuple[float, int] | None:
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return (study.best_value, study.best_trial.number) if finished else None


def _say(study: optuna.Study, name: Callable[[int], str], figure: str, console: Console) -> None:
    if best := _best(study):
        console.print(
            f"the best: {name(best[1])}, {figure} {best[0]:.4f}\n"
            f"    dvc exp apply {name(best[1])}    # sets its parameters; then dvc repro",
            highlight=False,
            soft_wrap=True,
        )
