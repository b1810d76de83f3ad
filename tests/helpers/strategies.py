"""Names, params.yaml and tables, as hypothesis invents them for their readers: few, and each time the same."""

import csv
import io
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

settings.register_profile("ci", derandomize=True, max_examples=50, deadline=None, database=None)
settings.load_profile("ci")

HOSTILE = (
    "\x1b[2J", "\x1b]8;;https://example.org\x07", "\r", "\n", "\x00", "\x7f", "\x9b31m", "\u202egnp.exe", "\u2066",
    "\ufeff", "\udcff", "\u2028", "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "|cmd", "<script>alert(1)</script>", "]]>",
    "<!--", "&amp;", "\"'`", "{{ 7*7 }}", "{% raw %}", "${study}", "$(id)", "`id`", "\\input{x}", "\\", "%", "#",
    "_^~&", "../../x", "/", "nan", "null", "NA", "007", "1e309", "a,b", "a;b", "é", "é", "肺",
    "👩‍⚕️", "می‌خواهم", "\u00a0",
)  # fmt: skip
"""Pieces that some reader or writer takes for something else than text."""

pieces = st.sampled_from(HOSTILE)
any_text = st.lists(pieces | st.text(max_size=8), max_size=4).map("".join)
"""Text, also with lone surrogates, controls and what spreadsheets, browsers, shells and LaTeX would run."""


def _is_file_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name and len(name.encode(*UTF8)) <= 200


UTF8 = ("utf-8", "surrogateescape")
bytes_of_names = st.characters(codec="utf-8", exclude_characters="/\0") | st.sampled_from("\udcff\udc80\udce9")
file_names = (
    (any_text | st.text(bytes_of_names, min_size=1, max_size=40))
    .filter(lambda name: not any("\ud800" <= char < "\udc80" or "\udcff" < char <= "\udfff" for char in name))
    .filter(_is_file_name)
)
"""Names that a Linux folder can hold; those that are not UTF-8 have lone surrogates, as Python reads them."""

valid_class_names = st.from_regex(r"\A[^\W_][\w .()-]{0,30}\Z").filter(lambda name: name == name.strip())
"""Names of classes that params.yaml admits."""

class_names = valid_class_names | any_text

numbers = st.floats() | st.integers() | st.sampled_from([1e309, -(2**63), 2**64, 10**400, -0.0, 5e-324, True, False])
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | numbers | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)
"""What YAML or JSON can hold in one place."""


@st.composite
def damaged(draw: st.DrawFn, tree: Any) -> Any:
    """A document in which one place holds another value, is absent, or has an unknown key beside it."""
    if not isinstance(tree, dict | list) or not tree or draw(st.integers(0, 5)) == 0:
        return draw(values)
    if isinstance(tree, list):
        place = draw(st.integers(0, len(tree) - 1))
        return [*tree[:place], draw(damaged(tree[place])), *tree[place + 1 :]]
    key = draw(st.sampled_from(sorted(tree, key=str)))
    match draw(st.integers(0, 4)):
        case 0:
            return {name: value for name, value in tree.items() if name != key}
        case 1:
            return tree | {draw(any_text): draw(values)}
        case _:
            return tree | {key: draw(damaged(tree[key]))}


@st.composite
def csv_bytes(draw: st.DrawFn, columns: tuple[str, ...]) -> bytes:
    """A table as people send it: any separator, ends of lines, encoding, quotes, and rows too short or too long."""
    header = list(draw(st.permutations(columns))) + draw(st.lists(any_text | st.sampled_from(columns), max_size=2))
    rows = draw(st.lists(st.lists(any_text, max_size=len(header) + 1), max_size=5))
    file = io.StringIO()
    writer = csv.writer(
        file,
        delimiter=draw(st.sampled_from(",;\t|")),
        lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])),
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
    )
    writer.writerows([header, *rows])
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
    content = file.getvalue().encode(encoding, "replace")
    return content[: draw(st.integers(0, len(content)))] if draw(st.integers(0, 5)) == 0 else content
