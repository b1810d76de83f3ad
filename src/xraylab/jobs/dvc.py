"""dvc as a process that can be ended with everything it started, and the log of what it prints."""

import asyncio
import codecs
import json
import os
import re
import sys
from asyncio import StreamReader
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import psutil

from xraylab.errors import XraylabError
from xraylab.jobs import guard

CHUNK = 1 << 16
READ = "import dvc.api, sys; sys.stdout.write(dvc.api.read(sys.argv[1], rev=sys.argv[2]))"
OBJECTS = """
import json, os, sys
from dvc.repo import Repo
path_of = Repo().cache.local.oid_to_path
paths = {name: path_of(name) for name in sys.argv[1:]}
json.dump({name: json.load(open(path)) for name, path in paths.items() if os.path.isfile(path)}, sys.stdout)
"""
LAST_LINES = 12  # of a failed stage, to show
TRIES = 5
PAUSE = 2.0
LOCKED = ("Unable to acquire lock", "is busy, it is being blocked by")


@dataclass
class Log:
    """The output of one dvc: all of it in one file per stage, its last lines here."""

    folder: Path
    stage: str
    last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    file: TextIO | None = None

    def add(self, line: str) -> None:
        started = re.fullmatch(r"Running stage '(.+)':", line)
        if started and started[1] != self.stage:
            self.close()
            self.stage, self.file = started[1], None
            self.last.clear()
        self.last.append(line)
        if self.file is None:
            self.file = self.path.open("w", encoding="utf-8")
        print(line, file=self.file, flush=True)

    def close(self) -> None:
        if self.file:
            self.file.close()

    def locked(self) -> bool:
        """True where another dvc held a lock for too long."""
        return any(sign in line for line in self.last for sign in LOCKED)

    def tail(self, name: str, root: Path) -> str:
        """The end of the log, as an error shows it."""
        path = self.path.relative_to(root) if self.path.is_relative_to(root) else self.path
        return "\n      ".join([f"{name}, whose log {path} ends with", *self.last])

    @property
    def path(self) -> Path:
        return self.folder / f"{re.sub('[/:]', '_', self.stage)}.log"


class Dvc:
    """Starts dvc in a study's folder, each time under a guard, and knows which ones live."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.live: set[Process] = set()

    async def repro(self, *arguments: str) -> None:
        """`dvc repro` on this terminal.

        Errors: XraylabError where it fails; it has then said why itself.
        """
        async with self._dvc(["repro", *arguments], {}) as process:
            code = await process.wait()
        if code != 0:
            raise XraylabError(f"`{' '.join(['dvc repro', *arguments])}` failed; what it printed above says why")

    async def output(self, *arguments: str) -> str:
        """Run a command and return what it prints.

        Errors: XraylabError with its message where it fails.
        """
        async with self._dvc(list(arguments), {}, PIPE, PIPE) as process:
            return await _stdout(process, f"`dvc {' '.join(arguments)}`")

    async def read(self, path: str, revision: str) -> str:
        """Read an output as it was at a commit or in an experiment.

        Errors: XraylabError where there is none.
        """
        async with self._guarded(["-c", READ, path, revision], {}, PIPE, PIPE) as process:
            return await _stdout(process, f"reading {path} of {revision}")

    async def objects(self, hashes: Iterable[str]) -> dict[str, Any]:
        """MD5 -> the JSON file with it, of those that DVC's cache has."""
        async with self._guarded(["-c", OBJECTS, *hashes], {}, PIPE, PIPE) as process:
            contents: dict[str, Any] = json.loads(await _stdout(process, "reading DVC's cache"))
            return contents

    async def logged(
        self, arguments: list[str], environment: dict[str, str], log: Log, on_line: Callable[[str], None]
    ) -> int:
        """Run dvc, write every line to the log, hand it to `on_line`, and return the exit status."""
        environment = {"PYTHONUNBUFFERED": "1", **environment}
        try:
            async with self._dvc(arguments, environment, PIPE, STDOUT) as process:
                if process.stdout is None:
                    raise RuntimeError("the process was started with a pipe")
                async for line in lines(process.stdout):
                    log.add(line)
                    on_line(line)
                return await process.wait()
        finally:
            log.close()

    @asynccontextmanager
    async def _dvc(
        self, arguments: list[str], environment: dict[str, str], stdout: int | None = None, stderr: int | None = None
    ) -> AsyncIterator[Process]:
        """A running dvc that waits for dvc's lock as long as it takes; ended where the block is left early."""
        command = ["-m", "dvc", "--wait-for-lock", *arguments]
        async with self._guarded(command, environment, stdout, stderr) as process:
            yield process

    @asynccontextmanager
    async def _guarded(
        self, command: list[str], environment: dict[str, str], stdout: int | None, stderr: int | None
    ) -> AsyncIterator[Process]:
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-I", "-S", guard.__file__, str(os.getpid())],
            *[sys.executable, *command],
            cwd=self.root, env=os.environ | environment, start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=stdout, stderr=stderr,
        )  # fmt: skip
        self.live.add(process)
        try:
            yield process
        finally:
            if process.returncode is None:
                _end(process)
                await process.wait()
            self.live.remove(process)

    def kill(self) -> None:
        """End at once the processes that are being ended in good order."""
        for process in self.live:
            if process.returncode is None:
                _end(process)


def _end(process: Process) -> None:
    """Tell the guard to end what it started; on Windows, where it cannot hear that, end everything below it first."""
    if not hasattr(os, "killpg"):
        with suppress(psutil.NoSuchProcess):
            for below in psutil.Process(process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    below.kill()
    with suppress(ProcessLookupError):
        process.terminate()


async def _stdout(process: Process, what: str) -> str:
    out, err = await process.communicate()
    if process.returncode != 0:
        raise XraylabError(f"{what} failed", [err.decode(errors="replace").strip().replace("\n", "\n    ")])
    return out.decode()


async def retried(attempt: Callable[[], Awaitable[tuple[int, Log]]]) -> tuple[int, Log]:
    """Exit status and log of an attempt, made again where another dvc held a lock for too long."""
    for _ in range(TRIES - 1):
        code, log = await attempt()
        if code == 0 or not log.locked():
            return code, log
        await asyncio.sleep(PAUSE)
    return await attempt()


async def lines(stream: StreamReader) -> AsyncIterator[str]:
    """The lines of a stream that are not blank; a carriage return ends one too."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    rest = ""
    while chunk := await stream.read(CHUNK):
        *whole, rest = re.split(r"[\r\n]+", rest + decoder.decode(chunk))
        for line in whole:
            if line.strip():
                yield line.rstrip()
    if rest.strip():
        yield rest.rstrip()
