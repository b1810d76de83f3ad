"""dvc as a process that can be ended with all that it started."""

import asyncio
import codecs
import json
import os
import re
import sys
import time
from asyncio import StreamReader
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from xraylab.errors import XraylabError
from xraylab.jobs import guard

CHUNK = 1 << 16
READ = "import dvc.api, sys; sys.stdout.write(dvc.api.read(sys.argv[1], rev=sys.argv[2]))"


class Dvc:
    """Starts dvc in a study's folder, each time under a guard, and knows which ones live."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.live: set[Process] = set()

    async def repro(self, *arguments: str) -> None:
        """`dvc repro` on this terminal.

        Errors: XraylabError where it fails; it has then said why itself.
        """
        async with self.started(["repro", *arguments], {}) as process:
            code = await process.wait()
        if code != 0:
            raise XraylabError(f"`{' '.join(['dvc repro', *arguments])}` failed; what it printed above says why")

    async def output(self, *arguments: str) -> str:
        """What a command prints.

        Errors: XraylabError with its message where it fails.
        """
        async with self.started(list(arguments), {}, stdout=PIPE, stderr=PIPE) as process:
            return await _said(process, f"`dvc {' '.join(arguments)}`")

    async def read(self, path: str, revision: str) -> str:
        """The text of an output as it was at a commit or in an experiment.

        Errors: XraylabError where there is none.
        """
        async with self._guarded(["-c", READ, path, revision], {}, PIPE, PIPE) as process:
            return await _said(process, f"reading {path} of {revision}")

    @asynccontextmanager
    async def started(
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

    def hurry(self) -> None:
        """Those that are being ended in good order end at once."""
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


async def _said(process: Process, what: str) -> str:
    out, err = await process.communicate()
    if process.returncode != 0:
        raise XraylabError(f"{what} failed", [err.decode(errors="replace").strip().replace("\n", "\n    ")])
    return out.decode()


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


def mend(root: Path) -> None:
    """Remove dvc's list of locks where it is torn: killed while it wrote it, dvc refuses every later command."""
    file = root / ".dvc/tmp/rwlock"
    if _torn(file):
        time.sleep(1)  # or was it being written right now?
        if _torn(file):
            file.unlink()


def _torn(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False
