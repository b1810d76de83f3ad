"""A search from its first trial to its last: several at once, each judged by the validation side alone."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

import optuna
from optuna.trial import Trial, TrialState

from xraylab.errors import XraylabError
from xraylab.params.search import Search, Values
from xraylab.search import sampling
from xraylab.search.screen import Screen

SAME_MISTAKE = 3  # so many failures and no success: it is the search that is wrong, not the settings

Report = Callable[[int, int, float], None]  # epoch, of how many, figure; raises HopelessError
Runner = Callable[[int, Values, Report], Awaitable[float]]  # the trial's number and values; its figure


class HopelessError(Exception):
    """Ends a trial that fell behind."""


class FailedError(Exception):
    """A trial could not be finished; its text says why."""


async def run(study: optuna.Study, search: Search, runner: Runner, screen: Screen) -> None:
    """Finish `search.trials` trials, those that a stopped search left behind first.

    Errors: XraylabError where the first ones all fail.
    """
    again = deque(sampling.unfinished(study))
    failures: list[str] = []

    def following() -> Trial | None:
        if _useless(study, failures):
            return None
        if again:
            return again.popleft()
        asked = len(study.get_trials(deepcopy=False))
        return sampling.ask(study, search.sampler, search.seed) if asked < search.trials else None

    async def work() -> None:
        while trial := following():
            failures.extend(await _one(study, search, trial, runner, screen))

    async with asyncio.TaskGroup() as group:
        for _ in range(search.workers):
            group.create_task(work())
    if _useless(study, failures):
        raise XraylabError(f"the search has ended, because its first {len(failures)} trials failed", failures)


def _useless(study: optuna.Study, failures: list[str]) -> bool:
    return len(failures) >= SAME_MISTAKE and not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


async def _one(study: optuna.Study, search: Search, trial: Trial, runner: Runner, screen: Screen) -> list[str]:
    """Run a trial and note how it ended. Returns why it failed, where it did."""
    values = sampling.draw(trial, search.space)
    begin = time.monotonic()

    def report(epoch: int, epochs: int, figure: float) -> None:
        screen.epoch(trial.number, epoch, epochs, figure)
        if search.prune and sampling.hopeless(trial, epoch, epochs, figure):
            raise HopelessError

    screen.started(trial.number, values)
    try:
        figure = await runner(trial.number, values, report)
    except HopelessError:
        _tell(study, trial, TrialState.PRUNED, begin)
        screen.ended(trial.number, values, "behind the others, ended early")
    except FailedError as error:
        _tell(study, trial, TrialState.FAIL, begin)
        screen.ended(trial.number, values, "failed")
        return [str(error)]
    else:
        _tell(study, trial, TrialState.COMPLETE, begin, figure)
        screen.finished(trial.number, values, figure)
    return []


def _tell(study: optuna.Study, trial: Trial, state: TrialState, begin: float, figure: float | None = None) -> None:
    trial.set_user_attr("seconds", round(time.monotonic() - begin, 1))
    study.tell(trial, figure, state=state)
