"""The web server under load: lost requests, wrong answers, memory, and its speed beside the bare network.

Part of `make bench`, 2 min. A ResNet-18 at 224 px with random weights is served on the loopback. After a warm-up, 500
requests, 20 at once, of which one in ten is hostile (a truncated PNG, a PNG of too many pixels, an archive, an empty
file, a header of 100 KB, a body that is no multipart): none may be lost, every film must have the classifier's own
probabilities, and every hostile request its error. Then films alone, for the speed. Writes bench/results/serve.json.
"""

import http.client
import io
import json
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import measure
import numpy as np
import psutil
import torch
from measure import Gate
from PIL import Image

from xraylab.data import pixels
from xraylab.inference.classifier import Classifier
from xraylab.inference.thresholds import Thresholds
from xraylab.model import memory, networks
from xraylab.serve import server
from xraylab.serve.guard import Guard
from xraylab.serve.limits import Limits
from xraylab.serve.models import Batching

REQUESTS, AT_ONCE, FILMS, SIDE, ONE_IN = 500, 20, 40, 512, 10
CLASSES, PIXELS, BATCH = ("Healthy", "TB"), 224, 32
TOLERANCE = 1e-4  # of a probability, in float32
BOUNDARY = b"bench"


@dataclass(frozen=True)
class Call:
    """A request and its right answer: the status, and for films the probabilities."""

    kind: str
    body: bytes
    headers: dict[str, str]
    statuses: Sequence[int]
    p: Sequence[float] = ()


@dataclass
class Load:
    """What became of the requests."""

    seconds: float
    lost: int
    wrong: int
    hostile: int
    slowest: list[float]
    """Seconds of each request, sorted."""


def classifier() -> Classifier:
    """A ResNet-18 of random weights, the same in every process."""
    torch.manual_seed(0)
    network = networks.build("resnet18", len(CLASSES), 1, 0.0)
    images = {
        "size": PIXELS, "resize_method": "squash", "crop_border": False, "crop_lungs": False,
        "clip_percentiles": None, "clahe": None, "pyramid_sharpening": 0.0,
    }  # fmt: skip
    record = {
        "arch": "resnet18", "task": "single-label", "classes": list(CLASSES), "channels": 1, "img_size": PIXELS,
        "images": images, "normalise": {"mean": [0.449], "std": [0.226]}, "hardware": {"precision": "float32"},
    }  # fmt: skip
    return Classifier.create("bench/0", record, Thresholds(), network, "float32")


def films(number: int) -> list[bytes]:
    """Smooth pictures as PNG, no two alike."""
    rng = np.random.default_rng(0)
    return [_png(rng.integers(0, 256, (24, 24), dtype=np.uint8)) for _ in range(number)]


def _png(coarse: Any) -> bytes:
    written = io.BytesIO()
    Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(written, "PNG")
    return written.getvalue()


def good(model: Classifier, contents: Sequence[bytes]) -> list[Call]:
    """A request for each film, with the classifier's own probabilities."""
    images = np.stack([model.prepare(pixels.decode_stream(io.BytesIO(each), "film.png")) for each in contents])
    return [
        _upload("film", each, [200], p) for each, p in zip(contents, model.predict_proba(images).tolist(), strict=True)
    ]


def hostile(film: bytes) -> list[Call]:
    """One request of each kind that must fail, and harm no other."""
    archive, large = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("film.png", film)
    Image.new("1", (30_000, 2_000)).save(large, "PNG")
    header = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}", "X-Long": "x" * 100_000}
    return [
        _upload("truncated PNG", film[: len(film) // 2], [422]),
        _upload("PNG of 60 million pixels", large.getvalue(), [422]),
        _upload("archive", archive.getvalue(), [422]),
        _upload("empty file", b"", [422]),
        Call("header of 100 KB", b"", header, [400, 431]),
        Call("wrong multipart", b"no boundary at all", {"Content-Type": "multipart/form-data; boundary=x"}, [400]),
    ]


def _upload(kind: str, content: bytes, statuses: Sequence[int], p: Sequence[float] = ()) -> Call:
    head = b'--%b\r\nContent-Disposition: form-data; name="files"; filename="film.png"\r\n\r\n' % BOUNDARY
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
    return Call(kind, head + content + b"\r\n--%b--\r\n" % BOUNDARY, headers, statuses, p)


def mixed(films: Sequence[Call], attacks: Sequence[Call], number: int) -> list[Call]:
    """So many requests in turns, of which every ONE_INth is hostile."""
    return [
        attacks[n // ONE_IN % len(attacks)] if n % ONE_IN == ONE_IN - 1 else films[n % len(films)]
        for n in range(number)
    ]


def send(port: int, calls: Sequence[Call], at_once: int) -> Load:
    """Send all, so many at once, and compare every answer with the right one."""
    waiting: SimpleQueue[Call] = SimpleQueue()
    for call in calls:
        waiting.put(call)

    def work() -> list[tuple[Call, float, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        done = []
        while not waiting.empty():
            call, start = waiting.get(), time.perf_counter()
            done.append((call, *_answered(connection, call, start)))
        connection.close()
        return done

    start = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        results = [each for future in [pool.submit(work) for _ in range(at_once)] for each in future.result()]
    seconds = time.perf_counter() - start
    outcomes = [outcome for *_, outcome in results]
    lost = len(calls) - len(results) + outcomes.count("lost")
    attacks = sum(not call.p for call, *_ in results)
    return Load(seconds, lost, outcomes.count("wrong"), attacks, sorted(each for _, each, _ in results))


def _answered(connection: http.client.HTTPConnection, call: Call, start: float) -> tuple[float, str]:
    """Seconds, and `right`, `wrong` or `lost`."""
    try:
        connection.request("POST", "/predict", call.body, call.headers)
        response = connection.getresponse()
        status, text = response.status, response.read()
    except OSError:
        connection.close()  # what comes next opens it again
        return time.perf_counter() - start, "lost"
    except http.client.HTTPException:
        connection.close()
        return time.perf_counter() - start, "lost"
    right = status in call.statuses and (not call.p or _same(text, call.p))
    return time.perf_counter() - start, "right" if right else "wrong"


def _same(text: bytes, p: Sequence[float]) -> bool:
    (result,) = json.loads(text)["files"][0]["results"]
    return all(abs(result[f"p_{name}"] - each) <= TOLERANCE for name, each in zip(CLASSES, p, strict=True))


def start_server(port: int) -> "subprocess.Popen[bytes]":
    """In a process of its own, whose workers import nothing of this bench."""
    folder = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {folder!r}); import serve; serve.run_server({port})"
    return subprocess.Popen([sys.executable, "-c", code])


def run_server(port: int) -> None:
    guard, batching = Guard("127.0.0.1", None, 0), Batching(BATCH, 0.005)
    server.run([classifier()], guard, port, None, Limits(rate=0), 2, batching, lambda line: None)


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Until it answers. Errors: RuntimeError where it has ended."""
    while process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    raise RuntimeError("the server has ended")


def resident(pid: int) -> int:
    """MiB of the server and its workers together."""
    process = psutil.Process(pid)
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)]) // 2**20


def bare(model: Classifier, images: int) -> float:
    """Images per second of the network alone, in batches of BATCH that are there already."""
    batch = np.random.default_rng(0).integers(0, 256, (BATCH, PIXELS, PIXELS), dtype=np.uint8)
    model.predict_proba(batch)
    start = time.perf_counter()
    for _ in range(images // BATCH):
        model.predict_proba(batch)
    return images // BATCH * BATCH / (time.perf_counter() - start)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def main() -> None:
    memory.keep_freed()
    model, port = classifier(), _free_port()
    contents = films(FILMS)
    calls, attacks = good(model, contents), hostile(contents[0])
    before = bare(model, 320)
    measure.say(f"bare network: {before:.1f} images/s")
    process = start_server(port)
    try:
        wait_for(port, process)
        send(port, mixed(calls, attacks, REQUESTS // 2), AT_ONCE)
        first = resident(process.pid)
        load = send(port, mixed(calls, attacks, REQUESTS), AT_ONCE)
        last = resident(process.pid)
        measure.say(
            f"{REQUESTS} requests in {load.seconds:.1f} s, lost {load.lost}, wrong {load.wrong}, {first} -> {last} MiB"
        )
        alone = send(port, (calls * REQUESTS)[:REQUESTS], AT_ONCE)
        one = send(port, (calls * 2)[:60], 1)
    finally:
        process.terminate()
        status = process.wait(30)
    after = bare(model, 320)
    network, served = (before + after) / 2, REQUESTS / alone.seconds
    measure.say(f"served: {served:.1f} images/s; bare network: {network:.1f} images/s")
    middle, late = (load.slowest[int(REQUESTS * share)] for share in (0.5, 0.95))
    tables = {
        "Load": [
            {
                "requests": REQUESTS, "at once": AT_ONCE, "hostile": load.hostile,
                "lost": load.lost, "wrong": load.wrong,
                "median, s": round(middle, 3), "95 %, s": round(late, 3), "before, MiB": first, "after, MiB": last,
            }
        ],
        "Speed": [
            {"what": f"bare network, batches of {BATCH}", "images/s": round(network, 1)},
            {"what": f"films of {SIDE} px, {AT_ONCE} requests at once", "images/s": round(served, 1)},
            {"what": "one request after the other", "images/s": round(60 / one.seconds, 1)},
        ],
    }  # fmt: skip
    gates = {
        "requests lost": Gate(load.lost + alone.lost + one.lost, most=0),
        "answers wrong": Gate(load.wrong + alone.wrong + one.wrong, most=0),
        "memory after, times before": Gate(last / first, most=1.1),
        "exit status on SIGTERM": Gate(status, most=0),
    }
    sys.exit(0 if measure.write("serve", tables, gates, [model.hardware.precision]) else 1)


if __name__ == "__main__":
    main()
