"""How index (with the audit), split and cache grow with the number of images: part of `make bench`, 3 min.

Draws 20,000 films of 256 px (one in fifty also as a re-encoded copy), and runs the stages `index`, `split` and `cache`
on the first 5,000 and on all of them, each in a process of its own. Writes bench/results/data.json: seconds and the
highest memory of each.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import films
import measure
import studies
from measure import Gate

from xraylab import tables

COUNTS, PIXELS, COPIES = (5_000, 20_000), 256, 50
STAGES = ("index", "split", "cache")
# not getrusage, whose maximum begins with what the parent of the process had
MEASURE = """
import pathlib, runpy, sys
sys.argv = ["src", *sys.argv[1:]]
try:
    runpy.run_path("src", run_name="__main__")
finally:
    print(pathlib.Path("/proc/self/status").read_text())
"""


def draw(folder: Path, count: int) -> None:
    def each(number: int) -> None:
        image = films.film(number, PIXELS)
        cv2.imwrite(str(folder / ("Healthy" if number % 5 else "TB") / f"{number:05}.png"), image)
        if number % COPIES == 1:
            copy = folder / f"Healthy/copy{number:05}.jpg"
            cv2.imwrite(str(copy), image, [cv2.IMWRITE_JPEG_QUALITY, 60])

    for label in ("Healthy", "TB"):
        (folder / label).mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(each, range(count)))


def stage(study: Path, name: str) -> tuple[float, float]:
    """Seconds and the highest memory (MiB) of one stage in a process of its own."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, name], cwd=study, stdout=subprocess.PIPE, text=True, check=True
    )
    seconds = time.monotonic() - start
    return seconds, int(done.stdout.split("VmHWM:")[1].split()[0]) / 1024


def measured(study: Path, images: Path, count: int) -> dict[str, Any]:
    """One row of the table: the first `count` films and their copies."""
    raw = study / "data/raw"
    shutil.rmtree(study / "data", ignore_errors=True)
    chosen = [path for path in sorted(images.rglob("*.*")) if int(path.stem.removeprefix("copy")) < count]
    for path in chosen:
        link = raw / path.relative_to(images)
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, link)
    (study / "data/given_splits.csv").write_text("id,split\n")
    row: dict[str, Any] = {"images": len(chosen)}
    for name in STAGES:
        seconds, memory = stage(study, name)
        measure.say(f"{len(chosen):,} images, {name}: {seconds:.1f} s, {memory:.0f} MiB")
        row |= {f"{name}, s": round(seconds, 1), f"{name}, MiB": round(memory)}
    pairs = tables.read(study / "data/near_duplicates.csv")
    pairs = pairs[
        [
            f"copy{Path(name).stem}" == Path(other).stem or Path(name).stem == f"copy{Path(other).stem}"
            for name, other in zip(pairs["id"], pairs["other"], strict=True)
        ]
    ]
    return row | {"copies planted": len(range(1, count, COPIES)), "pairs found": len(pairs)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        study, images = Path(folder) / "study", Path(folder) / "images"
        studies.begun(study, lambda tree: tree["split"].update(on_leakage="accept"))
        measure.say(f"{COUNTS[-1]:,} films are drawn")
        draw(images, COUNTS[-1])
        few, many = rows = [measured(study, images, count) for count in COUNTS]
    more = many["images"] / few["images"]
    gates = {  # of the memory, 6.4 kB an image are thumbnails, in which copies are looked for
        "copies planted that were not found": Gate(sum(r["copies planted"] - r["pairs found"] for r in rows), most=0),
        f"index and cache: seconds an image, {more:g} times the images": Gate(
            sum(many[f"{name}, s"] / few[f"{name}, s"] for name in ("index", "cache")) / 2 / more, most=1.3
        ),
        f"highest memory of index, MiB, {many['images']:,} images": Gate(many["index, MiB"], most=640),
    }
    sys.exit(0 if measure.write("data", {f"Films of {PIXELS} px": rows}, gates) else 1)


if __name__ == "__main__":
    main()
