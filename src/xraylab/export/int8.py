"""Quantization of ONNX files to int8 by onnxruntime, with what it costs in AUROC and gains in speed.

Convolutional networks are quantized statically, with ranges from training images; those with attention dynamically
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xraylab import targets
from xraylab.data.pixels import Gray
from xraylab.evaluate import metrics
from xraylab.export import onnx_file, parity
from xraylab.export.graph import INPUT
from xraylab.export.parity import Run
from xraylab.export.quiet import quiet
from xraylab.export.samples import Samples
from xraylab.inference.classifier import Classifier
from xraylab.inference.thresholds import Floats
from xraylab.report.text import plural

OPSET = 20
"""onnxruntime's quantizer writes files of newer ones that it cannot read, or that are not faster."""
N_CALIBRATED, N_MEASURED = 128, 1000
BATCH, ROUNDS = 8, 9
WEAK = 0.01
"""A loss of AUROC that is worth a warning."""
PRODUCTS = ["MatMul", "Gemm"]


@dataclass
class Batches:
    """Training images as the quantizer asks for them."""

    images: Gray
    start: int = 0

    def get_next(self) -> dict[str, Gray] | None:
        """The next batch; None after the last."""
        part = self.images[self.start : self.start + BATCH]
        self.start += BATCH
        return {INPUT: part} if len(part) else None


def write(source: Path, target: Path, training: Samples) -> str:
    """Quantize the network in a file of opset `OPSET`, but not its preprocessing; say how."""
    import onnx  # noqa: PLC0415 - of the extra, as in onnx_file
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static  # noqa: PLC0415 - likewise
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415 - likewise

    fused = source.with_suffix(".fused")
    options: dict[str, Any] = {"per_channel": True, "weight_type": QuantType.QInt8}
    try:
        with quiet():
            quant_pre_process(str(source), str(fused), skip_symbolic_shape=True)
            model = onnx.load(fused)
            del model.graph.value_info[:]  # shapes that the quantizer would contradict
            options["nodes_to_exclude"] = _preprocessing(model)
            if dynamic := _has_attention(model):
                quantize_dynamic(model, target, PRODUCTS, **options)
            else:
                operators = ["Conv", *PRODUCTS]
                batches: Any = Batches(training.images)
                quantize_static(model, target, batches, op_types_to_quantize=operators,
                                activation_type=QuantType.QUInt8, **options)  # fmt: skip
    finally:
        fused.unlink(missing_ok=True)
    how = "dynamic: convolutions stay in float32" if dynamic else f"static, calibrated on {training.what}"
    _describe(source, target, how)
    return f"int8 ({how})"


def measure(exact: Path, quantized: Path, classifier: Classifier, splits: list[Samples]) -> Iterator[str]:
    """Lines that compare the two files: AUROC on each split, of several findings the mean and the worst, and speed."""
    runs = [onnx_file.runner(path) for path in (exact, quantized)]
    losses = {"": 0.0}
    for split in splits:
        if not len(split):
            continue
        p, q = (parity.outputs(run, split.images)[0] for run in runs)
        before, after = aurocs(classifier, split, p), aurocs(classifier, split, q)
        change = f"; probabilities change by up to {np.abs(p - q).max():.3f}"
        if not before:
            why = "no finding has images with and without it" if classifier.multi_label else "a class has no images"
            yield f"{split.what}: no AUROC, since {why}{change}"
            continue
        yield f"{split.what}: {_compared(before, after, classifier.multi_label)}{change}"
        losses |= {name: max(before[name] - after[name], losses.get(name, 0.0)) for name in before}
    yield from _speed(runs, next(split.images for split in splits if len(split)))
    worst = max(losses, key=lambda name: losses[name])
    if losses[worst] > WEAK:
        of_finding = f" for {worst}" if classifier.multi_label else ""
        yield (
            f"warning: int8 loses {losses[worst]:.3f} of AUROC{of_finding}: prefer the file in float32, without --int8"
        )


def aurocs(classifier: Classifier, samples: Samples, p: Floats) -> dict[str, float]:
    """The AUROC of each finding that has images with and without it.

    Of classes only one, that of the positive class or the mean, and none where a class has no images.
    """
    rows, classes = samples.rows, classifier.classes
    if classifier.multi_label:
        labels = targets.values(rows, classes)
        known = targets.known(labels)
        each = {name: (labels[known[:, n], n] == 1, p[known[:, n], n]) for n, name in enumerate(classes)}
        return {name: metrics.auroc_and_auprc(*pair)[0] for name, pair in each.items() if metrics.has_both(pair[0])}
    actual = np.array([classes.index(label) for label in rows["label"]], np.int64)
    positive = classifier.record["positive"]
    value = metrics.auroc(actual, p, classes.index(positive) if positive else None)
    return {} if value is None else {"": value}


def _compared(before: dict[str, float], after: dict[str, float], findings: bool) -> str:
    """Both AUROC, of findings their means and those of the one that loses most."""
    if not findings:
        return f"AUROC {_both(before[''], after[''])}"
    worst = min(before, key=lambda name: after[name] - before[name])
    means = (float(np.mean(list(each.values()))) for each in (before, after))
    text = f"mean AUROC of {plural(len(before), 'finding')} {_both(*means)}"
    return f"{text}; worst for {worst}: {_both(before[worst], after[worst])}"


def _both(before: float, after: float) -> str:
    return f"{before:.4f} in float32, {after:.4f} in int8 ({after - before:+.4f})"


def _speed(runs: list[Run], images: Gray) -> Iterator[str]:
    """Compare medians of rounds that alternate, after one that does not count."""
    batch, seconds = images[:16], np.empty((ROUNDS, 2))
    for number in range(-1, ROUNDS):
        for column, run in enumerate(runs):
            started = time.perf_counter()
            run(batch)
            seconds[number, column] = time.perf_counter() - started
    exact, quantized = np.median(seconds, axis=0) * 1000 / len(batch)
    yield (
        f"{exact:.2f} ms an image in float32, {quantized:.2f} in int8: {exact / quantized:.2f} times as fast (medians "
        f"of {ROUNDS} alternating rounds of {len(batch)} images, onnxruntime, {torch.get_num_threads()} threads)"
    )


def _preprocessing(model: Any) -> list[str]:
    """The nodes before the network's first convolution: resizing and normalisation keep their precision."""
    operators = [node.op_type for node in model.graph.node]
    first = operators.index("Conv") if "Conv" in operators else 0
    return [node.name for node in list(model.graph.node)[:first]]


def _has_attention(model: Any) -> bool:
    """Return whether there is a product of two activations."""
    weights = {each.name for each in model.graph.initializer}
    inside = [node for node in model.graph.node if node.op_type == "MatMul"]
    return any(not weights.intersection(node.input) for node in inside)


def _describe(source: Path, target: Path, how: str) -> None:
    """Give the quantized file the exact one's metadata, with its precision."""
    import onnx  # noqa: PLC0415 - as above

    metadata = {each.key: each.value for each in onnx.load(source, load_external_data=False).metadata_props}
    model = onnx.load(target)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**metadata, "precision": json.dumps("int8"), "quantization": how})
    onnx.save(model, str(target))
