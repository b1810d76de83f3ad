"""Fuzzing: mutated files go through the code that reads them, which must end each time in a value or an XraylabError.

`python bench/fuzz.py TARGET ... | all --inputs N --seed S [--seconds T]`. Not part of `make bench`: 1,000,000 inputs
take one to two hours on two cores, by estimate. Input number n of a target is the same whatever the number of
processes. Each process has 1 GB of memory beside its libraries, and each input 10 s; an input that ends in a traceback,
dies, hangs or wants more memory is written to a folder, and the run goes on. `--repeat FILE TARGET` runs one file
alone. `--engine coverage` lets atheris (`pip install atheris`) choose inputs by the lines of Python that they reach,
and writes no result. Writes bench/results/fuzz.json.
"""

import argparse
import gc
import hashlib
import importlib
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from ctypes import Array, c_double
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random

import measure
from fuzz_mutations import Target, mutate
from measure import Gate

from xraylab.errors import XraylabError

MODULES = ("fuzz_images", "fuzz_weights", "fuzz_archives", "fuzz_texts")
"""Each has a dict TARGETS, name -> Target."""

MEMORY, SECONDS = 1 << 30, 10.0  # of one input, beside the libraries
BATCH = 4000  # inputs that one process reads: its memory is another's then, leaks and all
SIMILAR = 3  # files that are kept of one traceback
POLL = 0.05
ACCEPTED, REFUSED, TRACEBACK, MEMORY_OUT, HANG, DIED = (
    "accepted",
    "refused",
    "tracebacks",
    "over memory",
    "hangs",
    "died",
)
BAD = (TRACEBACK, MEMORY_OUT, HANG, DIED)
CONTEXT = multiprocessing.get_context("fork")  # libraries are imported once


def targets() -> dict[str, Target]:
    """All targets of all modules."""
    return {name: target for module in MODULES for name, target in importlib.import_module(module).TARGETS.items()}


def input_of(name: str, seeds: Sequence[bytes], target: Target, seed: int, number: int) -> bytes:
    """Mutate a seed file: always the same for one number."""
    return mutate(seeds, target.mutations, Random(f"{seed}/{name}/{number}"))


def outcome(target: Target, data: bytes) -> tuple[str, str]:
    """Run the code under test, and return what became of the input, and the traceback where there is one."""
    try:
        target.run(data)
    except XraylabError as error:
        return (MEMORY_OUT, _trace(error)) if _wants_memory(error) else (REFUSED, "")
    except MemoryError as error:
        return MEMORY_OUT, _trace(error)
    except Exception as error:  # what this looks for
        return (MEMORY_OUT if _wants_memory(error) else TRACEBACK), _trace(error)
    return ACCEPTED, ""


def _wants_memory(error: BaseException) -> bool:
    """Return whether an error hides that there was no memory: its limit here is what machines do not have."""
    cause = error.__cause__ or error.__context__
    return isinstance(error, MemoryError) or (cause is not None and _wants_memory(cause))


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


class Watch:
    """What a child says of itself while it works: the current input, since when, and counts."""

    FIELDS = ("number", "started", ACCEPTED, REFUSED, TRACEBACK, MEMORY_OUT, "slowest", "slowest_number", "finished")

    def __init__(self) -> None:
        self.values: Array[c_double] = CONTEXT.RawArray(c_double, len(self.FIELDS))

    def __getitem__(self, name: str) -> float:
        return float(self.values[self.FIELDS.index(name)])

    def __setitem__(self, name: str, value: float) -> None:
        self.values[self.FIELDS.index(name)] = value


@dataclass
class Job:
    """Some inputs of one target, and the folder for those that are to be kept."""

    name: str
    target: Target
    seeds: Sequence[bytes]
    seed: int
    numbers: range
    folder: Path

    def input(self, number: int) -> bytes:
        return input_of(self.name, self.seeds, self.target, self.seed, number)


def work(job: Job, watch: Watch) -> None:
    """Run all inputs of the job; in a child."""
    _confine()
    for number in job.numbers:
        data = job.input(number)
        watch["number"], watch["started"] = number, time.monotonic()
        what, trace = outcome(job.target, data)
        seconds = time.monotonic() - watch["started"]
        watch[what] += 1
        if seconds > watch["slowest"]:
            watch["slowest"], watch["slowest_number"] = seconds, number
        if what in BAD:
            keep(job, number, what, trace)
    watch["finished"] = 1


def _confine() -> None:
    """Bound memory, write no core, say nothing, and end at once when told to."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    gc.freeze()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nothing = os.open(os.devnull, os.O_WRONLY)  # decoders written in C complain on standard error
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


def keep(job: Job, number: int, what: str, trace: str) -> None:
    """Write an input and its traceback, few of those that end at the same line."""
    lines = [line for line in trace.splitlines() if line.startswith('  File "')]
    same = hashlib.sha256("\n".join([what, *lines[-2:], trace.partition(":")[0]]).encode()).hexdigest()[:8]
    folder = job.folder / job.name
    folder.mkdir(parents=True, exist_ok=True)
    kind = f"{what.replace(' ', '-')}-{same}"
    if len(list(folder.glob(f"{kind}-*.bin"))) < SIMILAR:
        (folder / f"{kind}-{number}.bin").write_bytes(job.input(number))
        (folder / f"{kind}-{number}.txt").write_text(trace)


@dataclass
class Child:
    """A process at work on a job."""

    job: Job
    watch: Watch = field(default_factory=Watch)
    process: BaseProcess | None = None

    def start(self) -> "Child":
        self.process = CONTEXT.Process(target=work, args=(self.job, self.watch))
        self.watch["number"], self.watch["started"] = self.job.numbers.start, time.monotonic()
        self.process.start()
        return self

    def ended(self) -> str | None:
        """None while it works; '' when all inputs are through; else why it stopped at the current one."""
        assert self.process is not None
        if not self.process.is_alive():
            self.process.join()
            return "" if self.watch["finished"] else DIED
        if time.monotonic() - self.watch["started"] > SECONDS and not self.watch["finished"]:
            self.process.kill()
            self.process.join()
            return HANG
        return None


def run(jobs: Iterator[Job], processes: int, until: float) -> tuple[dict[str, Counter[str]], dict[str, float]]:
    """Work on the jobs, so many at once, until there are none or the time is over; counts and slowest by target."""
    counts: dict[str, Counter[str]] = {}
    slowest: dict[str, float] = {}
    children: list[Child] = []
    while True:
        while len(children) < processes and time.monotonic() < until and (job := next(jobs, None)):
            children.append(Child(job).start())
        if not children:
            return counts, slowest
        for child in list(children):
            ended = child.ended()
            if ended is None and time.monotonic() < until + SECONDS:
                continue
            children.remove(child)
            rest = _collect(child, ended, counts.setdefault(child.job.name, Counter()), slowest)
            if rest and time.monotonic() < until:
                children.append(Child(rest).start())
        time.sleep(POLL)


def _collect(child: Child, ended: str | None, counts: Counter[str], slowest: dict[str, float]) -> Job | None:
    """Add up what a child did, and return what it left undone."""
    job, watch = child.job, child.watch
    assert child.process is not None
    if ended is None:
        child.process.kill()
        child.process.join()
    counts.update({what: int(watch[what]) for what in (ACCEPTED, REFUSED, TRACEBACK, MEMORY_OUT)})
    slowest[job.name] = max(slowest.get(job.name, 0.0), watch["slowest"])
    if not ended:
        return None
    number = int(watch["number"])
    counts[ended] += 1
    slowest[job.name] = max(slowest[job.name], SECONDS if ended == HANG else 0.0)
    keep(job, number, ended, f"{ended}: exit code {child.process.exitcode}\n")
    return replace(job, numbers=range(number + 1, job.numbers.stop))


def jobs_of(chosen: dict[str, Target], inputs: int, seed: int, folder: Path) -> Iterator[Job]:
    """All inputs in batches, the targets in turns, so that a run that time ends has looked at all of them."""
    seeds = {name: target.seeds() for name, target in chosen.items()}
    for name, target in chosen.items():
        refused = [number for number, data in enumerate(seeds[name]) if outcome(target, data)[0] != ACCEPTED]
        if refused:
            raise SystemExit(f"{name}: the seed files {refused} are not accepted: they are to be valid")
    each = -(-inputs // len(chosen))
    batch = min(BATCH, max(each // 2, 1))
    for start in range(0, each, batch):
        for name, target in chosen.items():
            yield Job(name, target, seeds[name], seed, range(start, min(start + batch, each)), folder)


def rows_of(counts: dict[str, Counter[str]], slowest: dict[str, float]) -> list[dict[str, object]]:
    kinds = (ACCEPTED, REFUSED, *BAD)
    return [
        {"target": name, "inputs": sum(count.values()), **{kind: count[kind] for kind in kinds},
         "slowest, s": round(slowest[name], 2)}
        for name, count in counts.items()
    ]  # fmt: skip


def repeat(name: str, target: Target, path: Path) -> int:
    """Run one file alone, and say what becomes of it; a death is this process's own."""
    start = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    what, trace = outcome(target, path.read_bytes())
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    print(f"{trace}{name}: {what}, {time.monotonic() - start:.2f} s, {memory} MiB")
    return what in BAD


def by_coverage(name: str, folder: Path, inputs: int, seed: int) -> int:
    """Let atheris choose inputs by the lines of Python that they reach; it starts again behind every crash."""
    corpus = folder / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(targets()[name].seeds()):
        (corpus / f"seed-{number}").write_bytes(data)
    command = [
        sys.executable, str(Path(__file__).parent / "fuzz_coverage.py"), name, str(corpus), f"-runs={inputs}",
        f"-seed={seed or 1}", f"-timeout={SECONDS:.0f}", "-rss_limit_mb=3072", f"-artifact_prefix={folder}/{name}-",
    ]  # fmt: skip
    return subprocess.run(command, check=False).returncode


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="+", help="names of targets, or all")
    parser.add_argument("--inputs", type=int, default=10_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so many, whatever is left")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir(), "xraylab-fuzz"), help="for inputs that are kept"
    )
    parser.add_argument("--repeat", type=Path, help="run this one file")
    parser.add_argument("--engine", choices=("mutations", "coverage"), default="mutations")
    parser.add_argument("--to", type=Path, help="folder of the result, for a trial")
    return parser.parse_args()


def main() -> int:
    options, known = arguments(), targets()
    names = list(known) if options.targets == ["all"] else options.targets
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"{', '.join(unknown)}: the targets are {', '.join(known)}")
    if options.repeat:
        return repeat(names[0], known[names[0]], options.repeat)
    if options.engine == "coverage":
        return max(by_coverage(name, options.folder, options.inputs, options.seed) for name in names)
    shutil.rmtree(options.folder, ignore_errors=True)
    jobs = jobs_of({name: known[name] for name in names}, options.inputs, options.seed, options.folder)
    start = time.monotonic()
    counts, slowest = run(jobs, options.processes, start + options.seconds)
    rows = rows_of(counts, slowest)
    for row in rows:
        measure.say(", ".join(f"{key} {value}" for key, value in row.items()))
    total = sum(count.total() for count in counts.values())
    measure.say(f"{total} inputs, {total / (time.monotonic() - start):.0f}/s; what is kept is in {options.folder}")
    gates = {kind: Gate(sum(count[kind] for count in counts.values()), most=0) for kind in BAD}
    return not measure.write("fuzz", {"Inputs": rows}, gates, to=options.to)


if __name__ == "__main__":
    sys.exit(main())
