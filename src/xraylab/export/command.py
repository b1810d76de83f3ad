"""`xraylab export`: write a classifier in another format, once its runtime has given the same probabilities."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from xraylab import files, progress
from xraylab.errors import DataError
from xraylab.export import int8, metadata, onnx_file, parity, pt2_file, samples
from xraylab.export.graph import ClassifierGraph
from xraylab.export.samples import Samples
from xraylab.inference import bundle
from xraylab.inference.classifier import Classifier
from xraylab.paths import Paths
from xraylab.predict import checkpoints, classifiers

FORMATS: dict[str, ModuleType] = {"onnx": onnx_file, "pt2": pt2_file}
RUNTIMES = {onnx_file: "onnxruntime", pt2_file: "torch.export"}


def run(source: str, to: str, output: Path | None, quantize: bool = False) -> Iterator[str]:
    """Export a run of the study in the current folder, or a bundle; nothing is written unless the check succeeds.

    `quantize`: to int8, with its loss of AUROC and its gain in speed. Errors: MissingError where the packages are not
    installed; DataError where the network cannot be exported, or gives other probabilities afterwards; and those of
    `classifiers.find`.
    """
    _refuse(source, to, quantize)
    classifier = classifiers.find(source, "float32")
    target = output or Path(f"{classifier.name.replace('/', '-')}{'-int8' if quantize else ''}.{to}")
    if target.is_dir():
        raise DataError(f"--output {target} is a folder: name a file")
    images = _samples(source, classifier)
    with files.replacing(target) as temporary:
        if quantize:
            lines = list(_quantized(source, classifier, images, temporary))
        else:
            lines = list(_exact(to, classifier, images, temporary))
    yield from lines[:-1]
    yield f"{target}: {lines[-1]}, {target.stat().st_size / 1e6:.1f} MB"


def _exact(to: str, classifier: Classifier, images: Samples, target: Path, **options: int) -> Iterator[str]:
    """The result of the check, and in which version of the format the file is."""
    form, graph = FORMATS[to], ClassifierGraph(classifier).eval()
    with progress.working(f"exporting {classifier.name} ({classifier.record['arch']}) to {to}"):
        how = form.write(graph, classifier.size, metadata.of(classifier), target, **options)
        runner = form.runner(target)
    yield parity.check(runner, classifier, images, RUNTIMES[form])
    yield how


def _quantized(source: str, classifier: Classifier, images: Samples, target: Path) -> Iterator[str]:
    """The result of the check before quantization, what it costs and gains, and how it was done."""
    paths = Paths.here()
    run = checkpoints.find_run(paths, source)
    training = samples.of_split(paths, run, "train", int8.N_CALIBRATED)
    measured = [samples.of_split(paths, run, split, int8.N_MEASURED) for split in ("valid", "test")]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        exact = Path(folder) / "exact.onnx"
        checked, _ = _exact("onnx", classifier, images, exact, opset=int8.OPSET)
        yield f"{checked}, before quantization"
        with progress.working(f"quantizing to int8 with {training.what}"):
            how = int8.write(exact, target, training)
        yield from int8.measure(exact, target, classifier, measured)
        yield f"{how}, opset {int8.OPSET}"


def _refuse(source: str, to: str, quantize: bool) -> None:
    """Errors: DataError for options that exclude each other, MissingError without the packages."""
    if quantize and to != "onnx":
        raise DataError("--int8 quantizes ONNX files: use --to onnx")
    if quantize and source.endswith(bundle.SUFFIX):
        raise DataError(f"--int8 needs training images, which {source} does not hold: name the run, in its study")
    if to == "onnx":
        onnx_file.require()


def _samples(source: str, classifier: Classifier) -> Samples:
    if source.endswith(bundle.SUFFIX):
        return samples.generated(classifier)
    return samples.to_check(Paths.here(), source)
