"""The sections that a multi-label study's page has of its own: from `Artefacts` to the values of their templates."""

from xraylab import tables as csv
from xraylab.report import charts as shared
from xraylab.report import participants, provenance
from xraylab.report import pictures as radiographs
from xraylab.report.artefacts import Artefacts
from xraylab.report.multi_label import charts, tables
from xraylab.report.multi_label import external as external_tests
from xraylab.report.multi_label import pictures as multi_pictures
from xraylab.report.records import Tree


def data(artefacts: Artefacts) -> Tree:
    """How the images were split and labelled, what the audit found, what is known of the patients, and some images."""
    index = artefacts.index
    several = len(index[["width", "height"]].drop_duplicates()) > 1
    return {
        "audit": artefacts.audit,
        "leaks": artefacts.leaks,
        "removed": csv.read(artefacts.paths.split / "removed.csv").to_dict("records"),
        "split_sentences": provenance.split_sentences(artefacts.params.split, findings=True),
        "flow": participants.flow(artefacts.audit, artefacts.split["removed"], artefacts.demographics, classes=False),
        "people": participants.table(artefacts.demographics),
        "class_samples": multi_pictures.of_findings(artefacts),
        "augmented": radiographs.augmented(artefacts),
        "sizes": shared.sizes(index.assign(label=""), [""], "Width and height of the images") if several else None,
        "size": index[["width", "height"]].iloc[0].tolist(),
        **tables.labels(artefacts),
    }


def findings(artefacts: Artefacts) -> Tree:
    """The table of findings, their AUROCs as a chart, and which findings go together."""
    return tables.findings(artefacts) | {"chart": charts.aurocs(artefacts)}


external = external_tests.external
finding_curves = charts.curves
experiments = tables.experiments
pictures = multi_pictures.samples
