"""The documentation site: builds without a warning, holds every page, asks nothing of other machines."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import site_pages
import small
from under_dvc import environment

from xraylab import cli, files
from xraylab.params.config import Params
from xraylab.params.section import Section

LOADED = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=["']?(?P<address>(?:https?:)?//[^"' >]+)""")
FAR = 1000  # limits from here on are beyond any use, and the text above the table names them
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
TABLE = (small.REPOSITORY / "docs/parameters.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(site_pages, "PAGES", folder / "site/pages")
        site_pages.main()
    (folder / "mkdocs.yml").write_bytes((small.REPOSITORY / "mkdocs.yml").read_bytes())
    (folder / "src").symlink_to(small.REPOSITORY / "src")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr).partition("Traceback")[0]
    assert done.returncode == 0, output
    assert "No issues found" in output
    return folder / "site/html"


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(list((small.REPOSITORY / "docs").rglob("*.md")))
    loaded = {(page.name, each["address"]) for page in pages for each in LOADED.finditer(page.read_text("utf-8"))}
    assert loaded == set()


def test_every_picture_of_a_page_is_there(site: Path) -> None:
    missing = [
        (page.name, picture)
        for page in site.rglob("*.html")
        for picture in re.findall(r'<img [^>]*src="([^":]+)"', page.read_text("utf-8"))
        if not (page.parent / picture).is_file()
    ]
    assert missing == []


def test_every_page_is_in_the_navigation(site: Path) -> None:
    listed = set(re.findall(r"[\w/.-]+\.md$", (small.REPOSITORY / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    pages = {str(path.relative_to(site.parent / "pages")) for path in (site.parent / "pages").rglob("*.md")}
    notes = {page for page in pages if page.startswith("decisions/") and page != "decisions/index.md"}
    assert pages - notes == listed


def test_the_site_names_every_command_and_option(site: Path) -> None:
    page = (site.parent / "pages/commands.md").read_text("utf-8")
    top = site_pages.get_command(cli.app)
    for name, command in top.commands.items():
        if command.hidden:
            continue
        for words, each in _leaves(name, command):
            section = page.partition(f"# xraylab {words}\n")[2].partition("\n##")[0]
            assert f"    xraylab {words}" in section
            for parameter in each.params:
                shown = (
                    parameter.metavar or parameter.name.upper()
                    if site_pages.is_argument(parameter)
                    else parameter.opts[0]
                )
                assert parameter.hidden or parameter.name == "help" or shown.replace("|", "\\|") in section


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    for inner, each in getattr(command, "commands", {}).items():
        yield from _leaves(f"{name} {inner}", each)
    if not hasattr(command, "commands"):
        yield name, command


def keys(model: type[Section], prefix: str = "") -> Iterator[str]:
    """The dotted keys of a section that hold no section themselves."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_table_of_parameters_has_every_key_and_no_other() -> None:
    documented = [key for row in site_pages.ROW.finditer(TABLE) for key in site_pages.parameter_names(row["keys"])]
    of_the_search_space = {key for key in documented if key.startswith("search.space.")}
    assert set(documented) - of_the_search_space == set(keys(Params)) - {"experiments"}


def test_the_site_shows_the_default_of_every_parameter() -> None:
    tree = files.read_yaml(small.REPOSITORY / "params.yaml")
    shown = site_pages.with_defaults(TABLE)
    assert "| `train.lr` | `0.001` | > 0, or `find` |" in shown
    assert "| `augment.scale` | `[1.0, 1.0]` |" in shown
    assert "| `model.freeze.until` | `null` |" in shown
    rows = [row for row in site_pages.ROW.finditer(TABLE) if "search.space." not in row["keys"]]
    for row in rows:
        assert site_pages.defaults(tree, row["keys"]).count("`") == 2 * len(site_pages.parameter_names(row["keys"]))


def test_the_table_of_parameters_names_every_choice_and_bound() -> None:
    missing = []
    for row in site_pages.ROW.finditer(TABLE):
        for key in site_pages.parameter_names(row["keys"]):
            missing += [
                (key, value) for value in choices_and_bounds(key) if value not in row["rest"].replace("10,000", "10000")
            ]
    assert missing == []


def choices_and_bounds(key: str) -> set[str]:
    """The texts that the schema accepts for a key that takes one of a few, and the limits of one that is a number."""
    schema = Params.model_json_schema()

    def resolved(node: dict[str, Any]) -> dict[str, Any]:
        return schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node

    node = schema
    for part in key.split("."):
        node = resolved(node).get("properties", {}).get(part, {})

    def values(node: dict[str, Any]) -> set[str]:
        node = resolved(node)
        inner = [*node.get("anyOf", []), *([node["items"]] if "items" in node else [])]
        own = {*node.get("enum", []), *([node["const"]] if "const" in node else [])}
        limits = {f"{node[bound]:g}" for bound in BOUNDS if abs(node.get(bound, FAR)) < FAR} - {"0", "1"}
        return limits | {value for value in own if isinstance(value, str)}.union(*map(values, inner))

    return values(node)
