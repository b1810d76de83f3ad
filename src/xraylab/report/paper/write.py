"""Write the report for a paper into one folder."""

from collections.abc import Iterable
from html import escape
from pathlib import Path

from xraylab import files
from xraylab.errors import DataError
from xraylab.report import page, participants
from xraylab.report.artefacts import Artefacts
from xraylab.report.paper import figures, latex, methods, tables
from xraylab.report.paper.figures import PaperFigure
from xraylab.report.paper.tables import Table
from xraylab.report.records import where
from xraylab.report.study_facts import selection
from xraylab.report.text import grouped, listed, plural

MARKER = "methods.md"
WITHOUT_FACTS = ("checklist", "cards", "made", "published", "search", "external", "finding_external")
"""Sections that are not of the test images, or that say themselves of which images they are."""
ALL_IMAGES = ("data", "curves", "loss")


def write(data: Artefacts, folder: Path) -> dict[str, int]:
    """Write figures/, tables/, methods.md, methods.tex, main.tex, word.html; returns how many there are of each.

    Errors: DataError where the folder holds something else, which would be lost.
    """
    refuse_foreign(folder)
    sections = page.render_sections(data)
    with files.replacing_folder(folder) as temporary:
        drawn = _write_figures(temporary / "figures", data, figures.of_report(data, sections))
        every = [(name, table) for name, section in sections.items() for table in tables.read(section.html)]
        written = _write_tables(temporary / "tables", data, every)
        content = methods.sections(data)
        files.write_text(methods.markdown(data.params.study.title, content), temporary / MARKER)
        files.write_text(methods.latex(content), temporary / "methods.tex")
        inputs = ["methods", *[f"figures/{name}" for name in drawn], *[f"tables/{name}" for name in written]]
        files.write_text(latex.document(inputs), temporary / "main.tex")
        files.write_text(_word(content, drawn, written), temporary / "word.html")
    return {"figures": len(drawn), "tables": len(written)}


def refuse_foreign(folder: Path) -> None:
    """Errors: DataError where the folder holds what this did not write."""
    if folder.exists() and not (folder.is_dir() and ((folder / MARKER).is_file() or not any(folder.iterdir()))):
        raise DataError(f"{folder} holds other files, which would be lost: name a new folder with --to")


def _write_figures(folder: Path, data: Artefacts, every: Iterable[PaperFigure]) -> dict[str, str]:
    """Name -> caption."""
    folder.mkdir()
    captions: dict[str, str] = {}
    for each in every:
        unique = each._replace(name=_unique(each.name, captions))
        figures.save(unique, folder)
        captions[unique.name] = caption(data, each.section, [each.what])
        text = latex.figure(f"figures/{unique.name}", unique.name, captions[unique.name], each.millimetres)
        files.write_text(text, folder / f"{unique.name}.tex")
    return captions


def _write_tables(folder: Path, data: Artefacts, every: list[tuple[str, Table]]) -> dict[str, str]:
    """Name -> the table as HTML."""
    fragments: dict[str, str] = {}
    titles = [tuple(table.title) for _, table in every]
    for section, table in every:
        head = table.head[0][:1] if table.head and titles.count(tuple(table.title)) > 1 else []
        title = [*table.title, *(cell.text for cell in head if cell.text)]  # several of one title: with what is in it
        name = _unique(latex.label("-".join([section, *title[1:]])), fragments)
        text = caption(data, section, [": ".join(title), *table.notes])
        files.write_text(latex.table(table, name, text), folder / f"{name}.tex")
        files.write_text(tables.html(table, text), folder / f"{name}.html")
        fragments[name] = tables.fragment(table, text)
    return fragments


def _unique(name: str, names: dict[str, str]) -> str:
    numbers = (f"{name}-{number}" for number in range(2, len(names) + 3))
    return name if name not in names else next(each for each in numbers if each not in names)


def caption(data: Artefacts, section: str, said: list[str]) -> str:
    """The caption of a figure or table: its content, images and intervals, and on what epochs were chosen."""
    facts = [] if section in WITHOUT_FACTS else [images(data, section in ALL_IMAGES)]
    if section not in (*WITHOUT_FACTS, *ALL_IMAGES):
        facts += [intervals(data), chosen(data)]
    return " ".join(f"{text.rstrip('.')}." for text in [*said, *facts] if text)


def images(data: Artefacts, every: bool) -> str:
    """How many images and patients: of the test split, or of each."""
    if not every and data.summary.folds:
        return f"Test images of all folds: {grouped(data.tested)}"
    names = participants.SPLITS if every else {"test": participants.SPLITS["test"]}
    rows = {row.split: row for row in where(data.demographics, grouping=participants.ALL)}
    texts = [
        f"{title} set: {_number(rows[name].images or 0, rows[name].patients)}"
        for name, title in names.items()
        if name in rows
    ]
    return "; ".join(texts) + (" (first fold)" if data.summary.folds else "")


def _number(count: int, patients: int | None) -> str:
    return plural(count, "image") + (f" of {plural(patients, 'patient')}" if patients else " (patients unknown)")


def intervals(data: Artefacts) -> str:
    """Confidence, methods and the units that intervals rest on."""
    summary = data.summary
    return (
        f"{100 * summary.confidence:g} % confidence intervals ({listed(summary.interval_methods)}): {summary.rests_on}"
    )


def chosen(data: Artefacts) -> str:
    """On what each experiment's best epoch was chosen."""
    configs = {each.name: each.cfg for each in data.experiments}
    return f"Best epoch: {selection(configs, data.summary)}"


def _word(content: methods.Sections, drawn: dict[str, str], written: dict[str, str]) -> str:
    """Everything on one page, for word processors."""
    parts = [f"<h2>{escape(heading)}</h2>\n<p>{escape(' '.join(texts))}</p>\n" for heading, texts in content.items()]
    parts += [f'<p><img src="figures/{name}.png"><br>{escape(text)}</p>\n' for name, text in drawn.items()]
    return tables.PAGE.format(title="Methods, figures and tables", body="".join([*parts, *written.values()]))
