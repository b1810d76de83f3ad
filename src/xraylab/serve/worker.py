"""A process that decodes uploaded files and prepares them for the networks; a hostile file ends it and nothing else.

It imports no torch, writes no file, and has a limit of memory. What it answers is JSON and raw bytes, never a pickle:
a decoder that an upload has taken over cannot run anything in the server.
"""

import base64
import ctypes
import json
import os
import signal
import sys
import warnings
from dataclasses import asdict
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from xraylab.data import dicom, pixels, prepare
from xraylab.data.pixels import Picture
from xraylab.data.prepare import Preparation
from xraylab.errors import DataError
from xraylab.inference.warnings import ImageFacts
from xraylab.serve.limits import MEGABYTE

PR_SET_PDEATHSIG = 1
CODES = ("too_large", "unreadable")
"""Why a file cannot be used, for programs."""
NAME = "file"  # stands for the upload's own name, which no message needs

Images = dict[str, Any]
"""The key `images` of a model.json: size, resize method and the steps of preparation."""


def run(
    connection: Connection, parent: int, each: list[Images], megapixels: int, memory: int, facts: bool, looks: bool
) -> None:
    """Answer the server's requests until it closes the connection; `each`: the preparation of each model.

    `facts`: tell also what warnings need to know of an image; `looks`: and what tells copies.
    """
    _confine(parent, memory)
    Image.MAX_IMAGE_PIXELS = megapixels * 1_000_000
    connection.send_bytes(b"ready")
    while True:
        try:
            request, content = json.loads(connection.recv_bytes()), connection.recv_bytes()
        except EOFError:
            return
        header, parts = _answer(content, each, facts, looks, **request)
        del content
        connection.send_bytes(json.dumps(header).encode())
        for part in parts:
            connection.send_bytes(part)


def _confine(parent: int, memory: int) -> None:
    """End with the server, without a core dump; on Linux, take no more memory and write no file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server, which hears of it too, closes the connection
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(1)
    dicom.silence_pydicom()
    warnings.simplefilter("ignore")  # a decoder's could quote the file
    if sys.platform != "linux":
        return
    import resource  # noqa: PLC0415 - Windows has none

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = used + memory * MEGABYTE
    for limit, value in ((resource.RLIMIT_AS, most), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(limit, (value, value))


def _answer(
    content: bytes, each: list[Images], facts: bool, looks: bool, suffix: str, preview: int, boxes: bool
) -> tuple[dict[str, Any], list[bytes]]:
    """The facts of a file, and an array for each model; or the reason why there is none."""
    try:
        picture = pixels.decode_stream(BytesIO(content), NAME + suffix)
        images = [_prepared(picture, images) for images in each]
        header: dict[str, Any] = {"format": picture.format, "mode": picture.mode}
        header["facts"] = asdict(ImageFacts.of(picture, lambda levels: looks)) if facts else None
        header["height"], header["width"] = picture.levels.shape
        header["boxes"] = [box(picture, images) for images in each] if boxes else []
        header["preview"] = _preview(picture, preview) if preview else None
    except MemoryError:
        return _too_large(), []
    except DataError as error:
        if isinstance(error.__context__, MemoryError):
            return _too_large(), []
        return {"code": "unreadable", "message": str(error).removeprefix(f"{NAME}{suffix}: ")}, []
    return header, images


def _too_large() -> dict[str, Any]:
    return {"code": "too_large", "message": "takes more memory to decode than the server allows"}


def _prepared(picture: Picture, images: Images) -> bytes:
    """As `Classifier.prepare` makes it."""
    method = images["resize_method"]
    return prepare.from_picture(picture, Preparation.recorded(images), int(images["size"]), method)[0].tobytes()


def box(picture: Picture, images: Images) -> list[float]:
    """Where a prepared image lies in its picture: left, top, width, height as fractions of the picture's sides.

    A padded one reaches beyond it.
    """
    height, width = picture.levels.shape
    crop = prepare.find_crop(picture.levels, Preparation.recorded(images))
    top, left = crop.rows.start, crop.columns.start
    tall, wide = crop.rows.stop - top, crop.columns.stop - left
    sides = {"squash": (wide, tall), "crop": (min(wide, tall),) * 2, "pad": (max(wide, tall),) * 2}
    across, down = sides[images["resize_method"]]
    x, y = left + (wide - across) / 2, top + (tall - down) / 2
    return [x / width, y / height, across / width, down / height]


def _preview(picture: Picture, largest: int) -> str:
    """The whole picture in 8 bits, at most `largest` pixels a side: a PNG in base64."""
    image = Image.fromarray(np.ascontiguousarray(pixels.gray(picture.levels)))
    image.thumbnail((largest, largest), Image.Resampling.BILINEAR)
    written = BytesIO()
    image.save(written, "PNG", compress_level=1)
    return base64.b64encode(written.getvalue()).decode()
