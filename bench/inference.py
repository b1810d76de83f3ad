"""What scoring costs against the plain network, and what it may not cost: equal probabilities.

Part of `make bench`, 2 min.
On batches that are there already, in turns: the network as it is (evaluation mode, no_grad, float32, not channels
last), ours (batch norms folded, channels last, inference mode, this machine's precision), and ours compiled. Then the
largest difference of a probability from the plain network's, how many images change class, and from how many images on
the seconds of compiling are repaid. Writes bench/results/inference.json.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import measure
import processor
import torch
from measure import Gate
from torch import Tensor, nn

from xraylab.data.image_cache import SCORING_BATCH
from xraylab.model import compiling, memory, networks, scoring
from xraylab.model.compiling import Forward
from xraylab.model.hardware import Hardware

ARCHITECTURES, PIXELS, ROUNDS = ("resnet18", "resnet50"), 224, 3
LEAST = {
    "uncompiled": {"float32": 1.2, "AVX512_BF16": 2.0, "AMX": 3.5},
    "compiled": {"float32": 1.35, "AVX512_BF16": 2.0, "AMX": 6.0},
}
ROUNDING = {"float32": 1e-5, "bfloat16": 0.05}  # of a probability; fifty layers in 8 bits have moved one by 0.027


def trained(arch: str) -> nn.Module:
    """Weights and statistics that are not those of a fresh network, whose batch norms do almost nothing."""
    torch.manual_seed(0)
    network = networks.build(arch, 2, 1, 0.0).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network


def plain(network: nn.Module, batch: Tensor) -> Callable[[], Tensor]:
    # `contiguous` leaves a batch of one channel alone, whose strides then make the whole network channels last
    there, images = network.to(batch.device), torch.empty(batch.shape, device=batch.device).copy_(batch)

    def work() -> Tensor:
        with torch.no_grad():
            return there(images).softmax(dim=1).cpu()

    return work


def ours(network: Forward, batch: Tensor, machine: Hardware) -> Callable[[], Tensor]:
    return lambda: scoring.probabilities([network], [batch], machine)[0]


def parity(got: Tensor, expected: Tensor, precision: str) -> dict[str, Any]:
    """Class changes count only where the plain network's two probabilities are further apart than rounding."""
    sure = (expected[:, 0] - expected[:, 1]).abs() > 2 * ROUNDING[precision]
    changed = got.argmax(dim=1) != expected.argmax(dim=1)
    return {
        "largest difference of a probability": float((got - expected).abs().max()),
        "images of another class": int(changed.sum()),
        "of these beyond rounding": int((changed & sure).sum()),
        "images": len(expected),
    }


def compared(arch: str, machine: Hardware) -> dict[str, Any]:
    """Images per second of each variant, parity, and seconds of compiling, on batches of the size that predict uses."""
    network = trained(arch)
    batch = torch.randn(SCORING_BATCH, PIXELS, PIXELS, 1, device=machine.device).permute(0, 3, 1, 2)
    ready, _ = scoring.prepare(network, machine, 0, (1, PIXELS, PIXELS), 1)
    start = time.perf_counter()
    quick, how = compiling.compile_network(ready, batch, machine)  # type: ignore[arg-type]  # uncompiled it is a module
    seconds = time.perf_counter() - start
    measure.say(f"{arch}: {how}, {seconds:.1f} s")
    variants = {"plain": plain(network, batch), "uncompiled": ours(ready, batch, machine)}
    if how == "compiled":
        variants["compiled"] = ours(quick, batch, machine)
    rates = measure.interleaved({name: (lambda work=work: len(work())) for name, work in variants.items()}, ROUNDS)
    median = measure.medians(rates)
    expected = variants["plain"]()
    result = {
        "images per second": {name: round(rate, 1) for name, rate in median.items()},
        "times the plain network": {name: round(measure.times(rates[name], rates["plain"]), 2) for name in rates},
        "parity": {
            name: parity(work(), expected, machine.precision) for name, work in variants.items() if name != "plain"
        },
    }
    if how != "compiled":
        return result | {"compiling": how}
    saved = 1 / median["uncompiled"] - 1 / median["compiled"]
    return result | {
        "compiling, s": round(seconds, 1),
        "images that repay compiling, measured": round(seconds / saved) if saved > 0 else None,
        "images from which predict compiles": compiling.least_images(
            networks.count_multiply_adds(trained(arch), 1, PIXELS), machine
        ),
    }


def gates(results: dict[str, dict[str, Any]], precision: str) -> dict[str, Gate]:
    """Speed by what computes the precision; parity. Not compiled counts as no speed."""
    checked = {}
    for what, result in results.items():
        for name, least in LEAST.items():
            times = result["times the plain network"].get(name, 0.0)
            checked[f"{what}: {name}, times the plain network"] = processor.gate(times, least, precision)
            if name in result["parity"]:
                off = result["parity"][name]
                difference, changes = off["largest difference of a probability"], off["of these beyond rounding"]
                checked[f"{what}: {name}, largest difference"] = Gate(difference, most=ROUNDING[precision])
                checked[f"{what}: {name}, classes changed beyond rounding"] = Gate(changes, most=0)
    return checked


def rows(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One per network, batch and variant."""
    return [
        {
            "network and batch": what,
            "scoring": name,
            "images/s": rate,
            "times plain": each["times the plain network"][name],
            "largest difference": each["parity"].get(name, {}).get("largest difference of a probability"),
            "compiling, s": each.get("compiling, s") if name == "compiled" else None,
            "repaid from images": each.get("images that repay compiling, measured") if name == "compiled" else None,
            "`predict` compiles from": each.get("images from which predict compiles") if name == "compiled" else None,
        }
        for what, each in results.items()
        for name, rate in each["images per second"].items()
    ]


def main() -> None:
    memory.keep_freed()
    machine = processor.chosen()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # compiled anew, whatever earlier runs left
        measured = {f"{arch}, {PIXELS} px, batch {SCORING_BATCH}": compared(arch, machine) for arch in ARCHITECTURES}
    tables = {"Scoring": rows(measured)}
    sys.exit(0 if measure.write("inference", tables, gates(measured, machine.precision), [machine.precision]) else 1)


if __name__ == "__main__":
    main()
