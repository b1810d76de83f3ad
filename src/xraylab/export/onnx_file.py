"""ONNX: one file that onnxruntime and others run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xraylab.data.pixels import Gray
from xraylab.errors import DataError, MissingError
from xraylab.export.graph import INPUT, OUTPUTS, ClassifierGraph
from xraylab.export.metadata import Metadata
from xraylab.export.quiet import quiet

NEWEST_OPSET, OLDEST_OPSET = 25, 18
"""The newest that onnxscript converts to, and the oldest that torch exports."""
MOST_BYTES = 2**31 - 2**24
"""Bytes that one file of protocol buffers holds, less some for all but the weights."""


def require() -> None:
    """Errors: MissingError where the packages of the extra `onnx` are not installed."""
    try:
        import onnx  # noqa: F401, PLC0415 - takes time to import, and may not be there
        import onnxruntime  # noqa: F401, PLC0415
        import onnxscript  # noqa: F401, PLC0415
    except ImportError as error:
        raise MissingError(
            f"--to onnx needs {error.name}, which is not installed: pip install 'xraylab[onnx]'"
        ) from None


def newest_opset() -> int:
    """The newest opset that the installed onnxruntime takes, of those that torch exports."""
    for opset in range(NEWEST_OPSET, OLDEST_OPSET, -1):
        if _takes(opset):
            return opset
    return OLDEST_OPSET


def write(graph: ClassifierGraph, size: int, metadata: Metadata, target: Path, opset: int | None = None) -> str:
    """Export the graph with a dynamic batch, and say in which opset: the newest by default.

    Errors: DataError where the network is too large for one file or cannot be exported.
    """
    import onnx  # noqa: PLC0415 - as above

    weights = sum(p.numel() * p.element_size() for p in graph.parameters())
    if weights > MOST_BYTES:
        raise DataError(f"the weights take {weights / 1e9:.1f} GB, and an ONNX file holds 2 GB: use --to pt2")
    opset = opset or newest_opset()
    model = _export(graph, size, opset)
    if (actual := _opset(model)) != opset:
        raise DataError(
            f"torch exports this network to opset {actual} instead of {opset}: pip install --upgrade torch onnxscript"
        )
    onnx.helper.set_model_props(model, metadata)
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))
    return f"opset {opset}"


def session(path: Path) -> Any:
    """An onnxruntime session on the CPU."""
    import onnxruntime  # noqa: PLC0415 - as above

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def runner(path: Path) -> Callable[[Gray], list[NDArray[np.float32]]]:
    """The file as a function from prepared images to its outputs."""
    opened = session(path)

    def run(images: Gray) -> list[NDArray[np.float32]]:
        return list(opened.run(None, {INPUT: images}))

    return run


def _export(graph: ClassifierGraph, size: int, opset: int) -> Any:
    names = OUTPUTS if graph.calibration is not None else OUTPUTS[:1]
    example = torch.zeros(2, size, size, dtype=torch.uint8)
    shapes = ({0: torch.export.Dim("n", min=1)},)
    try:
        with quiet():
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                opset_version=opset,
                dynamic_shapes=shapes,
                input_names=[INPUT],
                output_names=list(names),
                verbose=False,
            )
    except Exception as error:  # exporters raise whatever they like
        raise DataError(f"torch cannot export this network to ONNX: {_first_line(error)}") from error
    return None if program is None else program.model_proto


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _opset(model: Any) -> int:
    return next(int(each.version) for each in model.opset_import if each.domain == "")


def _takes(opset: int) -> bool:
    """Return whether onnxruntime takes a file of this opset, by trying one: it says so nowhere else."""
    import onnxruntime  # noqa: PLC0415 - as above
    from onnx import TensorProto, helper  # noqa: PLC0415

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "one", value[:1], value[1:])
    imports = [helper.make_opsetid("", opset)]
    try:
        model = helper.make_model(graph, opset_imports=imports, ir_version=helper.find_min_ir_version_for(imports))
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception:  # its errors have no common class, and helper's neither
        return False
    return True
