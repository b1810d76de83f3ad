"""Mutation testing: small faults are put into the code that numbers come from, and the tests must notice them.

`python bench/mutants.py --mutants N --seed S`. Not part of `make bench`: 300 mutants take an hour or so on two cores,
by estimate. They are drawn evenly from all mutants of PARTS (bench/mutants_operators.py says what is changed), in a
random order, so that those tried by the time a run is stopped are a random sample too. The tests of these parts are run
once to see which lines each passes; then each mutant is run against the quick tests that pass its lines, the fastest
first, until one fails. A mutant that no test fails survives, also where no test passes its lines, where only a slow one
would have noticed, or where QUICK seconds of tests do not suffice. One that computes much longer than its tests did
without it is a timeout, and counts as killed. bench/mutants_equivalent.toml names those that change nothing that
anybody could see, with the reason; they are counted apart. What is known of each mutant is kept in `--folder`: the same
command goes on where it was stopped, and tries survivors again once tests have changed. Writes
bench/results/mutants.json.

Why no library: mutmut 3 writes a copy of the source tree with all mutants in it, and knows tests by the functions that
they call; cosmic-ray runs one command, all tests, for each mutant. Here one process imports the tests and all that they
need, and forks for each mutant; in the fork the changed function gets its code in place, and a handful of tests is run.
If they pass, or what is changed runs at import, an import hook gives the fork the changed module, and everything of
ours is imported anew. Nothing is written into src. What runs in a process of its own does not see the mutant, so that
train.launch, train.parallel and train.fit_batch, which are about processes, are left out.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Any

import measure
import mutants_operators as operators
import mutants_tests
from measure import Gate
from mutants_operators import Mutant
from mutants_tests import Collected

SOURCE = measure.REPOSITORY / "src/xraylab"
EQUIVALENT = Path(__file__).with_name("mutants_equivalent.toml")
OURS = ("src", "tests", "docs")  # imported anew, where need be, to see a mutant

LEAST = 0.9  # of the mutants, equivalent ones apart, that are killed
LONG = 5.0  # a test that computes for longer is not run for a mutant
QUICK = 30.0  # all tests of a mutant together, as long as they took without it
IMPORTS = 20.0  # what importing takes at most
SLOWER = 4.0  # a mutant may take so many times as long before it is ended
HANGS = 3600.0  # a mutant that only waits; a busy machine is no reason
POLL = 0.05
KILLED, TIMEOUT, SURVIVED, EQUIVALENT_ONE = "killed", "timeouts", "survived", "equivalent"
CONTEXT = multiprocessing.get_context("fork")  # libraries are imported once


@dataclass(frozen=True)
class Part:
    """Modules below src/xraylab, and the tests that are to notice what changes in them, below tests."""

    modules: list[str]
    tests: list[str]


def _in(folder: str, names: str) -> list[str]:
    return [f"{folder}{name}" for name in names.split()]


PARTS = {
    "split": Part(
        _in("data/split/", "assignment leakage lists multi_label strategies stratification"),
        _in("data/test_", "leakage leave_one_source_out multi_label several_sources split split_findings split_lists"),
    ),
    "augmentation": Part(["data/augment"], _in("data/test_", "augment")),
    "sampling": Part(
        ["data/sampling", "data/dataloaders"], _in("data/test_", "dataloaders multi_label sampling several_sources")
    ),
    "schedules": Part(["model/schedules"], ["model/test_schedules", "train/test_phases"]),
    "train": Part(
        _in("train/", "averaging callbacks fit generations history learner lr_find outputs run source_losses")
        + _in("train/", "state trackers"),
        _in("train/test_", "accumulate generations large_networks learner mixing phases source_losses training")
        + _in("train/test_", "training_of_findings ways"),
    ),
    "evaluate": Part(
        _in("evaluate/", "calibration comparisons config confusion headline intervals macro metrics operating_points")
        + _in(
            "evaluate/", "power predictions resampling samples scores significance study subgroups tables temperature"
        )
        + _in("evaluate/multi_label/", "comparisons ensemble metrics samples study subgroups tables"),
        _in("evaluate/test_", "calibration demographics evaluate finding_comparisons findings folds intervals macro")
        + _in("evaluate/test_", "operating paired power rates"),
    ),
    "numbers of the report": Part(
        _in("report/", "metric_tables participants plot_tables records summary text multi_label/tables"),
        _in("report/test_", "external_report findings_page paper plots report report_sections report_training verdict"),
    ),
}
Parts = Mapping[str, Part]


def modules_of(parts: Parts) -> list[str]:
    return [name for part in parts.values() for name in part.modules]


def tests_of(parts: Parts) -> list[str]:
    """Files of tests, as pytest names them."""
    return list(dict.fromkeys(f"tests/{name}.py" for part in parts.values() for name in part.tests))


@dataclass
class Tests:
    """Which test passes which lines, and how long it takes."""

    tests: dict[str, dict[str, Any]]
    fixtures: dict[str, dict[str, Any]]

    @cached_property
    def passing(self) -> dict[str, dict[int, set[str]]]:
        """File and line to tests, also those whose fixtures, shared with others, pass the line."""
        found: dict[str, dict[int, set[str]]] = {}
        for name, test in self.tests.items():
            for record in (test, *(self.fixtures[key] for key in test["fixtures"] if key in self.fixtures)):
                for path, lines in record["lines"].items():
                    for line in lines:
                        found.setdefault(path, {}).setdefault(line, set()).add(name)
        return found

    def covering(self, mutant: Mutant) -> tuple[list[str], float]:
        """The tests that may notice, the fastest first, in QUICK seconds; and their seconds."""
        by_line = self.passing.get(str(SOURCE / f"{mutant.module}.py"), {})
        lines = mutant.lines or by_line  # any, for what runs at import
        tests = {test for line in lines for test in by_line.get(line, ())}
        chosen, prepared, seconds = [], set[str](), 0.0
        for name in sorted(tests, key=lambda test: (self._alone(test), test)):
            new = [key for key in self.tests[name]["fixtures"] if key not in prepared]
            spent = self.tests[name]["seconds"] + sum(self._fixture(key) for key in new)
            if seconds + spent > QUICK and chosen:
                continue
            chosen.append(name)
            prepared.update(new)
            seconds += spent
        return chosen, seconds

    def _alone(self, test: str) -> float:
        return float(self.tests[test]["seconds"] + sum(self._fixture(key) for key in self.tests[test]["fixtures"]))

    def _fixture(self, key: str) -> float:
        return float(self.fixtures.get(key, {"seconds": 0.0})["seconds"])


def digest(paths: Iterable[Path]) -> str:
    """A fingerprint of what stands in files."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sorted(paths))).hexdigest()[:16]


def lines_of_tests(collected: Collected, parts: Parts, folder: Path, processes: int) -> Tests:
    """Run each file of tests under a tracer, unless that was done since it or the source changed."""
    files = [SOURCE / f"{name}.py" for name in modules_of(PARTS)]  # of all, to serve other parts later
    source = digest(files)
    waiting, records = [], []
    for test in tests_of(parts):
        to = folder / "lines" / f"{Path(test).stem}-{source}-{digest([measure.REPOSITORY / test])}.json"
        to.parent.mkdir(exist_ok=True)
        records.append(to)
        if not to.is_file():
            arguments = (collected, folder / "trace" / to.stem, test, files, LONG, to)
            waiting.append(CONTEXT.Process(target=mutants_tests.measure_lines, args=arguments, name=test))
    running: list[BaseProcess] = []
    while waiting or running:
        while waiting and len(running) < processes:
            running.append(waiting.pop(0))
            running[-1].start()
        for process in [process for process in running if not process.is_alive()]:
            running.remove(process)
            measure.say(f"{process.name}: exit code {process.exitcode}, {len(waiting) + len(running)} files to go")
        time.sleep(POLL)
    all_tests, fixtures = {}, {}
    for to in records:
        if not to.is_file():
            raise SystemExit(f"{to} was not written; {folder / 'trace' / to.stem / 'log.txt'} says why")
        record = json.loads(to.read_text())
        all_tests |= record["tests"]
        fixtures |= {key: each for key, each in record["fixtures"].items() if key not in fixtures or each["lines"]}
    return Tests(all_tests, fixtures)


def drawn(parts: Parts, number: int, seed: int) -> list[Mutant]:
    """So many of all mutants, in a random order."""
    names = modules_of(parts)
    every = [mutant for name in names for mutant in operators.mutants(name, (SOURCE / f"{name}.py").read_text())]
    measure.say(f"{len(every)} mutants of {len(names)} modules")
    return Random(seed).sample(every, min(number, len(every)))


@dataclass
class Child:
    """A process that tries a mutant."""

    mutant: Mutant
    folder: Path
    tests: list[str]
    seconds: float
    started: float = 0.0
    process: BaseProcess | None = None

    def start(self, collected: Collected) -> "Child":
        self.started = time.monotonic()
        if not self.tests:
            return self
        path = SOURCE / f"{self.mutant.module}.py"
        name = "xraylab." + self.mutant.module.replace("/", ".")
        code = compile(operators.mutated(path.read_text(), self.mutant.number), str(path), "exec")
        mutation = mutants_tests.Mutation(name, path, code, self.mutant.function)
        limit = int(IMPORTS + SLOWER * self.seconds)
        arguments = (collected, self.folder, mutation, self.tests, limit, [str(measure.REPOSITORY / x) for x in OURS])
        self.process = CONTEXT.Process(target=mutants_tests.try_mutant, args=arguments)
        self.process.start()
        return self

    def ended(self) -> dict[str, Any] | None:
        """What became of the mutant, or None while its tests run."""
        if self.process is None:
            return {"what": SURVIVED, "tests": 0}
        if hangs := time.monotonic() - self.started > HANGS:
            self._end()
        if self.process.is_alive():
            return None
        self._end()
        to = self.folder / "result.json"
        result = json.loads(to.read_text()) if to.is_file() else {}
        shutil.rmtree(self.folder, ignore_errors=True)
        if hangs or self.process.exitcode in {-signal.SIGXCPU, -signal.SIGKILL}:
            return {"what": TIMEOUT}
        if result.get("passed"):
            return {"what": SURVIVED, "tests": result["ran"]}
        return {"what": KILLED, "by": result.get("by") or f"exit code {self.process.exitcode}"}

    def _end(self) -> None:
        """End the process and what it started, which lead a group of their own."""
        assert self.process is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.join()


def run(
    collected: Collected,
    parts: Parts,
    mutants: Sequence[Mutant],
    tests: Tests,
    folder: Path,
    processes: int,
    until: float,
) -> list[dict[str, Any]]:
    """Try the mutants that were not tried before; what is known of each, in their order, up to the end of the time."""
    results = folder / "results.jsonl"
    now = digest(measure.REPOSITORY / test for test in tests_of(parts))
    sources = {name: digest([SOURCE / f"{name}.py"]) for name in modules_of(parts)}
    known = {}
    for line in results.read_text().splitlines() if results.is_file() else []:
        record = json.loads(line)
        if record["source"] == sources.get(record["module"]) and (record["what"] == KILLED or record["at"] == now):
            known[record["module"], record["number"]] = record
    waiting = [mutant for mutant in mutants if (mutant.module, mutant.number) not in known]
    measure.say(f"{len(mutants) - len(waiting)} mutants are known, {len(waiting)} to try")
    children: list[Child] = []
    while (waiting and time.monotonic() < until) or children:
        while waiting and len(children) < processes and time.monotonic() < until:
            mutant = waiting.pop(0)
            where = folder / f"{mutant.module.replace('/', '.')}-{mutant.number}"
            children.append(Child(mutant, where, *tests.covering(mutant)).start(collected))
        for child in list(children):
            if (what := child.ended()) is None:
                continue
            children.remove(child)
            mutant = child.mutant
            record = {"module": mutant.module, "number": mutant.number, "key": mutant.key, **what,
                      "source": sources[mutant.module], "at": now}  # fmt: skip
            known[mutant.module, mutant.number] = record
            with results.open("a") as file:
                file.write(json.dumps(record) + "\n")
            measure.say(f"{record['what']}: {mutant.key}{f' ({by})' if (by := record.get('by')) else ''}")
        time.sleep(POLL)
    return [known[place] for mutant in mutants if (place := (mutant.module, mutant.number)) in known]


def equivalent() -> dict[str, str]:
    """Mutants that change nothing that anybody could see -> the reason."""
    return {each["mutant"]: each["why"] for each in tomllib.loads(EQUIVALENT.read_text()).get("equivalent", [])}


def rows_of(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each part of the code, and one for all."""
    reasons = equivalent()
    part_of = {name: part for part, each in PARTS.items() for name in each.modules}
    counts: dict[str, Counter[str]] = {part: Counter() for part in (*PARTS, "all")}
    for record in records:
        what = EQUIVALENT_ONE if record["what"] == SURVIVED and record["key"] in reasons else record["what"]
        counts[part_of[record["module"]]][what] += 1
        counts["all"][what] += 1
    return [
        {"code": part, "mutants": count.total(), **{what: count[what] for what in (KILLED, TIMEOUT, SURVIVED)},
         EQUIVALENT_ONE: count[EQUIVALENT_ONE], "killed, %": round(100 * share(count), 1)}
        for part, count in counts.items() if count
    ]  # fmt: skip


def share(count: Counter[str]) -> float:
    """What is killed of those that are not equivalent."""
    noticed = count[KILLED] + count[TIMEOUT]
    return noticed / max(noticed + count[SURVIVED], 1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}; all of them")
    parser.add_argument("--mutants", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so many, whatever is left")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir(), "xraylab-mutants"), help="for what a run leaves"
    )
    parser.add_argument("--only", help="mutants whose description contains this text, all of them; writes no result")
    parser.add_argument("--to", type=Path, help="folder of the result, for a trial")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    os.chdir(measure.REPOSITORY)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.pop("XRAYLAB_REAL_DATA", None)
    options.folder.mkdir(parents=True, exist_ok=True)
    parts = {name: PARTS[name] for name in options.parts or PARTS}
    collected = Collected(tests_of(parts))
    measure.say(f"{len(collected.items)} tests are collected")
    tests = lines_of_tests(collected, parts, options.folder, options.processes)
    measure.say(f"{len(tests.tests)} of them are quick and pass")
    mutants = drawn(parts, 10**9 if options.only else options.mutants, options.seed)
    if options.only:
        mutants = [mutant for mutant in mutants if options.only in mutant.key]
    until = time.monotonic() + options.seconds
    records = run(collected, parts, mutants, tests, options.folder, options.processes, until)
    rows = rows_of(records)
    for row in rows:
        measure.say(", ".join(f"{key} {value}" for key, value in row.items()))
    if options.only:
        return 0
    reasons = equivalent()
    left = [{"survived": record["key"].replace("|", "\\|"), "tests": record["tests"]} for record in records
            if record["what"] == SURVIVED and record["key"] not in reasons]  # fmt: skip
    gates = {"killed, of those not equivalent": Gate(rows[-1]["killed, %"] / 100, least=LEAST)}
    return not measure.write("mutants", {"Mutants": rows, "Survivors": left}, gates, to=options.to)


if __name__ == "__main__":
    sys.exit(main())
