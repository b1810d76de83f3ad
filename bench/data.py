"""How index (with the audit), split and cache grow with the number of images: `make bench`.

Draws 20,000 images of 256 px (smooth random fields with grain, one in fifty a re-encoded copy of another), and runs the
stages `index`, `split` and `cache` on the first 5,000, 10,000 and all of them, each in a process of its own. Writes
bench/results/data.json: seconds and the highest memory of each, and the seconds of the near-duplicate search alone.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from xraylab import tables
from xraylab.data.audit import duplicates

REPOSITORY = Path(__file__).parents[1]
RESULT = REPOSITORY / "bench/results/data.json"
COUNTS, PIXELS, COPIES = (5_000, 10_000, 20_000), 256, 50
MEASURE = "import resource, runpy, sys; sys.argv = ['src', *sys.argv[1:]]\n"
MEASURE += "try: runpy.run_path('src', run_name='__main__')\n"
MEASURE += "finally: print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def draw(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for label in ("Healthy", "TB"):
        (folder / label).mkdir(parents=True)
    for number in range(count):
        field = cv2.resize(
            rng.normal(128, 40, (12, 12)).astype(np.float32), (PIXELS, PIXELS), interpolation=cv2.INTER_CUBIC
        )
        image = np.clip(field + rng.normal(0, 4, (PIXELS, PIXELS)), 0, 255).astype(np.uint8)
        label = "TB" if number % 5 == 0 else "Healthy"
        cv2.imwrite(str(folder / f"{label}/{number:05}.png"), image)
        if number % COPIES == 1:
            cv2.imwrite(str(folder / f"Healthy/copy{number:05}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 60])


def stage(study: Path, name: str) -> dict[str, float]:
    """Seconds and the highest memory (MiB) of one stage in a process of its own."""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", MEASURE, name], cwd=study, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - start
    return {"seconds": round(seconds, 1), "MiB": round(int(done.stdout.split("peak ")[1]) / 1024)}


def measure(study: Path, images: Path, count: int) -> dict[str, object]:
    raw = study / "data/raw"
    shutil.rmtree(study / "data", ignore_errors=True)
    chosen = [path for path in sorted(images.rglob("*.*")) if int(path.stem.removeprefix("copy")) < count]
    for path in chosen:
        place = raw / path.relative_to(images)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, place)
    (study / "data").joinpath("sides.csv").write_text("id,side\n")
    result: dict[str, object] = {"images": len(chosen)} | {
        name: stage(study, name) for name in ("index", "split", "cache")
    }
    index = tables.read(study / "data/index.csv")
    start = time.monotonic()
    pairs = duplicates.near(index)
    result["near-duplicate search, s"] = round(time.monotonic() - start, 2)
    result["copies planted, pairs found"] = [len(range(1, count, COPIES)), len(pairs)]
    return result


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        study, images = Path(folder) / "study", Path(folder) / "images"
        study.mkdir()
        shutil.copytree(REPOSITORY / "src", study / "src")
        text = (REPOSITORY / "params.yaml").read_text().replace("  accept: []  ", "  accept:\n    - near-duplicates\n#")
        (study / "params.yaml").write_text(text)
        draw(images, COUNTS[-1])
        results = [measure(study, images, count) for count in COUNTS]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"cores": os.cpu_count(), "sizes": results}, indent=2) + "\n")
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
