"""DVC's cache, object by object: damaged ones, which DVC itself would check out, and absent ones."""

from collections.abc import Iterator, Sequence

from xraylab.doctor.finding import Finding, Subject
from xraylab.integrity import objects
from xraylab.integrity.objects import Damaged

NAME = "cache"
SHOWN = 20
RESTORE = "`dvc fetch` and `dvc checkout --force` bring it back from a remote; without one, `dvc repro` makes it anew"


def check(subject: Subject) -> Iterator[Finding]:
    """Hash every object; a damaged one is mended from the workspace, or moved aside."""
    if subject.paths is None or not (subject.folder / "dvc.yaml").is_file():
        return
    result = objects.scan(subject.paths)
    whole = result.checked - len(result.damaged)
    yield Finding(NAME, "ok", f"{whole:,} of {result.checked:,} objects in {result.cache.folder} are whole")
    yield from map(_of_damaged, result.damaged)
    if result.uncached:
        yield Finding(
            NAME,
            "warning",
            f"{_some(result.uncached)}: the cache does not hold it",
            "`dvc fetch` brings it from a remote; `dvc commit` takes it from the workspace, after `xraylab verify`",
        )
    if result.not_pulled:
        yield Finding(
            NAME, "ok", f"{_some(result.not_pulled)}: not on this machine, `dvc pull` brings it from a remote"
        )


def _of_damaged(damaged: Damaged) -> Finding:
    name = f"{_some(damaged.paths) or 'nothing that dvc.lock names'}: object {damaged.md5} was damaged"
    if damaged.mended:
        return Finding(NAME, "warning", f"{name}, and is mended with the same bytes from the workspace")
    if damaged.aside:
        advice = RESTORE if damaged.paths else ""
        return Finding(NAME, "error" if damaged.paths else "warning", f"{name}, and is now {damaged.aside}", advice)
    advice = "whoever owns it must remove it; then " + RESTORE
    return Finding(NAME, "error", f"{name}, and cannot be moved ({damaged.problem})", advice)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
