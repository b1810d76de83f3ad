"""Whether a training fits into the GPU's memory: what it takes at least, which the caller knows, and what a node has.

How much is free is known on a node alone, so that it is there that a job is refused, before it fetches or trains.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from xraylab.errors import TrainingError

GIB = 2**30
SLICE = re.compile(r"Device +(\d+): \(UUID: (MIG-[^)\s]+)")  # as `nvidia-smi --list-gpus` lists those of a GPU (MIG)
NEEDS = "xraylab.model.training_memory"  # a process of its own: torch stays where networks are


@dataclass(frozen=True)
class Gpu:
    """A GPU with its memory in bytes."""

    index: str
    uuid: str
    free: int
    total: int
    name: str


def needs(configs: list[Path], n_classes: int, devices: int) -> dict[Path, int]:
    """Bytes that each training takes at least, of each of so many GPUs; nothing, with a note, where nobody knows."""
    command = [sys.executable, "-m", NEEDS, str(n_classes), str(devices), *map(str, configs)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)  # noqa: S603 - ours
    if done.returncode != 0:
        reason = (done.stderr.splitlines() or [""])[-1]
        print(f"note: GPU memory is not checked, since its need cannot be computed: {reason}", file=sys.stderr)  # noqa: T201
        return {}
    return {Path(path): size for path, size in json.loads(done.stdout.splitlines()[-1]).items()}


def visible() -> list[Gpu]:
    """The GPUs that this process may use, or slices of them (MIG); nothing where no NVIDIA driver tells."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    table, names = _said(program, "--query", "--xml-format"), _said(program, "--list-gpus")
    return parse(table, names, os.environ.get("CUDA_VISIBLE_DEVICES")) if table else []


def _said(program: str, *flags: str) -> str:
    """What nvidia-smi prints; nothing where it fails."""
    done = subprocess.run([program, *flags], capture_output=True, encoding="utf-8", check=False)  # noqa: S603 - found on the path
    return done.stdout if done.returncode == 0 else ""


def parse(table: str, names: str, chosen: str | None) -> list[Gpu]:
    """The chosen ones, by number or identifier, of those in nvidia-smi's XML; `names`: what `--list-gpus` prints.

    A sliced GPU's number means its first slice, and so does no choice, as CUDA has it.
    """
    tree = ElementTree.fromstring(table)  # noqa: S314 - of a program of this machine
    gpus = [each for index, gpu in enumerate(tree.iter("gpu")) for each in _parts(str(index), gpu, names)]
    if chosen is None:
        return [gpu for gpu in gpus if gpu.uuid.startswith("MIG")][:1] or gpus
    wanted = [name.strip() for name in chosen.split(",")]
    return [gpu for gpu in gpus if gpu.index in wanted or any(name and gpu.uuid.startswith(name) for name in wanted)]


def _parts(index: str, gpu: ElementTree.Element, names: str) -> list[Gpu]:
    """A GPU, or its slices, whose identifiers are in `names` alone; nothing where the driver tells no memory."""
    uuid, name = gpu.findtext("uuid", ""), gpu.findtext("product_name", "GPU")
    slices = list(gpu.iter("mig_device"))
    if not slices:
        return _gpu(index, uuid, name, gpu)
    identifiers = dict(SLICE.findall(names.partition(uuid)[2].partition("\nGPU ")[0]))
    numbers = [each.findtext("index", "") for each in slices]
    return [
        found
        for number, each in zip(numbers, slices, strict=True)
        for found in _gpu(
            index if number == "0" else f"{index}:{number}", identifiers.get(number, "MIG"), f"a slice of {name}", each
        )
    ]


def _gpu(index: str, uuid: str, name: str, element: ElementTree.Element) -> list[Gpu]:
    free, total = (element.findtext(f"fb_memory_usage/{each}", "").removesuffix(" MiB") for each in ("free", "total"))
    known = free.isdigit() and total.isdigit()  # elsewhere N/A
    return [Gpu(index, uuid, int(free) * 2**20, int(total) * 2**20, name)] if known else []


def refuse_too_large(experiment: str, need: int, sharing: int, gpus: list[Gpu]) -> None:
    """Errors: TrainingError, with what to type, where a training that takes `need` bytes surely does not fit.

    `sharing`: so many jobs share each GPU, whose free memory then says nothing about what each one will have.
    """
    smaller = (
        f"`xraylab fit-batch {experiment}` on such a GPU finds the largest train.batch_size; train.grad_accum keeps the"
        " steps as they are, train.grad_checkpointing: true takes less memory and more time"
    )
    for gpu in gpus:
        share, has = gpu.total // sharing, f"{gpu.name} has {gpu.total / GIB:.1f} GiB"
        requirement = f"{experiment} takes {need / GIB:.1f} GiB of GPU memory or more"
        if need > share:
            remedies = [smaller, *(["fewer jobs on a GPU: --jobs-per-gpu"] if sharing > 1 else [])]
            shared = f", for {sharing} jobs" if sharing > 1 else ""
            raise TrainingError(f"{requirement}, and {has}{shared}", remedies)
        if sharing == 1 and need > gpu.free:
            raise TrainingError(
                f"{requirement}, and of the {gpu.total / GIB:.1f} GiB of {gpu.name} {gpu.free / GIB:.1f} are free",
                ["others use this GPU, and `nvidia-smi` there says who: ask for one of its own, or for another node"],
            )
