"""What this machine has, and how to use it: chosen when training starts, recorded in model.json."""

import contextlib
import os
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils import deterministic

from xraylab.errors import TrainingError


@dataclass(frozen=True)
class Hardware:
    """A device, a precision (`float32` or `bfloat16`), and what bits besides depend on."""

    device: str
    name: str
    precision: str
    threads: int
    torch: str

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision with float32 weights, or nothing."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device, torch.bfloat16)

    def record(self) -> dict[str, Any]:
        return asdict(self)


def deterministic_algorithms() -> None:
    """The same seed on the same machine gives the same bits; an operation of a GPU that cannot says so in a warning."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # switched on along with it, this fills every new tensor with NaN: a check of torch itself that costs time
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property that mypy does not see


def choose(precision: str) -> Hardware:
    """The GPU where there is one; `auto` is bfloat16 where the device computes it in hardware.

    Errors: TrainingError where bfloat16 is asked of a GPU that cannot.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fast = _fast_bfloat16(device)
    if precision == "bfloat16" and device == "cuda" and not fast:
        raise TrainingError("train.precision: this GPU has no bfloat16; set it to auto or float32")
    chosen = ("bfloat16" if fast else "float32") if precision == "auto" else precision
    name = torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()
    return Hardware(device, name, chosen, torch.get_num_threads(), torch.__version__)


def _fast_bfloat16(device: str) -> bool:
    """On a CPU, AVX-512 alone emulates bfloat16 at a third of float32's speed; AMX has it in silicon."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported())
