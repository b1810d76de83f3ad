"""The study's own files: params.yaml, saved states of trainings, and what killed processes have left."""

from collections.abc import Iterator
from pathlib import Path

from xraylab import leftovers, locks
from xraylab.doctor.finding import Finding, Subject
from xraylab.errors import XraylabError

PARAMS, STATES, LEFT = "params.yaml", "saved states", "left behind"


def check_params(subject: Subject) -> Iterator[Finding]:
    """params.yaml as every stage reads it."""
    if subject.paths is None:
        yield Finding(PARAMS, "ok", f"no params.yaml in {subject.folder}: the machine alone was examined")
        return
    from xraylab.params import config  # noqa: PLC0415 - takes half a second

    try:
        params = config.read(subject.paths.params)
    except XraylabError as error:
        yield Finding(PARAMS, "error", " ".join(str(error).split()), "mend it: docs/parameters.md lists every key")
        return
    number = len(params.experiments)
    yield Finding(PARAMS, "ok", f"{number} experiment{'s' if number > 1 else ''}, no error")


def check_states(subject: Subject) -> Iterator[Finding]:
    """Trainings that were interrupted: where each goes on, and whether its files are there."""
    yield from _states(subject, contents=False)


def check_states_deep(subject: Subject) -> Iterator[Finding]:
    """The same, and whether the files are what was saved."""
    yield from _states(subject, contents=True)


def _states(subject: Subject, contents: bool) -> Iterator[Finding]:
    if subject.paths is None:
        return
    from xraylab.train import generations  # noqa: PLC0415

    for folder in sorted((subject.paths.state / "runs").glob("*/")):
        if not (folder / generations.MANIFEST).exists():
            continue
        if locks.is_held(lock := folder.with_suffix(".lock")):
            yield Finding(STATES, "ok", f"{folder.name}: trains now{locks.holder(lock)}")
            continue
        try:
            problem, newest = generations.problem(folder, contents), generations.newest(folder)
        except (XraylabError, OSError) as error:
            problem, newest = str(error), None
        if problem:
            advice = "nothing to do: the training goes on from the epoch before, or begins anew"
            yield Finding(STATES, "warning", f"{folder.name}: {problem}", advice)
        elif newest is not None:
            yield Finding(STATES, "ok", f"{folder.name}: goes on after epoch {newest.epoch + 1}")


def check_left(subject: Subject) -> Iterator[Finding]:
    """Remove what is provably dead, and name what cannot be told."""
    root = subject.folder
    mended = leftovers.mend(root)
    if subject.paths is not None:
        for name in ("runs", "downloads"):
            mended += [
                f"removed {path}, a lock that nobody held" for path in locks.remove_free(subject.paths.state / name)
            ]
    yield from (Finding(LEFT, "ok", sentence) for sentence in mended)
    yield from (_foreign(path) for path, owner in leftovers.temporaries(root) if not owner.is_here)
    if not mended:
        yield Finding(LEFT, "ok", "no temporary files of killed processes, and no torn locks")


def _foreign(path: Path) -> Finding:
    return Finding(
        LEFT,
        "warning",
        f"{path} is of a process on another machine or in another container, which may still work",
        f"if it does not: rm -r {path}",
    )
