"""The page itself."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from xraylab.report import answer, charts, text


def render(**sections: Any) -> str:
    """page.html.j2 with these values. Everything that is not Markup is escaped; a value that is missing is an error."""
    environment = Environment(
        loader=PackageLoader("xraylab.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        percent=text.percent,
        decimal=text.decimal,
        grouped=text.grouped,
        duration=text.duration,
        listed=text.listed,
        plural=text.plural,
        colour=charts.css_colour,
    )
    return environment.get_template("page.html.j2").render(
        dagger=answer.DAGGER, side_names=answer.SIDE_NAMES, **sections
    )
