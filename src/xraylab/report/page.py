"""The page itself: its sections, in their order, and how they become HTML.

To add a section: a function from `Artefacts` to the values of its template, in one of this package's modules; its
template, templates/<id>.html.j2; and its entry in `SECTIONS`.
"""

import base64
import hashlib
import re
from collections.abc import Callable
from importlib.resources import files as packed
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from xraylab.report import (
    charts,
    curves,
    metric_tables,
    participants,
    pictures,
    provenance,
    search,
    seen,
    study_facts,
    summary,
    text,
)
from xraylab.report.artefacts import Artefacts
from xraylab.report.multi_label import sections as multi_label
from xraylab.report.multi_label import sentences
from xraylab.report.pictures import Names
from xraylab.report.records import DAGGER, Tree


class Section(NamedTuple):
    """`values`: of the section's template; None where the study has nothing for it, and the section is left out."""

    heading: str
    values: Callable[[Artefacts], Tree | None]


SECTIONS = {
    "data": Section("Data", participants.data_section),
    "curves": Section("Learning curves", curves.learning),
    "comparison": Section("Comparison", metric_tables.comparison),
    "roc": Section("ROC, precision-recall and decision curves", curves.roc),
    "experiments": Section("Experiment by experiment", metric_tables.experiments),
    "pictures": Section("Example images", pictures.samples),
    "pair": Section("The two best", pictures.pair),
    "explain": Section("Is it right for the right reason?", pictures.explanation),
    "external": Section("External test", metric_tables.external),
    "search": Section("Search", lambda data: search.read(data.paths.search)),
    "published": Section("The published study", lambda data: data.published),
    "made": Section("How it was made", provenance.made),
    "checklist": Section("Checklists", study_facts.checklists),
    "cards": Section("Model cards", study_facts.cards),
}
"""By id, which is also the name of the template and of the anchor."""
MULTI_LABEL = {
    "data": Section("Data", multi_label.data),
    "findings": Section("Findings", multi_label.findings),
    "curves": SECTIONS["curves"],
    "comparison": SECTIONS["comparison"],
    "finding_curves": Section("ROC, precision-recall and calibration curves", multi_label.finding_curves),
    "finding_details": Section("Experiment by experiment", multi_label.experiments),
    "finding_pictures": Section("Example images", multi_label.pictures),
    "explain": SECTIONS["explain"],
    "finding_external": Section("External test", multi_label.external),
} | {name: SECTIONS[name] for name in list(SECTIONS)[list(SECTIONS).index("search") :]}
"""Of multi-label studies; what is of their own has a template of its own, but for the data, where both share a part."""


class RenderedSection(NamedTuple):
    """A section, the values of its template, and its HTML."""

    heading: str
    values: Tree
    html: Markup


def render_sections(data: Artefacts) -> dict[str, RenderedSection]:
    """The sections that the study has something for, by id."""
    names = Names.of(list(data.index["id"]), data.params.report.hide_names)
    templates, common = environment(names), _common(data, names)
    sections, every = {}, MULTI_LABEL if data.summary.multi else SECTIONS
    for name, (heading, of_section) in every.items():
        values = of_section(data)
        if values is not None:
            html = templates.get_template(f"{name}.html.j2").render(common, **values)
            sections[name] = RenderedSection(heading, values, Markup(html))  # noqa: S704 - escaped
    return sections


def render(data: Artefacts) -> str:
    """The page as HTML. Everything that is not Markup is escaped; a value that is missing is an error.

    The page's own policy lets it load nothing and run nothing but its one script, which sorts tables.
    """
    names = Names.of(list(data.index["id"]), data.params.report.hide_names)
    templates, common, sections = environment(names), _common(data, names), render_sections(data)
    script = packed("xraylab.report").joinpath("templates/sort.js").read_text(encoding="utf-8")
    return templates.get_template("page.html.j2").render(
        common,
        sections={name: each.html for name, each in sections.items()},
        headings={name: each.heading for name, each in sections.items()},
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=script_hash(script),
        shortcut_opening=summary.OPENING,
        shortcut=summary.shortcut_warning(data.audit, data.explained),
        seen_opening=seen.OPENING,
        seen=seen.warnings(data),
        headline=summary.headline(data.summary),
        conclusions=summary.conclusions(data.summary),
        answer=sentences.answer(data) if data.summary.multi else summary.answer(data.summary, data.tested),
        forest=curves.forest(data.summary, data.metrics),
        leaks=data.leaks,
        tested=data.tested,
    )


def _common(data: Artefacts, names: Names) -> Tree:
    """What every template may use."""
    return {
        "params": data.params,
        "summary": data.summary,
        "split": data.split,
        "totals": data.totals,
        "chosen_on_test": data.summary.chosen_on_test,
        "several": len(data.params.study.repeats) > 1,
        "binary": data.summary.positive is not None,
        "multi": data.summary.multi,
        "confidence": f"{100 * data.summary.confidence:g} %",
        "dagger": DAGGER,
        "f1_name": summary.f1_name(data.summary),
        "names_hidden": names.numbers is not None,
    }


def environment(names: Names) -> Environment:
    """Templates that escape everything, with the filters of numbers, metrics and names."""
    templates = Environment(
        loader=PackageLoader("xraylab.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    numbers = (text.percent, text.decimal, text.grouped, text.duration, text.listed, text.plural, text.p_value)
    metrics = (text.minus, text.signed, text.title, text.metric_name, text.unit, text.interval)
    templates.filters.update({function.__name__: function for function in (*numbers, *metrics)})
    templates.filters.update(
        zip=zip,
        metric=text.format_metric,
        colour=charts.css_colour,
        name=names.whole,
        file_name=names.file,
        finding=names.finding,
        split_name=text.SPLIT_NAMES.__getitem__,
        code=_code,
    )
    return templates


def _code(sentence: str) -> Markup:
    """HTML of a sentence, with what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(sentence))))  # noqa: S704 - escaped


def script_hash(script: str) -> str:
    """As a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
