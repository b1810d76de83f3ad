"""100,000 films from the source to the cache, under DVC: time and memory of each stage; not part of `make bench`.

Draws films of 96 px (one in a hundred also as a re-encoded copy), and runs the stages `source`, `fetch`, `index`,
`split` and `cache` by `dvc repro`, with all that DVC hashes and copies between them; then again with nothing changed.
Measures how fast rows are read from shards and from one file, in turns, and how fast films of 1024 px are decoded, and
computes from that what 500,000 of them would take. FOLDER is where all of it goes, 4 GB:

    python bench/scale.py FOLDER [--count N] [--to FOLDER] [part ...]

A part (drawn, reading, large, a stage, or again) that has been measured is kept in FOLDER/measured, so that the whole
may be measured a few parts at a time, in that order, by default all that are missing: with 100,000 films on two quiet
cores some 20 minutes in all, half of them `index` (from the processor times of an earlier run). Once none is missing,
bench/results/scale.json is written.
"""

import argparse
import json
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

PIXELS, COPIES, SIZE = 96, 100, 64
STAGES = ("code", "source", "fetch", "index", "split", "cache")
MANY, LARGE, SAMPLE = 500_000, 1024, 24
BATCH, BATCHES, ROUNDS = 64, 200, 9
EVERY = 0.25  # seconds


def drawn(folder: Path, count: int) -> list[dict[str, Any]]:
    """The films, in folders by class, and how long that takes."""
    start = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    for label in ("Healthy", "TB"):
        (folder / label).mkdir(parents=True)
    for number in range(count):
        image = films.film(number, PIXELS)
        cv2.imwrite(str(folder / ("TB" if number % 5 == 0 else "Healthy") / f"{number:06}.png"), image)
        if number % COPIES == 1:
            copy = folder / f"Healthy/copy{number:06}.jpg"
            cv2.imwrite(str(copy), image, [cv2.IMWRITE_JPEG_QUALITY, 60])
    return [{"films": count, "s": round(time.monotonic() - start, 1)}]


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


def staged(study: Path, name: str) -> list[dict[str, Any]]:
    """A stage under DVC: seconds, DVC's part of them, the stage's own processor time and memory."""
    shutil.rmtree(study / ".xraylab/shards" / name, ignore_errors=True)  # of an attempt that was stopped
    watch = Memory()
    watch.start()
    start = time.monotonic()
    studies.repro(study, "--single-item", name)
    seconds = time.monotonic() - start
    watch.running = False
    own, processor = map(float, (study / ".xraylab/seconds").read_text().split())
    return [_row(name, seconds, seconds - own, processor, watch.highest[name])]


def again(study: Path) -> list[dict[str, Any]]:
    """All stages once more, with nothing changed."""
    watch = Memory()
    watch.start()
    seconds = studies.repro(study, *STAGES)
    watch.running = False
    return [_row("all, nothing changed", seconds, seconds, 0.0, watch.highest["dvc"])]


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


def reading(folder: Path, films_in_all: int) -> list[dict[str, Any]]:
    """Batches from one file, from one of shards, and from 25: images a second, medians of turns, and their ratios."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rows = []
    for size in (64, 224):
        count = films_in_all if size == SIZE else films_in_all // 5
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
        order = np.random.default_rng(1).permutation(count)[: min(BATCH * BATCHES, count // BATCH * BATCH)]
        order = order.reshape(-1, BATCH)

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


def begun(top: Path) -> Path:
    """The study whose stages are measured, as far as it has come."""

    def change(tree: dict[str, Any]) -> None:
        tree["data"]["source"] = str(top / "images")
        tree["split"]["on_leakage"] = "accept"
        tree["images"]["size"] = SIZE

    if not (top / "study/.xraylab").is_dir():
        shutil.rmtree(top / "study", ignore_errors=True)
        timed(studies.begun(top / "study", change))
        (top / "study/.xraylab").mkdir()
    return top / "study"


def parts(top: Path, count: int) -> dict[str, Callable[[], list[dict[str, Any]]]]:
    """What is measured, in order: each makes its rows."""
    return {
        "drawn": lambda: drawn(top / "images", count),
        "reading": lambda: reading(top / "reading", count),
        "large": lambda: per_film(top / "large"),
        **{name: lambda name=name: staged(begun(top), name) for name in STAGES},  # type: ignore[misc]
        "again": lambda: again(top / "study"),
    }


def copies(study: Path, count: int) -> Gate:
    """How many of the re-encoded copies the index has not found."""
    pairs = tables.read(study / "data/near_duplicates.csv")
    found = sum(
        Path(name).stem.removeprefix("copy") == Path(other).stem.removeprefix("copy")
        for name, other in zip(pairs["id"], pairs["other"], strict=True)
    )
    return Gate(len(range(1, count, COPIES)) - found, most=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("part", nargs="*")
    parser.add_argument("--count", type=int, default=100_000, help="films; the same for all parts")
    parser.add_argument("--to", type=Path, help="where scale.json is written")
    given = parser.parse_intermixed_args()
    top, work = given.folder.resolve(), parts(given.folder.resolve(), given.count)
    if unknown := [name for name in given.part if name not in work]:
        parser.error(f"{unknown[0]} is no part; there are {', '.join(work)}")
    results = {name: top / f"measured/{given.count}-{name}.json" for name in work}
    (top / "measured").mkdir(parents=True, exist_ok=True)
    for name in given.part or [name for name in work if not results[name].exists()]:
        start = time.monotonic()
        results[name].write_text(json.dumps(work[name]()))
        measure.say(f"{name}: {time.monotonic() - start:.0f} s, {results[name].read_text()}")
    if left := [name for name in work if not results[name].exists()]:
        measure.say(f"left: {', '.join(left)}")
        return
    rows = {name: json.loads(path.read_text()) for name, path in results.items()}
    stages = [row for name in (*STAGES, "again") for row in rows[name]]
    [cached] = rows["cache"]
    gates = {
        "copies planted that were not found": copies(top / "study", given.count),
        "highest memory of cache that is not files, MiB": Gate(cached["of it not files, MiB"], most=1024),
        "images of 224 px from shards in batches, 1/s": Gate(
            next(row["shards"] for row in rows["reading"] if row["read"] == "batches of 224 px"), least=100_000
        ),
    }
    title = f"{given.count:,} films of {PIXELS} px under DVC"
    written = {title: stages, "Reading, images/s": rows["reading"], "A large film": rows["large"]}
    sys.exit(0 if measure.write("scale", written, gates, to=given.to) else 1)


if __name__ == "__main__":
    main()
