"""What bench/mutants.py has pytest do in a forked process: say which test passes which lines, or try a mutant."""

import gc
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest
from _pytest.config import _prepareconfig

QUIET = ["-q", "-s", "--no-header", "--tb=short", "-p", "no:cacheprovider", "-p", "no:xdist"]
MARKS = "not slow and not cluster and not real"


class Lines:
    """A plugin that records the lines of `files` that each test passes, with those of the fixtures that tests share.

    Only tests that pass are recorded, and none that computes for longer than `seconds`.
    """

    def __init__(self, files: Sequence[Path], seconds: float) -> None:
        self.files = {str(path): path for path in files}
        self.seconds = seconds
        self.contexts: list[tuple[set[tuple[str, int]], list[float]]] = []
        self.tests: dict[str, dict[str, Any]] = {}
        self.fixtures: dict[str, dict[str, Any]] = {}
        self.passed: dict[str, bool] = {}

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        """Follow the functions of the files alone."""
        return self.line if frame.f_code.co_filename in self.files else None

    def line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line" and self.contexts:
            self.contexts[-1][0].add((frame.f_code.co_filename, frame.f_lineno))
        return self.line

    def _record(self) -> Iterator[dict[str, Any]]:
        """Yield what is filled with lines and seconds; what runs within, in a context of its own, is taken off."""
        lines: set[tuple[str, int]] = set()
        record: dict[str, Any] = {}
        self.contexts.append((lines, [0.0]))
        start = time.process_time()
        yield record
        spent = time.process_time() - start
        _, (within,) = self.contexts.pop()
        if self.contexts:
            self.contexts[-1][1][0] += spent
        record["seconds"] = round(spent - within, 3)
        record["lines"] = {}
        for path, number in sorted(lines):
            record["lines"].setdefault(path, []).append(number)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Any:
        if fixturedef.scope == "function":
            return (yield)
        recording = self._record()
        record = next(recording)
        try:
            return (yield)
        finally:
            next(recording, None)
            self.fixtures[_key(fixturedef)] = record

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        recording = self._record()
        record = next(recording)
        sys.settrace(self.trace)
        threading.settrace(self.trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            next(recording, None)
            shared = [each[-1] for each in item._fixtureinfo.name2fixturedefs.values() if each[-1].scope != "function"]  # type: ignore[attr-defined]
            self.tests[item.nodeid] = {**record, "fixtures": [_key(each) for each in shared]}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        signal.signal(signal.SIGPROF, _too_long)
        signal.setitimer(signal.ITIMER_PROF, self.seconds)
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.passed[report.nodeid] = report.passed

    def record(self) -> dict[str, Any]:
        tests = {name: test for name, test in self.tests.items() if self.passed.get(name)}
        return {"tests": tests, "fixtures": self.fixtures, "left out": sorted(set(self.tests) - set(tests))}


def _key(fixture: pytest.FixtureDef[Any]) -> str:
    return f"{fixture.baseid}::{fixture.argname}"


def _too_long(*_: object) -> None:
    raise TimeoutError("computes too long to be run for a mutant")


class Mutation(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Other code of one module, `function` where only one is changed: put in its place, or imported anew."""

    def __init__(self, name: str, path: Path, code: CodeType, function: str | None) -> None:
        self.name, self.path, self.code, self.function = name, path, code, function

    def put(self) -> bool:
        """Give the function, wherever it is referred to, its other code; False where that cannot be done."""
        new = next((code for code in _codes(self.code) if code.co_qualname == self.function), None)
        every = [
            one for one in gc.get_objects()
            if isinstance(one, FunctionType) and one.__code__.co_filename == str(self.path)
            and one.__code__.co_qualname == self.function
        ]  # fmt: skip
        if new is None or len(every) != 1 or every[0].__code__.co_freevars != new.co_freevars:
            return False
        every[0].__code__ = new
        return True

    def find_spec(self, fullname: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self.code, vars(module))


def _codes(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from _codes(each)


class First:
    """A plugin that remembers the first test that failed, and how many ran."""

    def __init__(self) -> None:
        self.failed = ""
        self.ran = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.ran += report.when == "call"
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.failed:
            self.failed = f"import of {report.nodeid}"


class Collected:
    """Tests with all that they import, ready to be run in forks of this process."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.config = _prepareconfig([*QUIET, "-x", "-m", MARKS, *tests], [])
        self.config._do_configure()
        self.session = pytest.Session.from_config(self.config)
        self.config.hook.pytest_sessionstart(session=self.session)
        self.config.hook.pytest_collection(session=self.session)
        self.items = {item.nodeid: item for item in self.session.items}

    def run(self, folder: Path, tests: Sequence[str], plugin: object, go_on: bool) -> bool:
        """Run these in their order; whether all passed."""
        factory = self.config._tmp_path_factory  # type: ignore[attr-defined]
        factory._given_basetemp, factory._basetemp = folder / "tests", None
        self.config.pluginmanager.register(plugin)
        self.config.option.maxfail = 0 if go_on else 1
        self.session.items = [self.items[name] for name in tests]
        with suppress(self.session.Failed):
            self.config.hook.pytest_runtestloop(session=self.session)
        return not self.session.testsfailed


def measure_lines(
    collected: Collected, folder: Path, test: str, files: Sequence[Path], seconds: float, to: Path
) -> None:
    """Run one file of tests, and write which test passes which lines; in a process of its own."""
    _alone(folder)
    lines = Lines(files, seconds)
    collected.run(folder, [name for name in collected.items if name.startswith(f"{test}::")], lines, go_on=True)
    to.write_text(json.dumps(lines.record()))


def try_mutant(
    collected: Collected, folder: Path, mutation: Mutation, tests: Sequence[str], seconds: int, ours: Sequence[str]
) -> None:
    """Run tests until one fails, and write which; in a process of its own, which ends after `seconds` of work.

    Where they pass, and where a function's code cannot be put in its place, everything of `ours` is imported anew.
    """
    _alone(folder)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    first = First()
    passed = not mutation.put() or collected.run(folder, tests, first, go_on=False)
    if passed:
        first = First()
        _forget(ours)
        sys.meta_path.insert(0, mutation)
        passed = not pytest.main([*QUIET, "-x", f"--basetemp={folder}/anew", *tests], plugins=[first])
    (folder / "result.json").write_text(json.dumps({"passed": passed, "by": first.failed, "ran": first.ran}))


def _forget(ours: Sequence[str]) -> None:
    """Have the modules in these folders imported anew."""
    for name, module in list(sys.modules.items()):
        if name != __name__ and (getattr(module, "__file__", None) or "").startswith(tuple(ours)):
            del sys.modules[name]


def _alone(folder: Path) -> None:
    """Lead a group of processes, print to a file, and have hypothesis try the same each time, and remember nothing."""
    os.setsid()
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    warnings.simplefilter("ignore")
    if hypothesis := sys.modules.get("hypothesis"):
        phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # and no search for a smaller example
        hypothesis.settings.register_profile("mutants", database=None, derandomize=True, deadline=None, phases=phases)
        hypothesis.settings.load_profile("mutants")
