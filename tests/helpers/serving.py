"""A server of small models in this process, and the uploads that are sent to it."""

import io
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import ports
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from xraylab.inference.classifier import Classifier
from xraylab.inference.thresholds import OperatingPoint, Thresholds
from xraylab.serve import app, models
from xraylab.serve.app import Service
from xraylab.serve.guard import Guard
from xraylab.serve.limits import Limits
from xraylab.serve.models import Batching

YOUDEN, SENSITIVE = "highest Youden index on validation", "fixed for 90 % sensitivity on validation"
HERE = ("127.0.0.1", 50000)


def with_points(classifier: Classifier, threshold: float = 0.5, temperature: float = 2.0) -> Classifier:
    """The classifier with two operating points for its last class, or each finding, and a temperature."""
    names = classifier.classes if classifier.multi_label else classifier.classes[-1:]
    points = [OperatingPoint(name, YOUDEN, threshold) for name in names]
    points += [OperatingPoint(name, SENSITIVE, 0.0) for name in names]
    each = dict.fromkeys(classifier.classes, temperature) if classifier.multi_label else {}
    thresholds = Thresholds(points, None if classifier.multi_label else temperature, each)
    return replace(classifier, thresholds=thresholds)


def service(
    *classifiers: Classifier, host: str = "127.0.0.1", token: str | None = None, limits: Limits | None = None
) -> Service:
    limits = limits or Limits(rate=0)
    guard = Guard(host, token, limits.rate)
    return Service(models.served(classifiers, None), guard, limits, 1, Batching())


@contextmanager
def client(served: Service) -> Iterator[TestClient]:
    with TestClient(app.create(served), base_url="http://localhost:8000", client=HERE) as each:
        yield each


@contextmanager
def listening(served: Service) -> Iterator[int]:
    """The port of this machine at which a service answers, from a thread."""
    (port,) = ports.free(1)
    config = uvicorn.Config(app.create(served), port=port, http="h11", ws="none", log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield port
    server.should_exit = True
    thread.join()


def png(seed: int = 0, size: tuple[int, int] = (64, 48)) -> bytes:
    """A film of noise: width and height as Pillow has them."""
    rng = np.random.default_rng(seed)
    return encoded(rng.integers(0, 256, size[::-1], dtype=np.uint8))


def encoded(levels: Any, kind: str = "PNG") -> bytes:
    written = io.BytesIO()
    Image.fromarray(levels).save(written, kind)
    return written.getvalue()


def bomb(width: int = 8000, height: int = 6000) -> bytes:
    """A PNG of few bytes that says it has very many pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1_000_000))), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def archive() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as file:
        file.writestr("film.png", png())
    return written.getvalue()


def hostile() -> dict[str, bytes]:
    """Name -> content of files that cannot be read, and must harm nobody."""
    whole = png(9)
    return {
        "truncated.png": whole[: len(whole) // 2],
        "bomb.png": bomb(),
        "archive.zip": archive(),
        "empty.png": b"",
        "text.dcm": b"no film at all",
    }


def files(*each: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    """As httpx wants them."""
    return [("files", one) for one in each]
