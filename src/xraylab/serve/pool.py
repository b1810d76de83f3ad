"""The processes that decode uploads: one is killed and replaced where a file takes too long or ends it."""

import asyncio
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import PurePath
from queue import SimpleQueue
from typing import Any

import numpy as np

from xraylab.data.image_facts import Look
from xraylab.data.pixels import DICOM_SUFFIXES, Gray
from xraylab.errors import XraylabError
from xraylab.inference.warnings import ImageFacts
from xraylab.serve import worker
from xraylab.serve.limits import MEGABYTE, FileError, Limits
from xraylab.serve.worker import Images

START_SECONDS = 60  # to import what decodes
LONGEST_HEADER = 16 * MEGABYTE  # a preview is part of it


@dataclass(frozen=True)
class Decoded:
    """A decoded file, prepared for each model."""

    images: list[Gray]
    """One for each model, (size, size)."""
    width: int
    height: int
    format: str
    mode: str
    facts: ImageFacts | None
    """Where a model has a reference, whose warnings need them."""
    boxes: list[list[float]]
    """For each model, if the request has an overlay: left, top, width and height of its image within the picture."""
    preview: str | None
    """The picture as a PNG in base64."""


@dataclass(frozen=True)
class _Job:
    suffix: str
    content: bytearray
    preview: int
    boxes: bool
    future: "Future[Decoded]"


class Pool:
    """Worker processes, each with a thread that waits for it; `restarted` hears of every one that was replaced."""

    def __init__(
        self,
        each: Sequence[Images],
        facts: bool,
        looks: bool,
        workers: int,
        limits: Limits,
        restarted: Callable[[], object],
    ) -> None:
        self.each, self.facts, self.looks, self.limits, self.restarted = list(each), facts, looks, limits, restarted
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        first = [_Worker(self.each, facts, looks, limits) for _ in range(workers)]
        for one in first:
            one.wait_until_ready()
        self._now = dict(enumerate(one.process for one in first))
        serving = enumerate(first)
        self._threads = [threading.Thread(target=self._serve, args=each, daemon=True) for each in serving]
        for thread in self._threads:
            thread.start()

    async def decode(self, name: str, content: bytearray, preview: int = 0, boxes: bool = False) -> Decoded:
        """Decode a file and prepare it for every model. Errors: FileError."""
        suffix = PurePath(name).suffix.lower()
        job = _Job(suffix if suffix in DICOM_SUFFIXES else "", content, preview, boxes, Future())
        self._jobs.put(job)
        return await asyncio.wrap_future(job.future)

    def workers(self) -> list[int]:
        """The ids of the processes that decode now."""
        return [process.pid for process in self._now.values() if process.pid is not None]

    def close(self) -> None:
        """End the workers after what they are at."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(self.limits.decoding + 1)

    def _serve(self, number: int, process: "_Worker") -> None:
        while (job := self._jobs.get()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            if not process.alive():  # ended by somebody else, while it had nothing to do
                process = self._replaced(number, process)
            try:
                job.future.set_result(process.decode(job))
            except FileError as error:
                job.future.set_exception(error)
            except Exception as error:
                process.kill()
                job.future.set_exception(FileError("decoder_failed", f"the decoder failed ({type(error).__name__})"))
            del job
            if not process.alive():
                process = self._replaced(number, process)
        process.kill()

    def _replaced(self, number: int, process: "_Worker") -> "_Worker":
        """A new process, started by the thread that lives as long as the pool: Linux ends it with that thread."""
        self.restarted()
        process.kill()
        process = _Worker(self.each, self.facts, self.looks, self.limits)
        self._now[number] = process.process
        return process


class _Worker:
    """One process and the connection to it."""

    def __init__(self, each: list[Images], facts: bool, looks: bool, limits: Limits) -> None:
        context = multiprocessing.get_context("spawn")
        self.sizes, self.limits = [int(images["size"]) for images in each], limits
        self.connection, worker_end = context.Pipe()
        arguments = (worker_end, os.getpid(), each, limits.megapixels, limits.memory, facts, looks)
        self.process: BaseProcess = context.Process(target=worker.run, args=arguments, daemon=True)
        self.process.start()
        worker_end.close()
        self.ready = False

    def wait_until_ready(self) -> None:
        """Errors: XraylabError where it does not start."""
        try:
            if not self.ready and not self.connection.poll(START_SECONDS):
                raise EOFError
            if not self.ready:
                self.connection.recv_bytes()
        except (EOFError, OSError):
            self.kill()
            raise XraylabError("a process that decodes images does not start") from None
        self.ready = True

    def decode(self, job: _Job) -> Decoded:
        self.wait_until_ready()
        request = {"suffix": job.suffix, "preview": job.preview, "boxes": job.boxes}
        try:
            self.connection.send_bytes(json.dumps(request).encode())
            self.connection.send_bytes(job.content)
            if not self.connection.poll(self.limits.decoding):
                self.kill()
                message = f"takes longer to decode than the {self.limits.decoding:g} s that the server allows"
                raise FileError("decoding_timeout", message)
            return _received(self.connection, self.sizes)
        except (EOFError, OSError):
            self.kill()
            raise FileError("decoder_died", "ended the process that decoded it") from None

    def alive(self) -> bool:
        return self.process.is_alive()

    def kill(self) -> None:
        """End it now; also called for one that has ended."""
        with suppress(OSError):
            self.connection.close()
        if self.process.is_alive():
            self.process.kill()
        self.process.join()


def _received(connection: Connection, sizes: Sequence[int]) -> Decoded:
    """Errors: FileError where the file could not be decoded."""
    header = json.loads(connection.recv_bytes(LONGEST_HEADER))
    if "code" in header:  # a decoder that was taken over names no counter of the server
        code, known = header["code"], header["code"] in worker.CODES
        raise FileError(code if known else "decoder_failed", str(header["message"]) if known else "the decoder failed")
    images = [np.frombuffer(connection.recv_bytes(size * size), np.uint8).reshape(size, size) for size in sizes]
    facts = header.pop("facts")
    return Decoded(images, facts=None if facts is None else _facts(**facts), **header)


def _facts(dicom: dict[str, str], flat: bool, colour: float, look: dict[str, Any] | None) -> ImageFacts:
    return ImageFacts(dicom, flat, colour, None if look is None else Look(**look))
