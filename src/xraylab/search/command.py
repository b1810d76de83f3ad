"""`xraylab search`: from params.yaml to finished trials."""

import hashlib
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.trial import TrialState

from xraylab import dvc_lock, locks
from xraylab.errors import DataError, ParamsError
from xraylab.jobs import cluster, pool, repro, session
from xraylab.jobs.cluster import Call
from xraylab.jobs.dvc import Dvc
from xraylab.jobs.engines.engine import Resources
from xraylab.jobs.job import Job
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.search import nodes, results, trials
from xraylab.search.experiment import Trainer
from xraylab.search.nodes import Nodes
from xraylab.search.screen import Screen
from xraylab.terminal import Console

DATA = ("split", "cache")  # the stages whose outputs a trial trains on


def run(params: Params, paths: Paths, call: Call | None, resources: Resources) -> None:
    """Finish the trials that params.yaml asks for, here or as jobs of a cluster, and write reports/search.

    `resources` of each job.

    Errors: ParamsError where it asks for none or for a search on test data; XraylabError where trials fail, or another
    search runs. A signal ends everything that was started here; finished trials remain, and so do jobs.
    """
    refuse(params)
    paths.searches.mkdir(parents=True, exist_ok=True)
    wait, busy = bool(call and call.wait), "another search runs in this study"
    with locks.held(paths.searches / "lock", busy, "wait for it, or stop it", wait):
        if call is None:
            here = "`xraylab search` goes on from here"
            repro.until_signal(paths.root, lambda dvc: _search(dvc, params, paths, resources), here)
            return
        with cluster.only_caller(paths, call.wait):
            begin = partial(nodes.begin, paths, call, nodes.check(paths, call))
            back = f"submitted jobs go on; {session.way_back(nodes.COMMAND, call.engine)}"
            repro.until_signal(paths.root, lambda dvc: _search(dvc, params, paths, Resources(), begin), back)


def with_workers(params: Params, workers: int) -> Params:
    """The same search with so many trials at once."""
    return params.model_copy(update={"search": params.search.model_copy(update={"workers": workers})})


def refuse(params: Params) -> None:
    """Errors: ParamsError where there is nothing to search, or nothing honest."""
    search = params.search
    if not search.space:
        raise ParamsError("search.space is empty: name keys and their values there; docs/search.md has examples")
    train = params.experiment(search.experiment).train
    if train.monitored_split == "test":
        raise ParamsError(
            f"a search in published mode is refused: train.monitor is {train.monitor} for {search.experiment}, so the "
            f"best of {search.trials} trials would be the one that suits the test images by chance, and no image would "
            f"be left to show it; set train.monitor to valid_{train.monitored_metric}"
        )


async def _search(
    dvc: Dvc, params: Params, paths: Paths, resources: Resources, begin: Callable[..., Awaitable[Nodes]] | None = None
) -> None:
    """`resources` of what is trained here; where nodes train, dvc here only restores."""
    search, repeat = params.search, params.study.repeats[0]
    target = f"train@{search.experiment}-{repeat}"
    graph = repro.parse_dag(await dvc.output("dag", "--dot"))
    await dvc.repro(*repro.prerequisites(graph, [Job((target,))]))
    metric = params.experiment(search.experiment).train.monitor
    key = identity(params, paths)
    study = trials.open_study(paths.searches / "journal.log", key, metric)
    name = partial(trial_name, key)
    cluster_nodes = await begin(dvc, graph, target, metric) if begin else None
    shares = pool.shares(search.workers, pool.gpus(), resources)
    existing, logs = await _existing(dvc, study), paths.searches / "logs"
    trainer = Trainer(
        dvc,
        search.experiment,
        repeat,
        metric,
        name,
        existing,
        shares,
        logs,
        cluster_nodes.train if cluster_nodes else None,
    )
    console, done = Console(stderr=True), len(trials.in_state(study, *trials.ENDED))
    screen = Screen(metric, search.trials, done, results.best(study), search.workers, console)
    before = set(_unfinished_runs(paths, target))
    try:
        with screen.shown():
            await trials.run(study, search, trainer, screen)
    finally:  # no earlier: dvc sets the workspace aside for a moment where an experiment begins
        results.write(study, search, name, metric, repeat, paths)
        if cluster_nodes:
            cluster_nodes.end()
    _remove(set(_unfinished_runs(paths, target)) - before)
    if best := results.best(study):
        console.print(
            f"the best: {name(best[1])}, {metric} {best[0]:.4f}\n"
            f"    dvc exp apply {name(best[1])}    # sets its parameters; then dvc repro",
            highlight=False,
            soft_wrap=True,
        )


def identity(params: Params, paths: Paths) -> str:
    """A name for the search: trials belong together where space, base settings and data are the same."""
    search = params.search
    stages = dvc_lock.entries(paths.lock)
    if missing := [stage for stage in DATA if not stages.get(stage, {}).get("outs")]:
        raise DataError(f"dvc.lock has no outputs of {', '.join(missing)}: run `dvc repro {' '.join(missing)}` first")
    facts = [
        search.model_dump(exclude={"trials", "workers", "prune"}),
        params.experiment(search.experiment).model_dump(),
        params.study.repeats[0],
        [stages[stage]["outs"] for stage in DATA],
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


def trial_name(key: str, number: int) -> str:
    """The name of a trial's DVC experiment."""
    return f"search-{key}-{number:03d}"


async def _existing(dvc: Dvc, study: optuna.Study) -> set[str]:
    """DVC's experiments by name, where one may be among them that a stopped search did not note."""
    if not trials.in_state(study, TrialState.RUNNING):
        return set()
    return set((await dvc.output("exp", "list", "--name-only", "--all-commits")).split())


def _unfinished_runs(paths: Paths, target: str) -> Iterator[Path]:
    """Folders from which unfinished trainings of the varied experiment could go on."""
    return (folder for folder in (paths.state / "runs").glob(f"{target.split('@')[1]}-*") if folder.is_dir())


def _remove(runs: set[Path]) -> None:
    """Those of pruned trials have no use; one in use is somebody else's."""
    for folder in runs:
        with suppress(Timeout), FileLock(folder.with_suffix(".lock"), timeout=0):
            shutil.rmtree(folder)
