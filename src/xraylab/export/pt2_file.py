"""torch.export: one file that torch alone runs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from xraylab.data.pixels import Gray
from xraylab.errors import DataError
from xraylab.export.graph import ClassifierGraph
from xraylab.export.metadata import Metadata
from xraylab.export.quiet import quiet


def write(graph: ClassifierGraph, size: int, metadata: Metadata, target: Path) -> str:
    """Export the graph with a dynamic batch; `metadata` are files in it. Errors: DataError where that fails."""
    example = torch.zeros(2, size, size, dtype=torch.uint8)
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(graph, (example,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},))
            with target.open("wb") as file:
                torch.export.save(program, file, extra_files=metadata)
    except Exception as error:  # exporters raise whatever they like
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"torch.export cannot export this network: {reason}") from error
    return f"torch {torch.__version__.partition('+')[0]}"


def runner(path: Path) -> Callable[[Gray], list[NDArray[np.float32]]]:
    """The file as a function from prepared images to its outputs."""
    with quiet(), path.open("rb") as file:
        module = torch.export.load(file).module()  # our own file: loading one can run code that is in it

    def run(images: Gray) -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            return [output.numpy() for output in module(torch.from_numpy(np.array(images)))]

    return run
