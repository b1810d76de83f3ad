"""The shards of `index` and `cache` as jobs of a cluster whose nodes see the study's folder; DVC's stage joins them."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from xraylab.errors import DataError, MissingError, XraylabError
from xraylab.jobs.engines.engine import FINAL, Command, Engine, Resources, State, Status
from xraylab.paths import Paths

STAGES = ("index", "cache")
EVERY = 2.0  # seconds between two looks
TAIL = 10  # lines of a failed job's log
IN_FOLDER = "import os, sys; os.chdir(sys.argv[1]); os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
"""For `python -c`: run python with the other arguments in the folder that the first one names."""


def commands(paths: Paths, stage: str, parts: int) -> list[Command]:
    """One for each part, which runs in the study's folder. Errors: DataError, and MissingError before `fetch`."""
    if stage not in STAGES:
        raise DataError(f"{stage} has no shards: write {' or '.join(STAGES)}")
    needed = {paths.raw: "fetch"} | ({paths.index: "index"} if stage == "cache" else {})
    for path, maker in needed.items():
        if not path.exists():
            raise MissingError(f"{path} does not exist: `dvc repro {maker}` makes it")
    root = paths.root.resolve()
    start = (sys.executable, "-c", IN_FOLDER, str(root), *(("src",) if paths.has_code else ("-m", "xraylab")))
    return [
        Command(f"{stage}-{part}-of-{parts}", (*start, stage, "--part", f"{part}/{parts}"))
        for part in range(1, parts + 1)
    ]


def run(jobs: list[Command], engine: Engine, resources: Resources, folder: Path, tell: Callable[[str], object]) -> None:
    """Run all of them, and return when they are done; `tell` hears of each. An interrupt cancels them.

    Errors: XraylabError with the end of the log of each that failed; what is finished remains, for another call.
    """
    engine.check(resources)
    ids = engine.submit(jobs, resources, folder)
    names = dict(zip(ids, (job.name for job in jobs), strict=True))
    failed = {}
    try:
        for id_, status in _ended(engine, ids):
            reason = f" ({status.reason})" if status.reason else ""
            tell(f"{names[id_]}: {status.state}{f' on {status.node}' if status.node else ''}{reason}")
            if status.state != State.DONE:
                failed[id_] = status
    except KeyboardInterrupt:
        engine.cancel(ids)
        raise XraylabError("cancelled: finished shards are kept, and the same command goes on") from None
    if failed:
        ends = ["\n".join([names[id_], *engine.log(id_, folder).splitlines()[-TAIL:]]) for id_ in failed]
        raise XraylabError(
            f"{len(failed)} of {len(jobs)} parts are not finished; finished shards are kept, and the same command goes "
            f"on. The logs are in {folder}:",
            ends,
        )


def _ended(engine: Engine, ids: list[str]) -> Iterator[tuple[str, Status]]:
    """Each job once it has ended."""
    left = list(ids)
    while left:
        ended = {id_: each for id_, each in engine.status(left).items() if each.state in FINAL}
        yield from ended.items()
        left = [id_ for id_ in left if id_ not in ended]
        if left:
            time.sleep(EVERY)
