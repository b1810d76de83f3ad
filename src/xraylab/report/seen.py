"""Whether pretrained weights have seen the test images: public sets that both are of."""

from collections.abc import Iterator

from xraylab.params.data import Data
from xraylab.registry import datasets
from xraylab.registry import weights as registry
from xraylab.registry.datasets import DatasetMatch
from xraylab.registry.weights import NamedWeights
from xraylab.report.artefacts import Artefacts

OPENING = "Pretraining may have included the test images."


def warnings(data: Artefacts) -> list[str]:
    """One for each named weights that experiments begin with and that have seen such images."""
    matches = _matches(data)
    said = (datasets.seen_warning(entry, names, matches) for entry, names in _used(data))
    return [warning for warning in said if warning]


def cautions(data: Artefacts, experiment: str) -> list[str]:
    """The same for one experiment, and that nobody knows what its weights have seen."""
    entries = [entry for entry, names in _used(data) if experiment in names]
    matches = _matches(data)
    said = [(datasets.seen_warning(each, [experiment], matches), datasets.unknown_warning(each)) for each in entries]
    return [text for pair in said for text in pair if text]


def _used(data: Artefacts) -> Iterator[tuple[NamedWeights, list[str]]]:
    """Each named weights, and the experiments that begin with them."""
    for entry in registry.read().values():
        names = [each.name for each in data.experiments if each.cfg.model.pretrained == entry.name]
        if names:
            yield entry, names


def _matches(data: Artefacts) -> list[DatasetMatch]:
    layouts, addresses = _sources(data.params.data)
    return datasets.recognise([*layouts, data.audit["layout"]], addresses, data.test_names)


def _sources(data: Data) -> tuple[list[str], list[str]]:
    """Layouts and addresses of the study's images, with the names of several sources."""
    if isinstance(data.source, str):
        return [data.layout], [data.source]
    sources = list(data.sources.values())
    return [each.layout for each in sources], [text for each in sources for text in (each.path, each.name)]
