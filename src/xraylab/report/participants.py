"""Who was studied: from the files that were found to the images of each split, and what is known of their patients.

After STARD 2015 (Bossuyt et al., BMJ 351 (2015) h5527, items 19 and 20) and CLAIM 2024, items 35 and 36.
"""

from collections.abc import Sequence
from typing import Any

from xraylab.report.records import Record, chosen
from xraylab.report.text import decimal, grouped, listed, percent, plural

SPLITS = {"train": "Training", "valid": "Validation", "test": "Test"}
CLASS, ALL = "class", "all"
UNKNOWN = "unknown"
NOT_SHOWN = "not shown"


def flow(audit: dict[str, Any], removed: Sequence[str], rows: Sequence[Record]) -> dict[str, Any]:
    """From files to images analysed; `excluded` and `unused` are sentences.

    `removed`: what left so that nothing leaks, in sentences. `rows`: as evaluation/demographics.csv has them.
    """
    left_out = [each for each in audit["findings"] if each["kind"] in ("unreadable", "left_out")]
    whole = {row["split"]: row for row in chosen(rows, grouping=ALL)}
    analysed = int(sum(row["images"] for row in whole.values()))
    rest = audit["images"] - analysed
    return {
        "found": audit["images"] + sum(each["count"] for each in left_out),
        "excluded": [f"{grouped(each['count'])} {each['says']}" for each in left_out],
        "readable": audit["images"],
        "unused": [f"{plural(rest, 'image')} in no split", *removed] if rest else [],
        "analysed": analysed,
        "splits": {SPLITS[name]: _of(row, chosen(rows, split=name, grouping=CLASS)) for name, row in whole.items()},
    }


def _of(whole: Record, classes: list[Record]) -> list[str]:
    """The split's images and patients, and those of each class."""
    return [_images(whole)] + [f"{row['group']}: {_images(row)}" for row in classes]


def _images(row: Record) -> str:
    of = f" of {plural(row['patients'], 'patient')}" if row["patients"] is not None else ""
    return f"{grouped(int(row['images']))} image{'s' if row['images'] != 1 else ''}{of}"


def table(rows: Sequence[Record]) -> list[tuple[str, str, dict[str, str]]]:
    """(heading, group, split -> text): age, then sex, age bands, view and source, where they are known."""
    whole = {row["split"]: row for row in chosen(rows, grouping=ALL)}
    made = []
    if any(row["age_median"] is not None for row in whole.values()):
        made.append(("age", "median (quartiles)", {name: _age(row) for name, row in whole.items()}))
    for heading in dict.fromkeys(row["grouping"] for row in rows if row["grouping"] not in (ALL, CLASS)):
        cells: dict[str, dict[str, str]] = {}
        for row in chosen(rows, grouping=heading):
            text = NOT_SHOWN if row["images"] is None else _share(row, whole[row["split"]]["images"])
            cells.setdefault(row["group"], dict.fromkeys(whole, "0"))[row["split"]] = text
        made += [(heading, name, texts) for name, texts in cells.items()]
    return made


def _age(row: Record) -> str:
    if row["age_median"] is None:
        return UNKNOWN
    median, low, high = (decimal(row[f"age_{name}"], 0) for name in ("median", "q1", "q3"))
    return f"{median} ({low} to {high})"


def _share(row: Record, whole: float) -> str:
    return f"{grouped(int(row['images']))} ({percent(row['images'] / whole, 1)} %)"


def facts(rows: Sequence[Record], subgroups: Sequence[Record]) -> dict[str, str | None]:
    """What the tables say of the patients, for the checklists; None where they say nothing."""
    names = list(dict.fromkeys(heading for heading, _, _ in table(rows)))
    by = list(dict.fromkeys(row["grouping"] for row in subgroups))
    return {
        "flow": "from the files found to the images of each split, under “Data”",
        "people": f"{listed(names)} of the images of each split, under “Data”" if names else None,
        "fairness": f"figures by {listed(by)}, with the differences from the largest group" if by else None,
    }
