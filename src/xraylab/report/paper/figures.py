"""The charts of the page at the widths of a journal's columns, each with its key, as PNG and as SVG."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xraylab.report import curves, dvc_plots
from xraylab.report.artefacts import Artefacts
from xraylab.report.charts import Chart, KeyEntry, style
from xraylab.report.page import RenderedSection
from xraylab.report.paper.latex import label
from xraylab.report.records import Tree

COLUMN, PAGE = 85, 180  # millimetres: one column, and the whole width of a page
MILLIMETRE = 1 / 25.4  # inches
BROAD = 3.5  # inches, above which the page's chart needs the whole width
KEY_LINE = 0.17  # inches of a line of the key
DPI = 300
SUMMARY = "summary"
OF_PAGE = {
    "loss": "Loss of every experiment over the epochs",
    "roc": "ROC curves on the test images",
    "precision_recall": "Precision and recall on the test images",
    "calibration": "Calibration on the test images",
    "confusion": "Confusion matrices on the test images",
}


class PaperFigure(NamedTuple):
    """`section`: of the page, by its id; `what`: it shows, in a sentence."""

    name: str
    section: str
    what: str
    figure: Figure
    key: list[KeyEntry]
    millimetres: int


def of_report(data: Artefacts, sections: dict[str, RenderedSection]) -> Iterator[PaperFigure]:
    """Every chart of the page, one after the other; those of all findings together where there are findings."""
    for title, chart in curves.forest(data.summary, data.metrics).items():
        yield _of_chart(SUMMARY, [SUMMARY, title], chart, data, f"{title}: differences from {data.summary.baseline}")
    for name, section in sections.items():
        if name != "finding_curves":  # a hundred small charts, which are one figure below
            for path, chart in _charts_of(section.values):
                yield _of_chart(name, [name, *path], chart, data, chart.alt)
    with matplotlib.rc_context(style("paper")):
        every = dvc_plots.figures(data.paths.evaluation, data.summary, data.test_shares)
    for kind, figure in every.items():
        if figure is not None:
            figure.suptitle("")
            yield PaperFigure(f"all-{label(kind)}", kind, OF_PAGE[kind], figure, [], PAGE)


def _charts_of(values: Tree) -> Iterator[tuple[tuple[str, ...], Chart]]:
    """The charts of a section; the name of a value that holds several says nothing."""
    for name, value in values.items():
        yield from charts_in(value, (name,) if isinstance(value, Chart) else ())


def charts_in(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Chart]]:
    """The charts anywhere in the values of a template, each with where it is."""
    if isinstance(values, Chart):
        yield path, values
    elif isinstance(values, dict):
        for name, value in values.items():
            yield from charts_in(value, (*path, str(name)))
    elif dataclasses.is_dataclass(values) and not isinstance(values, type):
        name = getattr(values, "experiment", getattr(values, "name", None))
        inner = (*path, name) if isinstance(name, str) else path
        for each in dataclasses.fields(values):
            yield from charts_in(getattr(values, each.name), inner)
    elif isinstance(values, list | tuple):
        for number, value in enumerate(values, 1):
            yield from charts_in(value, path if dataclasses.is_dataclass(value) else (*path, str(number)))


def _of_chart(section: str, path: list[str], chart: Chart, data: Artefacts, what: str) -> PaperFigure:
    names = list(data.summary.experiments)
    key: list[KeyEntry] = [(names[which] if isinstance(which, int) else which, how) for which, how in chart.key]
    width = PAGE if chart.figure.get_figwidth() > BROAD else COLUMN
    return PaperFigure("-".join(filter(None, map(label, path))), section, what, chart.figure, key, width)


def save(each: PaperFigure, folder: Path) -> None:
    """Write <name>.png (300 dpi) and <name>.svg, whose texts are text."""
    with matplotlib.rc_context(style(each.name)):
        _fit(each)
        for kind in ("png", "svg"):
            where = folder / f"{each.name}.{kind}"
            metadata = {"Date": None} if kind == "svg" else None
            each.figure.savefig(where, dpi=DPI, facecolor="white", metadata=metadata)


def _fit(each: PaperFigure) -> None:
    """Make it as wide as its column, and add its key below."""
    figure, width = each.figure, each.millimetres * MILLIMETRE
    height = figure.get_figheight() * width / figure.get_figwidth()
    columns = 2 if each.millimetres == COLUMN else 4
    lines = -(-len(each.key) // columns)
    figure.set_size_inches(width, height + KEY_LINE * lines)
    if each.key:
        handles = [Line2D([], [], label=str(what), **how) for what, how in each.key]
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=7)
