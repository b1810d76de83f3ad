"""The processor that a bench measures, in which precisions, and whose gates hold there."""

import sys

import measure
from measure import Gate

from xraylab.model import hardware
from xraylab.model.hardware import Hardware

UNMEASURED = "set before such a machine was measured"


def chosen() -> Hardware:
    """This processor in the precision that `auto` chooses; a GPU has a bench of its own."""
    machine = hardware.choose("auto")
    if machine.device != "cpu":
        sys.exit("this measures a processor: set CUDA_VISIBLE_DEVICES to nothing, or run bench/accelerator.py")
    return machine


def precisions() -> list[str]:
    """What is measured: float32, and before it bfloat16 where `auto` chooses that."""
    return list(dict.fromkeys([chosen().precision, "float32"]))


def unit(precision: str) -> str:
    """What computes in this precision here: `float32`, `AVX512_BF16` or `AMX`."""
    if precision == "float32":
        return precision
    return next((name for name in measure.instructions() if name in {"AMX", "AVX512_BF16"}), "float32")


def gate(measured: float, least: dict[str, float], precision: str) -> Gate:
    """The gate of this processor: `least` names one per `unit`."""
    computes = unit(precision)
    return Gate(measured, least[computes], note=UNMEASURED if computes == "AMX" else "")
