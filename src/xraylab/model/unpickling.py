"""Whole pickled networks made into safetensors, once, by a process that can do nothing else."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from xraylab import files
from xraylab.errors import WeightsError

CHILD = "xraylab.model.pickle_reader"


def convert(path: Path) -> Path:
    """Write the tensors of a file that torch.save wrote beside it, as safetensors; returns that file.

    Errors: WeightsError where the file is none, or asks for more than tensors; then nothing is written.
    """
    if not path.is_file():
        raise WeightsError(f"{path} does not exist: name a file that torch.save wrote")
    if path.suffix == ".safetensors":
        raise WeightsError(f"{path} is safetensors already")
    if find_spec("resource") is None:
        raise WeightsError("pickles are converted on Linux and macOS alone, where a process can be confined")
    target = path.with_name(path.name.removesuffix(".tar")).with_suffix(".safetensors")
    with files.replacing(target) as temporary:
        with path.open("rb") as source, temporary.open("wb") as result:
            child = subprocess.run(  # noqa: S603 - this module's own command
                [sys.executable, "-m", CHILD], stdin=source, stdout=result, stderr=subprocess.PIPE, check=False
            )
        if child.returncode:
            lines = child.stderr.decode(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else f"the process that read it ended with {child.returncode}"
            raise WeightsError(f"{path} cannot be converted: {reason}")
    return target
