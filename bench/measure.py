"""Ratios on a noisy machine: variants take turns within one run, and medians are compared."""

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def interleaved(variants: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Images per second of each variant: the median over rounds. Each call handles some images and returns how many.

    A first turn of each warms caches and allocators and is not counted.
    """
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for round_ in range(rounds + 1):
        for name, work in variants.items():
            start = time.perf_counter()
            images = work()
            if round_:
                rates[name].append(images / (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in rates.items()}


def write(name: str, result: dict[str, Any], gates: dict[str, tuple[float, float]]) -> bool:
    """Write bench/results/<name>.json; whether all `gates` hold: what -> (figure, at least)."""
    checked = {
        what: {"measured": round(value, 3), "gate": gate, "holds": value >= gate}
        for what, (value, gate) in gates.items()
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result | {"cores": os.cpu_count(), "gates": checked}, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)
    return all(each["holds"] for each in checked.values())
