"""The tables of the page: read from its HTML, so that a paper shows what the page shows."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html import escape
from html.parser import HTMLParser

HEADINGS = ("h2", "h3", "h4")
LEVELS, FINEST = (
    {"h2": 0, "h3": 1},
    2,
)  # of headings; h4, the name of what is folded away, and of a picture are one level
TITLES = (*HEADINGS, "summary", "figcaption")
LEFT, RIGHT, CENTRE = "l", "r", "c"


@dataclass(frozen=True)
class Cell:
    text: str
    side: str = RIGHT
    colspan: int = 1
    rowspan: int = 1


@dataclass
class Table:
    """A table of the page; `title`: the headings above it, and its own; `notes`: what the page says below it."""

    title: list[str]
    head: list[list[Cell]] = field(default_factory=list)
    body: list[list[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def width(self) -> int:
        """How many columns it has."""
        return max(sum(cell.colspan for cell in row) for row in self.filled([*self.head, *self.body]))

    @property
    def sides(self) -> list[str]:
        """Of each column, on which side its texts are."""
        columns: list[list[str]] = [[] for _ in range(self.width)]
        for column, cell in self._single():
            columns[column].append(cell.side)
        return [max((LEFT, RIGHT), key=sides.count) if sides else LEFT for sides in columns]

    @property
    def longest(self) -> list[int]:
        """Of each column, how many characters its longest text has."""
        lengths = [0] * self.width
        for column, cell in self._single():
            lengths[column] = max(lengths[column], len(cell.text))
        return lengths

    def _single(self) -> Iterator[tuple[int, Cell]]:
        for row in self.filled(self.body):
            column = 0
            for cell in row:
                if cell.colspan == 1 and cell.text:
                    yield column, cell
                column += cell.colspan

    @staticmethod
    def filled(rows: list[list[Cell]]) -> list[list[Cell]]:
        """The rows with an empty cell wherever one above reaches down, and at the end of rows that are too short."""
        filled: list[list[Cell]] = []
        below: dict[int, int] = {}  # column -> rows that a cell above still covers
        for row in rows:
            cells, line, column = iter(row), list[Cell](), 0
            cell = next(cells, None)
            while cell or below.get(column, 0):
                if below.get(column, 0):
                    below[column] -= 1
                    line.append(Cell("", LEFT))
                    column += 1
                elif cell:
                    below |= {column + number: cell.rowspan - 1 for number in range(cell.colspan)}
                    line.append(replace(cell, rowspan=1))
                    column += cell.colspan
                    cell = next(cells, None)
            filled.append(line)
        width = max((sum(cell.colspan for cell in line) for line in filled), default=0)
        return [[*line, *[Cell("", LEFT)] * (width - sum(cell.colspan for cell in line))] for line in filled]


def read(html: str) -> list[Table]:
    """The tables of a section of the page that have a body."""
    parser = _Tables()
    parser.feed(html)
    return [table for table in parser.tables if table.body]


class _Tables(HTMLParser):
    """Keeps the texts of headings, cells and notes; what is folded away in a cell is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[Table] = []
        self.headings: dict[str, str] = {}
        self.texts: list[str] | None = None
        self.table: Table | None = None
        self.region, self.in_head, self.hidden = "", False, 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        classes = values.get("class", "").split()
        if self.table is None:
            self._outside(tag, values, classes)
        elif tag == "details":
            self.hidden += 1
        elif tag == "thead":
            self.in_head = True
        elif tag == "tr":
            (self.table.head if self.in_head else self.table.body).append([])
        elif tag in ("td", "th"):
            self.texts, self.cell = [], (values, classes)
        elif tag == "br":
            self._add(" ")
        elif tag == "small":
            self._add(" (")
        elif tag == "span":
            self._add(" ")

    def _outside(self, tag: str, values: dict[str, str], classes: list[str]) -> None:
        if tag == "div" and "aria-label" in values:
            self.region = values["aria-label"]
        elif tag == "table":
            self.table = Table(list(dict.fromkeys(filter(None, [*self.headings.values(), self.region]))))
            self.region = ""
        elif tag in TITLES or (tag == "p" and "note" in classes):
            self.texts = []

    def handle_data(self, data: str) -> None:
        self._add(data)

    def _add(self, text: str) -> None:
        if self.texts is not None and not self.hidden:
            self.texts.append(text)

    def handle_endtag(self, tag: str) -> None:
        text = " ".join("".join(self.texts or []).split()).replace("( ", "(")
        if self.table is None:
            self._end_outside(tag, text)
        elif tag == "table":
            self.tables.append(self.table)
            self.table = None
        elif tag == "details":
            self.hidden -= 1
        elif tag == "thead":
            self.in_head = False
        elif tag == "small":
            self._add(")")
        elif tag in ("td", "th") and self.texts is not None:
            self._end_cell(text)

    def _end_outside(self, tag: str, text: str) -> None:
        if self.texts is not None and tag in TITLES:
            level = LEVELS.get(tag, FINEST)
            self.headings = {name: each for name, each in self.headings.items() if LEVELS.get(name, FINEST) < level}
            self.headings[tag] = text
            self.texts = None
        elif self.texts is not None and tag == "p":
            if self.tables and not self.tables[-1].notes and self.tables[-1].title[:1] == [self.headings.get("h2")]:
                self.tables[-1].notes.append(text)
            self.texts = None
        elif tag in ("details", "figure"):
            self.headings = {name: each for name, each in self.headings.items() if name in HEADINGS}

    def _end_cell(self, text: str) -> None:
        values, classes = self.cell
        spans = {name: int(values.get(name) or 1) for name in ("colspan", "rowspan")}
        side = LEFT if "left" in classes else CENTRE if "span" in classes else RIGHT
        table = self.table
        if table is not None:
            rows = table.head if self.in_head else table.body
            rows[-1].append(Cell(text, side, **spans))
        self.texts = None


def html(content: Table, caption: str) -> str:
    """The table as a page of its own, which Word and LibreOffice open as a table that can be edited."""
    return PAGE.format(title=escape(caption), body=fragment(content, caption))


def fragment(content: Table, caption: str) -> str:
    """The table alone."""
    head = "".join(_row(row, "th") for row in content.head)
    body = "".join(_row(row, "td") for row in content.body)
    return (
        f"<table>\n<caption>{escape(caption)}</caption>\n<thead>\n{head}</thead>\n<tbody>\n{body}</tbody>\n</table>\n"
    )


def _row(cells: list[Cell], tag: str) -> str:
    sides = {LEFT: "left", RIGHT: "right", CENTRE: "center"}
    return (
        "<tr>"
        + "".join(
            f'<{tag} align="{sides[cell.side]}"'
            + "".join(f' {name}="{span}"' for name in ("colspan", "rowspan") if (span := getattr(cell, name)) > 1)
            + f">{escape(cell.text)}</{tag}>"
            for cell in cells
        )
        + "</tr>\n"
    )


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 10pt "Times New Roman", serif; }}
table {{ border-collapse: collapse; border-top: 1.5pt solid; border-bottom: 1.5pt solid; margin-bottom: 18pt; }}
thead {{ border-bottom: 0.75pt solid; }}
caption {{ text-align: left; padding-bottom: 4pt; }}
th, td {{ padding: 2pt 5pt; vertical-align: top; font-weight: normal; }}
</style></head><body>
{body}</body></html>
"""
