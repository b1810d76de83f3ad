"""`xraylab export`: write a classifier in another format, once its runtime has given the same probabilities."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from xraylab import files, progress
from xraylab.errors import DataError
from xraylab.export import metadata, onnx_file, parity, pt2_file, samples
from xraylab.export.graph import ClassifierGraph
from xraylab.export.samples import Samples
from xraylab.inference import bundle
from xraylab.inference.classifier import Classifier
from xraylab.paths import Paths
from xraylab.predict import classifiers

FORMATS: dict[str, ModuleType] = {"onnx": onnx_file, "pt2": pt2_file}


def run(source: str, to: str, output: Path | None) -> Iterator[str]:
    """Export a run of the study in the current folder, or a bundle; nothing is written unless the check succeeds.

    Errors: MissingError where the packages are not installed; DataError where the network cannot be exported, or gives
    other probabilities afterwards; and those of `classifiers.find`.
    """
    form = FORMATS[to]
    if to == "onnx":
        onnx_file.require()
    classifier = classifiers.find(source, "float32")
    target = output or Path(f"{classifier.name.replace('/', '-')}.{to}")
    if target.is_dir():
        raise DataError(f"--output {target} is a folder: name a file")
    images = _samples(source, classifier)
    progress.say(f"exporting {classifier.name} ({classifier.record['arch']}) to {to}")
    with files.replacing(target) as temporary:
        how = form.write(ClassifierGraph(classifier).eval(), classifier.size, metadata.of(classifier), temporary)
        checked = parity.check(form.runner(temporary), classifier, images, _runtime(to))
    yield checked
    yield f"{target}: {how}, {target.stat().st_size / 1e6:.1f} MB"


def _samples(source: str, classifier: Classifier) -> Samples:
    if source.endswith(bundle.SUFFIX):
        return samples.generated(classifier)
    return samples.to_check(Paths.here(), source)


def _runtime(to: str) -> str:
    return "onnxruntime" if to == "onnx" else "torch.export"
