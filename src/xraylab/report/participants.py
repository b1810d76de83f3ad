"""Who was studied: from the files that were found to the images of each split, and what is known of their patients.

After STARD 2015 (Bossuyt et al., BMJ 351 (2015) h5527, items 19 and 20) and CLAIM 2024, items 35 and 36.
"""

from collections.abc import Sequence

from xraylab import tables
from xraylab.report import curves, pictures, provenance
from xraylab.report.artefacts import Artefacts
from xraylab.report.records import Demographics, SubgroupMetric, Tree, where
from xraylab.report.text import decimal, grouped, listed, percent, plural

SPLITS = {"train": "Training", "valid": "Validation", "test": "Test"}
CLASS, ALL = "class", "all"
UNKNOWN = "unknown"
NOT_SHOWN = "not shown"


def data_section(data: Artefacts) -> Tree:
    """How the images were split, what the audit found, what is known of the patients, and some images."""
    return {
        "audit": data.audit,
        "leaks": data.leaks,
        "removed": tables.read(data.paths.split / "removed.csv").to_dict("records"),
        "split_sentences": provenance.split_sentences(data.params.split),
        "flow": flow(data.audit, data.split["removed"], data.demographics),
        "people": table(data.demographics),
        "class_samples": pictures.of_classes(data),
        "augmented": pictures.augmented(data),
        **curves.images(data.index, data.params.data.classes, data.split),
    }


def flow(audit: Tree, removed: Sequence[str], rows: Sequence[Demographics], classes: bool = True) -> Tree:
    """From files to images analysed; `excluded` and `unused` are sentences.

    `removed`: what left so that nothing leaks, in sentences. `rows`: as evaluation/demographics.csv has them.
    `classes`: with the images of each class, too; of findings the page has a table.
    """
    left_out = [each for each in audit["findings"] if each["kind"] in ("unreadable", "left_out")]
    whole = {row.split: row for row in where(rows, grouping=ALL)}
    analysed = sum(row.images or 0 for row in whole.values())
    rest = audit["images"] - analysed
    return {
        "found": audit["images"] + sum(each["count"] for each in left_out),
        "excluded": [f"{grouped(each['count'])} {each['says']}" for each in left_out],
        "readable": audit["images"],
        "unused": [f"{plural(rest, 'image')} in no split", *removed] if rest else [],
        "analysed": analysed,
        "splits": {
            SPLITS[name]: _of(row, where(rows, split=name, grouping=CLASS) if classes else [])
            for name, row in whole.items()
        },
    }


def _of(whole: Demographics, classes: list[Demographics]) -> list[str]:
    """The split's images and patients, and those of each class."""
    return [_images(whole)] + [f"{row.group}: {_images(row)}" for row in classes]


def _images(row: Demographics) -> str:
    of = f" of {plural(row.patients, 'patient')}" if row.patients is not None else ""
    return f"{grouped(row.images or 0)} image{'s' if row.images != 1 else ''}{of}"


def table(rows: Sequence[Demographics]) -> list[tuple[str, str, dict[str, str]]]:
    """(heading, group, split -> text): age, then sex, age bands, view and source, where they are known."""
    whole = {row.split: row for row in where(rows, grouping=ALL)}
    lines = []
    if any(row.age_median is not None for row in whole.values()):
        lines.append(("age", "median (quartiles)", {name: _age(row) for name, row in whole.items()}))
    for heading in dict.fromkeys(row.grouping for row in rows if row.grouping not in (ALL, CLASS)):
        cells: dict[str, dict[str, str]] = {}
        for row in where(rows, grouping=heading):
            text = NOT_SHOWN if row.images is None else _share(row, whole[row.split])
            cells.setdefault(row.group or "", dict.fromkeys(whole, "0"))[row.split] = text
        lines += [(heading, name, texts) for name, texts in cells.items()]
    return lines


def _age(row: Demographics) -> str:
    if row.age_median is None:
        return UNKNOWN
    return f"{decimal(row.age_median, 0)} ({decimal(row.age_q1, 0)} to {decimal(row.age_q3, 0)})"


def _share(row: Demographics, whole: Demographics) -> str:
    images = row.images or 0
    return f"{grouped(images)} ({percent(images / (whole.images or 1), 1)} %)"


def facts(rows: Sequence[Demographics], subgroups: Sequence[SubgroupMetric]) -> dict[str, str | None]:
    """What the tables say of the patients, for the checklists; None where they say nothing."""
    names = list(dict.fromkeys(heading for heading, _, _ in table(rows)))
    by = list(dict.fromkeys(row.grouping for row in subgroups))
    return {
        "flow": "from the files found to the images of each split, under “Data”",
        "people": f"{listed(names)} of the images of each split, under “Data”" if names else None,
        "fairness": f"metrics by {listed(by)}, with the differences from the largest group" if by else None,
    }
