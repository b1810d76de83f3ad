"""What the benches share: variants in turns, a line for each as it ends, gates, and one JSON file that names the state.

bench/results/<name>.json has the same keys for every bench: `bench`, `command`, `state` (the machine, precision, date
and commit), `minutes`, `tables` (title -> rows, each column -> value) and `gates`; bench/tables.py makes Markdown of
them.
"""

import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "bench/results"
INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512_BF16", "avx512f": "AVX-512", "avx2": "AVX2"}
STARTED = time.monotonic()

Tables = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Gate:
    """A measured value, and the least or the most that it may be."""

    measured: float
    least: float | None = None
    most: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool:
        return (self.least is None or self.measured >= self.least) and (self.most is None or self.measured <= self.most)

    def record(self) -> dict[str, Any]:
        limits = {"at least": self.least, "at most": self.most, "note": self.note}
        return {"measured": round(self.measured, 3), "holds": self.holds} | {k: v for k, v in limits.items() if v}


def say(text: str) -> None:
    """Print what goes on, with the minutes since the start."""
    seconds = time.monotonic() - STARTED
    print(f"{int(seconds // 60):3d}:{seconds % 60:04.1f}  {text}", flush=True)


def interleaved(variants: dict[str, Callable[[], int]], rounds: int, unit: str = "images/s") -> dict[str, list[float]]:
    """Rates of each variant, one per round. Each call handles some images (or whatever) and returns how many.

    The variants take turns, so that a machine that others slow down slows all of them. A first turn of each warms
    caches and allocators and is not counted.
    """
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for round_ in range(rounds + 1):
        for name, work in variants.items():
            start = time.perf_counter()
            count = work()
            rate = count / (time.perf_counter() - start)
            say(f"{f'round {round_} of {rounds}' if round_ else 'warm-up'}, {name}: {rate:.1f} {unit}")
            if round_:
                rates[name].append(rate)
    return rates


def medians(rates: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in rates.items()}


def times(one: list[float], other: list[float]) -> float:
    """How many times as fast: the median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """In a process of its own, whose allocator nobody has touched, and whose memory leaves nothing behind."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def instructions() -> list[str]:
    """Of the instruction sets that networks run on, those that this processor has, best first."""
    flags = _cpuinfo("flags").split()
    return [name for flag, name in INSTRUCTIONS.items() if flag in flags]


def state(computed_in: Iterable[str] = (), device: str | None = None) -> dict[str, Any]:
    """Where, when and of which commit a result was measured."""
    return {
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "instructions": instructions(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "device": device,
        "precision": list(computed_in),
        "torch": metadata.version("torch"),
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
    }


def write(
    name: str,
    tables: Tables,
    gates: dict[str, Gate],
    computed_in: Iterable[str] = (),
    device: str | None = None,
    failed: dict[str, str] | None = None,
    to: Path | None = None,
) -> bool:
    """Write <name>.json to bench/results or elsewhere, and print its gates; whether all hold and nothing failed."""
    result = {
        "bench": name,
        "command": " ".join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "state": state(computed_in, device),
        "minutes": round((time.monotonic() - STARTED) / 60, 1),
        "tables": tables,
        "gates": {what: each.record() for what, each in gates.items()},
    }
    result |= {"failed": failed} if failed else {}
    path = (to or RESULTS) / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    for what, each in gates.items():
        limit = f"at least {each.least:g}" if each.least is not None else f"at most {each.most:g}"
        say(f"{'holds' if each.holds else 'FAILS'}: {what}: {each.measured:.3f}, {limit}")
    for what, why in (failed or {}).items():
        say(f"FAILED: {what}: {why}")
    say(f"{path} written")
    return not failed and all(each.holds for each in gates.values())


def _cpuinfo(key: str) -> str:
    """The first core's value in /proc/cpuinfo, or nothing where there is no such file."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")


def _commit() -> str:
    """The short hash, and whether anything but results was changed since."""
    git = ["git", "-C", str(REPOSITORY)]
    found = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if found.returncode:
        return "unknown"
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src", "bench/*.py"], check=False).returncode
    return found.stdout.strip() + (", changed since" if changed else "")
