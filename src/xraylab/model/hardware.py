"""Choose device and precision on this machine, when training starts; recorded in model.json."""

import contextlib
import os
import shutil
import subprocess
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import deterministic

from xraylab.errors import TrainingError
from xraylab.model import memory

AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}
NVIDIA_GPUS, AMD_GPU = Path("/proc/driver/nvidia/gpus"), Path("/dev/kfd")  # what the drivers say on Linux
TENSOR_CORES = (7, 0)  # the compute capability from which float16 is faster than float32


@dataclass(frozen=True)
class Hardware:
    """A device, a precision (`float32`, `tf32`, `bfloat16` or `float16`), and what bits besides depend on."""

    device: str
    name: str
    precision: str
    threads: int
    torch: str
    devices: int = 1
    """How many such devices train one network together, each in a process of its own with so many threads."""

    def __str__(self) -> str:
        """As the first line of a training says it: NVIDIA H200, bfloat16, TF32 off, 8 threads."""
        tf32 = [f"TF32 {'on' if self.precision == 'tf32' else 'off'}"] if self.device == "cuda" else []
        precision = "float32" if self.precision == "tf32" else self.precision
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        each = f"CPU with {self.name}" if self.device == "cpu" else self.name
        return ", ".join([f"{self.devices} x {each}" if self.devices > 1 else each, precision, *tf32, threads])

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision with float32 weights, or nothing."""
        if self.precision not in AUTOCAST:
            return contextlib.nullcontext()
        return torch.autocast(self.device, AUTOCAST[self.precision])

    def record(self) -> dict[str, Any]:
        return asdict(self)


def deterministic_algorithms() -> None:
    """The same seed on the same machine gives the same bits; an operation of a GPU that cannot says so in a warning."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # the same as use_deterministic_algorithms(True, warn_only=True), which imports torch's compiler besides: 1.4 s
    torch.set_deterministic_debug_mode("warn")
    # switched on along with it, this fills every new tensor with NaN: a check of torch itself that costs time
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property that mypy does not see


def choose(precision: str) -> Hardware:
    """The GPU where there is one that torch can use; torch computes float32 on it with TF32 or without from here on.

    `auto` is bfloat16 where the device computes it in hardware, else float16 on a GPU with tensor cores, else float32;
    on Apple's GPU float32. Errors: TrainingError where the device has no such precision.
    """
    device, _ = _device()
    name = _name(device)
    if precision == "auto":
        fast = _fast(device)
        precision = next((each for each in AUTOCAST if each in fast), "float32")
    elif precision not in _possible(device):
        raise TrainingError(f"train.precision: this {_kind(device)} has no {precision}; set it to auto or float32")
    if device == "cuda":
        _use_tf32(precision == "tf32")
    return Hardware(device, name, precision, torch.get_num_threads(), torch.__version__)


def choose_to_score(trained: str) -> tuple[Hardware, list[str]]:
    """Choose the hardware to score a network trained in that precision, and a note where only float32 is fast."""
    device, _ = _device()
    if trained == "float32" or trained in _fast(device):
        return choose(trained), []
    machine = choose("float32")
    return machine, [f"trained in {trained}, which is not fast on this {_kind(device)}: scored in float32"]


def first_lines(title: str, machine: Hardware) -> list[str]:
    """Describe the hardware in use, with a warning about an unused GPU."""
    _, unused = _device()
    return [f"{title}: {machine}", *([f"warning: {unused}"] if unused else [])]


def memory_format(device: str) -> torch.memory_format:
    """Channels last, but on Apple's GPU, on which convolutions of such tensors were wrong in several torch versions."""
    return torch.contiguous_format if device == "mps" else torch.channels_last


def in_memory_format(images: Tensor, device: str) -> Tensor:
    """A batch on the device in the order of its network's weights; the batches are made channels last."""
    return images.contiguous() if device == "mps" else images


def _device() -> tuple[str, str | None]:
    """The device of torch, and the reason why an existing GPU is not used."""
    if torch.cuda.is_available():
        return _tried()
    if torch.backends.mps.is_available():
        return "mps", None
    return "cpu", _unused()


def _tried() -> tuple[str, str | None]:
    """The GPU, if it computes one plus one: torch is also there on GPUs that are too old for it, or taken."""
    try:
        (torch.ones(1, device="cuda") + 1).item()
    except RuntimeError as error:
        if memory.ran_out(error):
            raise TrainingError(
                "the GPU's memory is taken by other processes (nvidia-smi lists them): wait for them or stop them, or "
                'set CUDA_VISIBLE_DEVICES="" to compute on the CPU'
            ) from error
        return "cpu", _why(str(error).splitlines()[0])
    return "cuda", None


def _unused() -> str | None:
    """Explain why a GPU of this machine cannot be used; None where there is none, or where it is hidden."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"} or not (_nvidia() or AMD_GPU.exists()):
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return _why("this torch is built for CPUs alone; install one for GPUs: https://pytorch.org/get-started/locally")
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return _why(str(error).splitlines()[0])
    return _why("torch does not say why; `nvidia-smi` shows whether the driver works")


def _why(reason: str) -> str:
    return f"there is a GPU, and it is not used, since torch cannot use it: {reason}"


def _nvidia() -> bool:
    """Return whether the NVIDIA driver lists a GPU, in /proc or by nvidia-smi."""
    if NVIDIA_GPUS.is_dir():
        return any(NVIDIA_GPUS.iterdir())
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        listed = subprocess.run([tool, "--list-gpus"], capture_output=True, text=True, timeout=20, check=False)  # noqa: S603 - the driver's own tool
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU" in listed.stdout


def _name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return "Apple GPU" if device == "mps" else torch.backends.cpu.get_cpu_capability()


def _kind(device: str) -> str:
    return "CPU" if device == "cpu" else "GPU"


def _fast(device: str) -> set[str]:
    """Precisions that the device computes in hardware, and so faster than float32.

    A CPU does so with AMX and with AVX512_BF16; AVX-512 without it emulates bfloat16, at a third of float32's speed. Of
    Apple's GPU nothing is known that was measured.
    """
    if device == "cuda":
        precisions = {"bfloat16"} if torch.cuda.is_bf16_supported(including_emulation=False) else set()
        precisions |= {"tf32"} if torch.cuda.is_tf32_supported() else set()
        return precisions | ({"float16"} if torch.cuda.get_device_capability() >= TENSOR_CORES else set())
    if device == "mps":
        return set()
    return {"bfloat16"} if torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported() else set()


def _possible(device: str) -> set[str]:
    """Precisions that may be asked for: a CPU computes each of them somehow, Apple's GPU what autocast knows there."""
    if device == "cpu":
        return {"float32", *AUTOCAST}
    if device == "mps":
        return {"float32", "float16"} | ({"bfloat16"} if torch.backends.mps.is_macos_or_newer(14, 0) else set())
    return {"float32"} | _fast(device)


def _use_tf32(enabled: bool) -> None:
    """Torch's own default is TF32 in convolutions and none in matrix products."""
    precision = "tf32" if enabled else "ieee"
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]  # mypy does not see it
