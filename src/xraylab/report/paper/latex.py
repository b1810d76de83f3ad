"""LaTeX of text, tables and figures; pdflatex, xelatex and lualatex read it."""

import re

from xraylab.report.paper.tables import Cell, Table

ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
        "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "'": r"\textquotesingle{}",
        "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$", "→": r"$\rightarrow$",
        "↓": r"$\downarrow$", "†": r"\dag{}", "…": r"\ldots{}", "–": "--", "—": "---", "“": "``", "”": "''",
        "‘": "`", "’": "'", "²": r"$^2$", "●": r"$\bullet$", "■": r"\rule{1ex}{1ex}", "·": r"$\cdot$",
        "″": r"$''$", "↑": r"$\uparrow$", "←": r"$\leftarrow$", "↕": r"$\updownarrow$",
        "‹": r"\guilsinglleft{}", "›": r"\guilsinglright{}", "\u202f": r"\,", "\u00a0": "~", "\n": " ",
    }
)  # fmt: skip
PACKAGES = ("graphicx", "textcomp", "booktabs", "longtable", "adjustbox", "array")
LONG_CELL = 45  # characters, from which on a column breaks its lines
CHARACTER = 0.009  # of the width of the text, in a table
LONG_TABLE = 40  # rows, from which on a table runs over several pages
PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,margin=15mm]{geometry}
"""


def escape(text: str) -> str:
    """Text as LaTeX that prints it; what no font has an entry for here is left as it is."""
    return text.translate(ESCAPES)


def document(files: list[str]) -> str:
    """A document that shows them all. LaTeX holds few floats back, and here no text comes between them."""
    packages = "".join(f"\\usepackage{{{name}}}\n" for name in PACKAGES)
    parts = "\n".join(f"\\input{{{name}}}" for name in files)
    floats = f"\\extrafloats{{{len(files)}}}\n\\maxdeadcycles={100 + len(files)}\n"
    return f"{PREAMBLE}{packages}{floats}\\begin{{document}}\n{parts}\n\\end{{document}}\n"


def figure(path: str, label: str, caption: str, millimetres: int) -> str:
    """A float with the picture at `path`, without its suffix."""
    return (
        f"\\begin{{figure}}\n\\centering\n\\includegraphics[width={millimetres}mm]{{{path}}}\n"
        f"\\caption{{{escape(caption)}}}\n\\label{{fig:{label}}}\n\\end{{figure}}\n"
    )


def table(content: Table, label: str, caption: str) -> str:
    """A float in the style of booktabs, as wide as the text at most; a longtable where it has many rows."""
    heading, body = (_lines(rows, content) for rows in (content.head, content.body))
    top = "\\toprule\n" + (f"{heading}\n\\midrule\n" if heading else "")
    caption = f"\\caption{{{escape(caption)}}}\n\\label{{tab:{label}}}"
    columns = _columns(content)
    if len(content.body) > LONG_TABLE:
        return (
            f"{{\\footnotesize\n\\begin{{longtable}}{{{columns}}}\n{caption}\\\\\n{top}\\endfirsthead\n{top}\\endhead\n"
            f"{body}\n\\bottomrule\n\\end{{longtable}}\n}}\n"
        )
    return (
        f"\\begin{{table}}\n\\centering\n\\small\n{caption}\n\\begin{{adjustbox}}{{max width=\\linewidth}}\n"
        f"\\begin{{tabular}}{{{columns}}}\n{top}{body}\n\\bottomrule\n\\end{{tabular}}\n\\end{{adjustbox}}\n"
        "\\end{table}\n"
    )


def _columns(content: Table) -> str:
    """The preamble: left or right, or lines that break, which share what the others leave by their longest text."""
    longest = content.longest
    broken = sum(length for length in longest if length > LONG_CELL)
    left = max(0.3, 0.9 - CHARACTER * sum(length for length in longest if length <= LONG_CELL))
    widths = [f"p{{{left * length / broken:.2f}\\linewidth}}" if length > LONG_CELL else "" for length in longest]
    return "".join(width or side for width, side in zip(widths, content.sides, strict=True))


def _lines(rows: list[list[Cell]], content: Table) -> str:
    return "\n".join(" & ".join(_cell(cell) for cell in row) + r" \\" for row in content.filled(rows))


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    text = rf"{{}}{text}" if text.startswith("[") else text  # after \\ a bracket would be an argument
    return rf"\multicolumn{{{cell.colspan}}}{{{cell.side}}}{{{text}}}" if cell.colspan > 1 else text


def label(text: str) -> str:
    """A name for files and labels."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:80]
