"""A trained classifier as one file that others can check and run: `xraylab bundle` writes, `xraylab.load` reads."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import safetensors.numpy
import safetensors.torch
from safetensors import SafetensorError
from torch import nn

from xraylab import plugins
from xraylab.errors import DataError, PluginError, WeightsError
from xraylab.inference import archive, card, monai, samples
from xraylab.inference.card import RESEARCH_ONLY, ModelCard
from xraylab.inference.classifier import Classifier
from xraylab.inference.reference import Reference
from xraylab.model import weights
from xraylab.model.create import create_recorded_model

SUFFIX = ".zip"
CARD, WEIGHTS, README = "card.json", "model.safetensors", "README.md"
REFERENCE, REFERENCE_RECORD = "reference.safetensors", "reference.json"
REQUIRED = (CARD, WEIGHTS, samples.EXPECTED)
FILES = (*REQUIRED, README, REFERENCE, REFERENCE_RECORD, *monai.FILES)
ALLOWED = re.compile("|".join([*map(re.escape, FILES), samples.FILE.pattern]))
README_TEXT = """# {name}

{study}: {classes}. {research_only}
`card.json` says how the network was trained and tested, and what it must not be used for.

    pip install xraylab=={version}

    import xraylab
    classifier = xraylab.load("{file}", check=True)   # reproduces expected_outputs.json first
    classifier.predict("film.png")                    # class -> probability; PNG, JPEG, TIFF, DICOM
    classifier.card.operating_points                  # thresholds, with sensitivity and specificity

On the command line: `xraylab predict-images {file} FOLDER`.

{limits}
"""


def write(target: Path, classifier: Classifier) -> None:
    """Write the bundle of a classifier that has its card, whole or not at all; the same run gives the same bytes.

    Its reference, where it has one, is written too, with whatever hashes of training images are in it. Errors:
    DataError without a card.
    """
    facts = classifier.card
    if facts is None:
        raise DataError(f"{classifier.name} has no model card, which a bundle must hold")
    name = file_name(facts.name)
    members = {
        CARD: card.to_json(facts).encode(),
        README: _readme(facts, name).encode(),
        **monai.files(facts, name),
        **samples.make(_in_float32(classifier)),
        **_reference_members(classifier.reference),
        WEIGHTS: safetensors.torch.save(
            weights.tensors(classifier.network), weights.classes_metadata(classifier.classes)
        ),
    }
    archive.write(members, target)


def _readme(facts: ModelCard, name: str) -> str:
    return README_TEXT.format(
        name=facts.name,
        study=facts.study,
        classes=", ".join(facts.classes),
        research_only=RESEARCH_ONLY,
        version=facts.versions["xraylab"],
        file=name,
        limits="\n".join(f"- {each}" for each in facts.limits),
    )


def file_name(name: str) -> str:
    """The usual name of the bundle of experiment/repeat."""
    return f"{name.replace('/', '-')}{SUFFIX}"


def load(path: Path | str, precision: str | None = None, check: bool = False) -> Classifier:
    """The classifier in a bundle, ready to classify images, with its `card`.

    `precision` as for `Classifier.create`. `check`: reproduce the bundle's expected outputs first. Errors: DataError
    where the file is damaged, hostile or of a newer format, or does not reproduce its outputs; PluginError where its
    architecture's plugin is not installed; WeightsError where the weights are not the network's.
    """
    path = Path(path)
    members = archive.read(path, ALLOWED)
    if absent := [name for name in REQUIRED if name not in members]:
        raise DataError(f"{path} is not a bundle: it has no {absent[0]}")
    facts = card.from_json(members[CARD], f"{path}: {CARD}")
    other_plugin = _other_plugin(path, facts)
    network, reference = _network(path, facts, members[WEIGHTS]), _reference(path, members)
    classifier = Classifier.create(facts.name, facts.record, facts.thresholds, network, precision)
    classifier = replace(classifier, card=facts, reference=reference)
    if check or other_plugin:
        samples.reproduce(_in_float32(classifier), members, str(path))
    return classifier


def _reference_members(reference: Reference | None) -> dict[str, bytes]:
    tensors, record = reference.to_tensors() if reference else ({}, {})
    if not tensors:
        return {}
    return {REFERENCE_RECORD: json.dumps(record).encode(), REFERENCE: safetensors.numpy.save(tensors)}


def _reference(path: Path, members: Mapping[str, bytes]) -> Reference | None:
    """Errors: DataError where it is not as `to_tensors` made it."""
    if REFERENCE not in members:
        return None
    try:
        record = json.loads(members[REFERENCE_RECORD])
        return Reference.from_tensors(safetensors.numpy.load(members[REFERENCE]), record)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: {REFERENCE} is not a reference: {error}") from None


def _in_float32(classifier: Classifier) -> Classifier:
    """The same, in the precision of the expected outputs."""
    if classifier.hardware.precision == samples.PRECISION:
        return classifier
    record, thresholds = classifier.record, classifier.thresholds
    return Classifier.create(classifier.name, record, thresholds, classifier.network, samples.PRECISION)


def _network(path: Path, facts: ModelCard, data: bytes) -> nn.Module:
    """Errors: WeightsError where these are no weights, or another network's."""
    network = create_recorded_model(facts.record)
    try:
        network.load_state_dict(safetensors.torch.load(data))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path}: {WEIGHTS} does not fit {facts.network.arch}: {reason}") from None
    return network


def _other_plugin(path: Path, facts: ModelCard) -> bool:
    """Return whether its plugin has another version here. Errors: PluginError where the plugin is not installed."""
    plugin = facts.network.plugin
    if plugin is None:
        return False
    offered = plugins.of_kind("architecture").get(facts.network.arch)
    if offered is None or offered.distribution != plugin.distribution:
        raise PluginError(
            f"{path}: its architecture {facts.network.arch} is of the plugin {plugin.distribution}: "
            f"pip install {plugin.distribution}=={plugin.version}"
        )
    return offered.version != plugin.version
