"""What an engine and DVC add to each job: 10, 100 and 1,000 jobs that sleep, on a real Ray and a real SLURM.

`python bench/engines.py [ray] [slurm] [dvc] [--whole]`, at most 10 minutes on two quiet cores; not part of `make
bench`. Each engine has two nodes of one core on this machine. Without --whole, 100 s are watched of each size, and the
rate at which jobs end while all wait is measured; with it all jobs run to their end. At the rates measured so far
(docs/scaling.md) 1,000 jobs take Ray 18 minutes and SLURM 34, and with 10 and 100 of them both engines one hour. DVC:
what a job's clone, `dvc repro --pull` and `dvc push --run-cache` take beside its stage, as the study and what others
have pushed grow, and what several dvc in one repository wait for one another. Writes bench/results/engines.json.
"""

import argparse
import logging
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import measure
import psutil

from xraylab.jobs.engines import ENGINES
from xraylab.jobs.engines.engine import FINAL, Command, Resources, State

sys.path.insert(0, str(measure.REPOSITORY / "tests/helpers"))
import small

SIZES = (10, 100, 1000)
SLOTS = 2  # jobs at once
SLEEP = 0.1
CAP = 100.0  # seconds for one size, unless all are waited for
POLL = 1.0
SIDE_BY_SIDE = 8
WAITING, SETTLED, WATCHED = (0, 100, 400), 5.0, 10.0
DVC_YAML = """stages:
  train:
    matrix:
      experiment: ${{experiments}}
    cmd: python -I -S -c 'import sys, time; time.sleep(1); print(sys.argv[1])' ${{item.experiment}} > ${{item.experiment}}.txt
    outs:
      - ${{item.experiment}}.txt
vars: [{{experiments: [{experiments}]}}]
"""  # noqa: E501 - a command of dvc.yaml is one line
JOBS = "jobs that sleep for 0.1 s on two nodes of one core"
ENTRY = "cmd: train\nouts:\n- path: x.txt\n  md5: 0123456789abcdef0123456789abcdef\n  size: 1\n"

Row = dict[str, Any]


@contextmanager
def ray_cluster() -> Iterator[Resources]:
    from ray_cluster import RayCluster  # noqa: PLC0415 - a part of its own

    cluster = RayCluster()
    try:
        cluster.add("n2")
        yield Resources(options={"address": cluster.address})
    finally:
        cluster.stop()


@contextmanager
def slurm_cluster() -> Iterator[Resources]:
    from slurm_cluster import SlurmCluster  # noqa: PLC0415 - a part of its own

    with tempfile.TemporaryDirectory() as folder:
        cluster = SlurmCluster(Path(folder), nodes=SLOTS)
        try:
            cluster.start()
            os.environ |= cluster.environment
            yield Resources()
        finally:
            cluster.stop()


def engine_rows(name: str, cluster: Callable[[], Any], seconds: float) -> list[Row]:
    """One row per size, none of which is watched for longer."""
    with cluster() as resources, tempfile.TemporaryDirectory() as folder:
        return [engine_row(name, resources, size, Path(folder), seconds) for size in SIZES]


def engine_row(name: str, resources: Resources, size: int, folder: Path, longest: float) -> Row:
    """Submit `size` jobs, and wait until all have ended or the time is over."""
    engine = ENGINES[name]()
    start = time.monotonic()
    ids = engine.submit([Command(f"sleep-{n}", ("sleep", str(SLEEP))) for n in range(size)], resources, folder)
    submitted = time.monotonic() - start
    done, query_seconds = 0, list[float]()
    while done < size and time.monotonic() - start < longest:
        time.sleep(POLL)
        begin = time.monotonic()
        states = [status.state for status in engine.status(ids).values()]
        query_seconds.append(time.monotonic() - begin)
        done = sum(state in FINAL for state in states)
        if wrong := {state for state in states if state in FINAL and state != State.DONE}:
            raise RuntimeError(f"{name}: jobs that only sleep ended {wrong}")
    seconds = time.monotonic() - start
    measure.say(f"{name}: {done} of {size} jobs in {seconds:.1f} s, submitted in {submitted:.1f} s")
    engine.cancel(ids)
    settle(engine, ids)
    return {
        "engine": name,
        "jobs": size,
        "submit, ms per job": 1000 * submitted / size,
        "done": done,
        "seconds": seconds,
        "jobs/s": done / seconds,
        "overhead per job, s": SLOTS * seconds / done - SLEEP if done else None,
        "to ask for all, ms": 1000 * sorted(query_seconds)[len(query_seconds) // 2],
    }


def settle(engine: Any, ids: list[str]) -> None:
    """Wait until no job of this size is left that could slow the next one down."""
    end = time.monotonic() + 30
    while time.monotonic() < end and any(status.state not in FINAL for status in engine.status(ids).values()):
        time.sleep(POLL)


def waiting_rows() -> list[Row]:
    """Cores that the processes of Ray's head keep busy while jobs wait, with nothing else to do."""
    rows, waiting = list[Row](), 0
    with ray_cluster() as resources, tempfile.TemporaryDirectory() as folder:
        engine = ENGINES["ray"]()
        engine.submit([Command("busy", ("sleep", "1000"))] * SLOTS, resources, Path(folder))
        head = next(child for child in psutil.Process().children() if "--head" in child.cmdline())
        for size in WAITING:
            engine.submit([Command("waits", ("true",))] * (size - waiting), resources, Path(folder))
            waiting = size
            time.sleep(SETTLED)
            before, start = processor_seconds(head), time.monotonic()
            time.sleep(WATCHED)
            cores = (processor_seconds(head) - before) / (time.monotonic() - start)
            measure.say(f"ray, {size} jobs wait: {cores:.3f} cores")
            rows.append({"jobs that wait": size, "cores of the head": cores})
    return rows


def processor_seconds(top: psutil.Process) -> float:
    """Of a process and all below it that live."""
    total = 0.0
    for process in [top, *top.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:2])
    return total


def dvc_rows() -> list[Row]:
    """One row per size of the study, each for one job in a clone of its own."""
    from s3_server import S3Server  # noqa: PLC0415 - a part of its own

    with S3Server() as s3:
        counter = Counter()
        logging.getLogger("werkzeug").handlers = [counter]
        os.environ |= s3.environment
        return [dvc_row(size, s3, counter) for size in SIZES]


class Counter(logging.Handler):
    """Counts the requests that a server logs."""

    requests = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.requests += 1


def dvc_row(size: int, s3: Any, counter: Counter) -> Row:
    """Seconds with a folder as the remote, and the number of requests with an S3 server."""
    row: Row = {"entries in the remote's run cache": size}
    with tempfile.TemporaryDirectory() as folder:
        for where in ("a folder", "S3"):
            root = project(Path(folder, where), size, s3 if where == "S3" else None)
            clone = Path(folder, where, "clone")
            for what, command in (
                ("clone", ["git", "clone", "--quiet", str(root), str(clone)]),
                ("repro --pull", dvc("repro", "--pull", "--single-item", "train@e0")),
                ("push --run-cache", dvc("push", "--run-cache", "train@e0")),
            ):
                start, before = time.monotonic(), counter.requests
                subprocess.run(command, cwd=root if what == "clone" else clone, check=True, capture_output=True)
                if where == "a folder":
                    row[f"{what}, s"] = time.monotonic() - start
                elif what != "clone":
                    row[f"{what}, requests to S3"] = counter.requests - before
    measure.say(f"dvc: {row}")
    return row


def lock_rows() -> list[Row]:
    """Several dvc at once, each on a stage of its own: in one repository, and in a clone each."""
    rows = []
    for jobs in (1, 2, 4, SIDE_BY_SIDE):
        with tempfile.TemporaryDirectory() as folder:
            root = project(Path(folder), SIDE_BY_SIDE)
            clones = [Path(folder, f"clone{n}") for n in range(jobs)]
            for clone in clones:
                subprocess.run(["git", "clone", "--quiet", root, clone], check=True)
            row = {"dvc at once": jobs, "one repository, s": at_once([root] * jobs), "clones, s": at_once(clones)}
            measure.say(f"locks: {row}")
            rows.append(row)
    return rows


def at_once(folders: list[Path]) -> float:
    start = time.monotonic()
    with ThreadPoolExecutor(len(folders)) as pool:
        commands = [dvc("--wait-for-lock", "repro", "--single-item", f"train@e{n}") for n in range(len(folders))]
        list(
            pool.map(
                lambda command, where: subprocess.run(command, cwd=where, check=True, capture_output=True),
                commands,
                folders,
            )
        )
    return time.monotonic() - start


def dvc(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dvc", "--quiet", *arguments]


def project(folder: Path, size: int, s3: Any = None) -> Path:
    """A study of `size` stages, whose remote, a folder or one of the server's, holds as many entries of run cache."""
    root, remote = folder / "study", folder / "remote"
    root.mkdir(parents=True)
    experiments = ", ".join(f"e{n}" for n in range(size))
    (root / "dvc.yaml").write_text(DVC_YAML.format(experiments=experiments))
    for command in (["git", "init", "--quiet"], dvc("init")):
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    local = f"[core]\n    remote = store\n['remote \"store\"']\n    url = {remote}\n"
    (root / ".dvc/config").write_text(s3.config(f"study{size}") if s3 else local)
    small.commit(root)
    for n in range(size):
        name, other = f"{n:064x}"[::-1], f"{n + 1:064x}"[::-1]
        key = f"runs/{name[:2]}/{name}/{other}"
        if s3:
            s3.client.put_object(Bucket="bucket", Key=f"study{size}/{key}", Body=ENTRY)
        else:
            (remote / key).parent.mkdir(parents=True)
            (remote / key).write_text(ENTRY)
    return root


PARTS: dict[str, Callable[[float], measure.Tables]] = {
    "ray": lambda seconds: {
        f"Ray: {JOBS}": engine_rows("ray", ray_cluster, seconds),
        "Cores that the processes of Ray's head keep busy": waiting_rows(),
    },
    "slurm": lambda seconds: {f"SLURM: {JOBS}": engine_rows("slurm", slurm_cluster, seconds)},
    "dvc": lambda seconds: {
        "DVC for one job in a clone of its own, a second of work included": dvc_rows(),
        "Several dvc at once, each on a stage of one second": lock_rows(),
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", help=f"{', '.join(PARTS)}; by default all")
    parser.add_argument("--whole", action="store_true", help="until every job has ended")
    given = parser.parse_intermixed_args()
    if unknown := [name for name in given.part if name not in PARTS]:
        parser.error(f"{unknown[0]} is no part; there are {', '.join(PARTS)}")
    seconds = math.inf if given.whole else CAP
    tables = {title: rows for part in given.part or PARTS for title, rows in PARTS[part](seconds).items()}
    sys.exit(0 if measure.write("engines", tables, {}) else 1)


if __name__ == "__main__":
    main()
