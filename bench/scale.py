"""100,000 films from the source to the cache, under DVC: time and memory of each stage; not part of `make bench`.

Draws films of 96 px (one in a hundred also as a re-encoded copy), and runs the stages `source`, `fetch`, `index`,
`split` and `cache` by `dvc repro`, with all that DVC hashes and copies between them; then again with nothing changed.
Measures how fast rows are read from shards and from one file, in turns, and how fast films of 1024 px are decoded, and
computes from that what 500,000 of them would take. Writes bench/results/scale.json. FOLDER is where all of it goes,
4 GB:

    python bench/scale.py FOLDER
"""

import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import films
import measure
import numpy as np
import pandas as pd
import studies
from measure import Gate

from xraylab import shards, tables
from xraylab.data import cache, image_facts
from xraylab.data.cache import Decoding
from xraylab.data.prepare import Preparation
from xraylab.shards import Shards

COUNT, PIXELS, COPIES, SIZE = 100_000, 96, 100, 64
STAGES = ("code", "source", "fetch", "index", "split", "cache")
MANY, LARGE, SAMPLE = 500_000, 1024, 24
BATCH, BATCHES, ROUNDS = 64, 200, 9
EVERY = 0.25  # seconds


def draw(folder: Path) -> None:
    """The films, in folders by class."""
    for label in ("Healthy", "TB"):
        (folder / label).mkdir(parents=True)
    for number in range(COUNT):
        image = films.film(number, PIXELS)
        cv2.imwrite(str(folder / ("TB" if number % 5 == 0 else "Healthy") / f"{number:06}.png"), image)
        if number % COPIES == 1:
            copy = folder / f"Healthy/copy{number:06}.jpg"
            cv2.imwrite(str(copy), image, [cv2.IMWRITE_JPEG_QUALITY, 60])


class Memory(threading.Thread):
    """Watches the processes below this one: by stage the highest memory, and what of it is not pages of files, MiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.highest: dict[str, dict[str, float]] = {}
        self.running = True

    def run(self) -> None:
        while self.running:
            for status in _descendants(os.getpid()):
                command = Path(f"/proc/{status['Pid']}/cmdline")
                name = _name(command)
                if name:
                    peak = self.highest.setdefault(name, {"resident": 0, "own": 0})
                    peak["resident"] = max(peak["resident"], int(status["VmHWM"].split()[0]) / 1024)
                    peak["own"] = max(peak["own"], int(status["RssAnon"].split()[0]) / 1024)
            time.sleep(EVERY)


def _name(command: Path) -> str | None:
    try:
        words = command.read_bytes().decode().split("\0")
    except OSError:
        return None
    return words[2] if words[1:2] == ["src"] else "dvc" if "dvc" in words else None


def _descendants(top: int) -> list[dict[str, str]]:
    every = {}
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue  # ended meanwhile
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "VmHWM" in status:
            every[int(status["Pid"])] = status
    below = {top}
    while True:
        more = {pid for pid, status in every.items() if int(status["PPid"]) in below} - below
        if not more:
            return [every[pid] for pid in below - {top}]
        below |= more


def pipeline(study: Path) -> list[dict[str, Any]]:
    """A row for each stage under DVC: seconds, DVC's part of them, the stage's own processor time and memory."""
    rows, log = [], study / ".xraylab/seconds"
    watch = Memory()
    watch.start()
    for name in STAGES:
        start = time.monotonic()
        studies.repro(study, "--single-item", name)
        seconds = time.monotonic() - start
        own, processor = map(float, log.read_text().split())
        rows.append(_row(name, seconds, seconds - own, processor, watch.highest[name]))
        measure.say(f"{name}: {rows[-1]}")
    again = studies.repro(study, *STAGES)
    watch.running = False
    rows.append(_row("all, nothing changed", again, again, 0.0, watch.highest["dvc"]))
    measure.say(f"again: {rows[-1]}")
    return rows


def _row(stage: str, seconds: float, dvc: float, processor: float, peak: dict[str, float]) -> dict[str, Any]:
    return {
        "stage": stage,
        "s": round(seconds, 1),
        "of them DVC's, s": round(dvc, 1),
        "the stage's processor time, s": round(processor, 1),
        "highest memory, MiB": round(peak["resident"]),
        "of it not files, MiB": round(peak["own"]),
    }


def timed(study: Path) -> None:
    """Let each stage of the copied study say how long its own process took."""
    main = study / "src/__main__.py"
    clock = (
        "import atexit, pathlib, time\n_begun = time.monotonic()\n"
        "atexit.register(lambda: pathlib.Path('.xraylab/seconds').write_text("
        "f'{time.monotonic() - _begun} {time.process_time()}'))\n"
    )
    text = main.read_text()
    main.write_text(re.sub(r'(?s)\A(""".*?"""\n)', lambda found: found.group(1) + clock, text))


def reading(folder: Path) -> list[dict[str, Any]]:
    """Batches from one file, from one of shards, and from 25: images a second, medians of turns, and their ratios."""
    folder.mkdir(exist_ok=True)
    rows = []
    for size in (64, 224):
        count = COUNT if size == SIZE else COUNT // 5
        whole = np.lib.format.open_memmap(folder / "whole.npy", "w+", np.uint8, (count, size, size))
        for start in range(0, count, shards.SHARD):
            whole[start : start + shards.SHARD] = np.random.default_rng(0).integers(
                0, 256, (len(whole[start : start + shards.SHARD]), size, size), np.uint8
            )
        del whole
        one = np.load(folder / "whole.npy", mmap_mode="r")
        for number, each in enumerate(shards.ranges(count)):
            np.save(folder / f"{number:03}.npy", one[each.start : each.stop])
        several = Shards([np.load(path, mmap_mode="r") for path in sorted(folder.glob("[0-9]*.npy"))])
        order = np.random.default_rng(1).permutation(count)[: BATCH * BATCHES].reshape(-1, BATCH)

        def batches(images: Any, order: Any = order) -> int:
            for rows in order:
                images[rows]
            return int(order.size)

        def singly(images: Any, order: Any = order) -> int:
            for row in order.ravel():
                images[row].sum()
            return int(order.size)

        variants: dict[str, Callable[[], int]] = {
            "one file, batches": lambda images=one: batches(images),
            "shards, batches": lambda images=several: batches(images),
            "one file, images": lambda images=one: singly(images),
            "shards, images": lambda images=several: singly(images),
        }
        rates = measure.interleaved(variants, ROUNDS)
        for how in ("batches", "images"):
            ratio = measure.times(rates[f"shards, {how}"], rates[f"one file, {how}"])
            medians = {name: round(measure.medians(rates)[f"{name}, {how}"]) for name in ("one file", "shards")}
            rows.append({"read": f"{how} of {size} px", **medians, "shards / one file": round(ratio, 2)})
        shutil.rmtree(folder)
        folder.mkdir()
    return rows


def per_film(folder: Path) -> list[dict[str, Any]]:
    """Milliseconds of a core that `index` and `cache` need for a film of LARGE px: medians, in one thread."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(SAMPLE)]
    films.write(paths, LARGE)
    nothing = Preparation(False, False, None, None, 0.0)
    table = pd.DataFrame({"id": [path.name for path in paths], "path": [path.name for path in paths]})
    decoding = Decoding(folder, table, LARGE, "squash", nothing)
    work: dict[str, Callable[[Path], object]] = {
        "index": lambda path: image_facts.read(path, b"", False),
        "cache": lambda path: cache.prepare.read(path, decoding.preparation, LARGE, "squash"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for path in paths * 3:
        for name, each in work.items():
            start = time.thread_time()
            each(path)
            seconds[name].append(time.thread_time() - start)
    size = sum(path.stat().st_size for path in paths) / SAMPLE
    return [
        {
            "stage": name,
            f"ms a film of {LARGE} px": round(1000 * float(np.median(values)), 1),
            f"hours of a core for {MANY:,}": round(float(np.median(values)) * MANY / 3600, 1),
            "bytes of a file": round(size),
        }
        for name, values in seconds.items()
    ]


def main() -> None:
    top = Path(sys.argv[1])
    images, study = top / "images", top / "study"
    if not images.is_dir():
        measure.say(f"{COUNT:,} films are drawn")
        draw(images)
    readings = reading(top / "reading")
    each = per_film(top / "large")
    shutil.rmtree(study, ignore_errors=True)

    def change(tree: dict[str, Any]) -> None:
        tree["data"]["source"] = str(images)
        tree["split"]["on_leakage"] = "accept"
        tree["images"]["size"] = SIZE

    timed(studies.begun(study, change))
    (study / ".xraylab").mkdir()
    stages = pipeline(study)
    pairs = tables.read(study / "data/near_duplicates.csv")
    planted = len(range(1, COUNT, COPIES))
    found = sum(
        Path(name).stem.removeprefix("copy") == Path(other).stem.removeprefix("copy")
        for name, other in zip(pairs["id"], pairs["other"], strict=True)
    )
    highest = {row["stage"]: row["of it not files, MiB"] for row in stages}
    gates = {
        "copies planted that were not found": Gate(planted - found, most=0),
        "highest memory of cache that is not files, MiB": Gate(highest["cache"], most=1024),
        "images of 224 px from shards in batches, 1/s": Gate(
            next(row["shards"] for row in readings if row["read"] == "batches of 224 px"), least=100_000
        ),
    }
    written = {f"{COUNT:,} films of {PIXELS} px under DVC": stages, "Reading, images/s": readings, "A large film": each}
    sys.exit(0 if measure.write("scale", written, gates) else 1)


if __name__ == "__main__":
    main()
