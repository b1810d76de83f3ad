"""How long the report of a large study takes: 10 experiments x 3 repeats, 920 test images: part of `make bench`, 1 min.

The study is made without networks, as in the tests: predictions are drawn, and `evaluate` runs before the clock
starts. Writes bench/results/report.json.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

import finished_study
import measure
from measure import Gate

from xraylab.stages import evaluate, report

EXPERIMENTS, REPEATS, LIMIT = 10, 3, 60
IMAGES = {
    "train": {"Healthy": 640, "TB": 160},
    "valid": {"Healthy": 160, "TB": 40},
    "test": {"Healthy": 760, "TB": 160},
}


def main() -> int:
    names = [f"dropout-{number}" for number in range(1, EXPERIMENTS)]
    more = {name: {"model": {"dropout": number / 20}} for number, name in enumerate(names)}
    changes = {"study": {"repeats": list(range(REPEATS))}, "experiments": more, "train": {"epochs": 20}}
    with tempfile.TemporaryDirectory() as folder:
        measure.say("predictions drawn")
        given, paths = finished_study.make(Path(folder), changes, IMAGES, keep=("baseline",))
        measure.say("evaluate")
        evaluate.run(given, paths)
        measure.say("report")
        start = time.perf_counter()
        report.run(given, paths)
        seconds = time.perf_counter() - start
        size = paths.report.stat().st_size / 1e6
    row = {"experiments": EXPERIMENTS, "repeats": REPEATS, "seconds": round(seconds, 1), "page, MB": round(size, 2)}
    gates = {"seconds": Gate(seconds, most=LIMIT), "page, MB": Gate(size, most=10)}
    return 0 if measure.write("report", {"The report of a large study": [row]}, gates) else 1


if __name__ == "__main__":
    sys.exit(main())
