"""The page itself."""

import base64
import hashlib
import re
from importlib.resources import files as packed
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from xraylab.report import answer, charts, estimates, shortcuts, text
from xraylab.report.names import Names


def render(names: Names, **sections: Any) -> str:
    """page.html.j2 with these values. Everything that is not Markup is escaped; a value that is missing is an error.

    The page's own policy lets it load nothing and run nothing but its one script, which sorts tables.
    """
    script = packed("xraylab.report").joinpath("sort.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=PackageLoader("xraylab.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        zip=zip,
        percent=text.percent,
        decimal=text.decimal,
        grouped=text.grouped,
        duration=text.duration,
        listed=text.listed,
        plural=text.plural,
        p_value=text.p_value,
        minus=text.minus,
        colour=charts.css_colour,
        title=estimates.title,
        figure=estimates.figure,
        unit=estimates.unit,
        interval=estimates.interval,
        name=names.of,
        file_name=names.file,
        finding=names.finding,
        code=_code,
    )
    return environment.get_template("page.html.j2").render(
        dagger=answer.DAGGER,
        shortcut_opening=shortcuts.OPENING,
        side_names=answer.SIDE_NAMES,
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=_hash(script),
        names_hidden=names.numbers is not None,
        **sections,
    )


def _code(sentence: str) -> Markup:
    """HTML of a sentence, with what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(sentence))))  # noqa: S704 - escaped


def _hash(script: str) -> str:
    """As a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
