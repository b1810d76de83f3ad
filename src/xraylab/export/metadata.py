"""Metadata of an exported file: everything that its user needs to prepare an image and to read the output."""

import json
from importlib.metadata import version

from xraylab.inference import thresholds
from xraylab.inference.card import RESEARCH_ONLY
from xraylab.inference.classifier import Classifier

Metadata = dict[str, str]


def of(classifier: Classifier) -> Metadata:
    """Key -> text; all but name, task, arch, use and version are JSON, as an ONNX file can only hold text."""
    record, fixed = classifier.record, thresholds.to_json(classifier.thresholds)
    multi_label, size = classifier.multi_label, classifier.size
    values = {
        "classes": classifier.classes,
        "positive": record.get("positive"),
        "input": {
            "name": "images",
            "type": "uint8",
            "shape": ["n", size, size],
            "content": "gray levels of images prepared as `preprocessing` says",
        },
        "outputs": {
            "probabilities": "sigmoid of each finding" if multi_label else "softmax over the classes",
            **({"calibrated": "the same after temperature scaling"} if _calibrated(classifier) else {}),
        },
        "preprocessing": record["images"],
        "inside": {"img_size": record["img_size"], "channels": record["channels"], **record["normalise"]},
        "operating_points": fixed["operating_points"],
        "temperature": fixed["temperatures"] if multi_label else fixed["temperature"],
        "precision": "float32",
    }
    texts = {"name": classifier.name, "task": record["task"], "arch": record["arch"]}
    encoded = {key: json.dumps(value, ensure_ascii=False, allow_nan=False) for key, value in values.items()}
    return {**texts, **encoded, "use": RESEARCH_ONLY, "xraylab": version("xraylab")}


def _calibrated(classifier: Classifier) -> bool:
    fixed = classifier.thresholds
    if classifier.multi_label:
        return all(name in fixed.temperatures for name in classifier.classes)
    return fixed.temperature is not None
