"""Writes the pages of the documentation site to site/pages: those of docs/, and those made of the code.

`make docs` runs this, then MkDocs. Commands come from the command line itself, defaults of parameters from params.yaml,
notebooks from docs/notebooks, the Python API from docstrings (mkdocstrings).
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import nbformat
from nbconvert import MarkdownExporter
from typer.main import get_command

from xraylab import cli, files

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PAGES = REPOSITORY / "site/pages"
ROW = re.compile(r"^\| (?P<keys>`[a-z].*?) \| (?P<rest>.*\|.*) \|$", re.MULTILINE)
LINK = re.compile(r"\[([^]]+)\]\([^)]+\)")  # those of old entries may lead nowhere
LINK_OUT = re.compile(r"\[(?P<text>[^]]+)\]\(\.\./(?P<path>[^)#]+)(?P<anchor>#[^)]*)?\)")
TOP = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md"}
API = {
    "A study": ("xraylab.study.Study",),
    "Training": (
        "xraylab.data.dataloaders.XrayDataLoaders",
        "xraylab.train.learner.XrayLearner",
        "xraylab.train.learner.dataloaders",
        "xraylab.train.learner.learner",
        "xraylab.train.run.TrainingRun",
        "xraylab.train.fit.fit",
    ),
    "A trained classifier": (
        "xraylab.predict.checkpoints.TrainedModel",
        "xraylab.predict.classifiers",
        "xraylab.inference.classifier.Classifier",
        "xraylab.inference.thresholds.Thresholds",
        "xraylab.inference.bundle",
    ),
    "Errors": ("xraylab.errors",),
}


def main() -> None:
    shutil.rmtree(PAGES, ignore_errors=True)
    for path in sorted(path for path in DOCS.rglob("*") if path.suffix in (".md", ".png", ".svg", ".css")):
        _copy(path)
    _write("contributing.md", (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    _write("changelog.md", LINK.sub(r"\1", (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")))
    _write("parameters.md", with_defaults((DOCS / "parameters.md").read_text(encoding="utf-8")))
    _write("decisions/index.md", decisions())
    _write("commands.md", commands())
    _write("api.md", api())
    for path in sorted(DOCS.glob("notebooks/*.ipynb")):
        notebook(path)
    (PAGES.parent / ".gitignore").write_text("*\n", encoding="utf-8")


def _copy(path: Path) -> None:
    if path.suffix == ".md":
        _write(str(path.relative_to(DOCS)), path.read_text(encoding="utf-8"))
    else:
        target = PAGES / path.relative_to(DOCS)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _write(page: str, text: str) -> None:
    target = PAGES / page
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(within(text), encoding="utf-8")


def within(text: str) -> str:
    """The text without links that leave the site: a file of the repository is named, not linked."""
    text = text.replace("](decisions)", "](decisions/index.md)").replace("](notebooks)", "](index.md#tutorial)")
    text = re.sub(r"\]\((?:\.\./)?docs/", "](", text)
    text = re.sub(r"\]\((notebooks/[^)]*)\.ipynb\)", r"](\1.md)", text)
    return LINK_OUT.sub(lambda link: _link_out(link["text"], link["path"], link["anchor"] or ""), text)


def _link_out(text: str, path: str, anchor: str) -> str:
    return f"[{text}]({TOP[path]}{anchor})" if path in TOP else f"{text} (`{path}`)" if path not in text else text


def with_defaults(text: str) -> str:
    """The table of all parameters with a column of the values in the shipped params.yaml."""
    tree = files.read_yaml(REPOSITORY / "params.yaml")
    text = text.replace("| key | values |", "| key | default | values |").replace(
        "|---|---|---|", "|---|---|---|---|", 1
    )
    return ROW.sub(lambda row: f"| {row['keys']} | {defaults(tree, row['keys'])} | {row['rest']} |", text)


def defaults(tree: dict[str, Any], keys: str) -> str:
    """The values of a row's keys, in order; nothing for keys that params.yaml does not have."""
    return "; ".join(_shown(lookup(tree, key)) for key in parameter_names(keys) if has(tree, key))


def parameter_names(keys: str) -> list[str]:
    """The dotted keys of a row."""
    return re.findall(r"`([a-z][A-Za-z0-9_.]*)`", keys)


def has(tree: Any, dotted: str) -> bool:
    first, _, rest = dotted.partition(".")
    return isinstance(tree, dict) and first in tree and (not rest or has(tree[first], rest))


def lookup(tree: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        tree = tree[key]
    return tree


def _shown(value: Any) -> str:
    """A value as params.yaml writes it."""
    if isinstance(value, list):
        return f"`[{', '.join(str(_plain(each)) for each in value)}]`"
    return f"`{_plain(value)}`"


def _plain(value: Any) -> Any:
    return {None: "null", True: "true", False: "false"}.get(value, value) if isinstance(value, bool | None) else value


def commands() -> str:
    """Every command with its arguments and options, as `--help` shows them, below the headings of `xraylab --help`."""
    top = get_command(cli.app)
    parts = [
        "# Every command",
        "`xraylab --install-completion` sets up Tab for your shell: commands, options, experiments and trained runs.",
    ]
    panel = None
    for name, command in top.commands.items():
        if command.hidden:
            continue
        if command.rich_help_panel not in (panel, None):
            panel = command.rich_help_panel
            parts.append(f"## {panel}")
        parts += _command(name, command)
    return "\n\n".join(parts) + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    yield f"### xraylab {name}\n\n{_text(command.help)}"
    if hasattr(command, "commands"):
        for inner, each in command.commands.items():
            yield from (part.replace("### ", "#### ", 1) for part in _command(f"{name} {inner}", each))
        return
    shown = [each for each in command.params if not each.hidden and each.name != "help"]
    usage = [_usage(each) for each in shown if is_argument(each)]
    yield "    " + " ".join([f"xraylab {name}", *usage, *(["[OPTIONS]"] if len(shown) > len(usage) else [])])
    if shown:
        yield "\n".join(["| | default | |", "|---|---|---|", *map(_parameter, shown)])


def is_argument(parameter: Any) -> bool:
    return not parameter.opts[0].startswith("-")


def _usage(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _parameter(parameter: Any) -> str:
    name = _usage(parameter) if is_argument(parameter) else ", ".join([*parameter.opts, *parameter.secondary_opts])
    value = "required" if parameter.required else _default(parameter.default)
    choices = get_args(parameter.type_descriptor.annotation)
    named = [f"`{choice}`" for choice in choices if isinstance(choice, str)]
    cells = (f"`{name}`", value, " ".join([_text(parameter.help), *([f"One of {', '.join(named)}."] if named else [])]))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(value: Any) -> str:
    return "" if value in (None, False, [], ()) or callable(value) else f"`{value}`"


def _text(help_text: str | None) -> str:
    """Help on one line; what is in angle brackets is no tag."""
    return " ".join((help_text or "").split()).replace("<", "&lt;")


def api() -> str:
    """The Python API: headings, and names whose docstrings mkdocstrings writes here."""
    parts = ["# Python API", "Short examples are in [A study in Python](python.md)."]
    for heading, names in API.items():
        parts += [f"## {heading}", *(f"::: {name}\n    options:\n      heading_level: 3" for name in names)]
    return "\n\n".join(parts) + "\n"


def decisions() -> str:
    """A list of the notes on design decisions."""
    notes = sorted(path for path in DOCS.glob("decisions/*.md"))
    titles = [path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") for path in notes]
    links = [f"- [{title}]({path.name})" for title, path in zip(titles, notes, strict=True)]
    return "# Design decisions\n\n" + "\n".join(links) + "\n"


def notebook(path: Path) -> None:
    """Write a notebook with its outputs as a page, and its pictures beside it."""
    text, resources = MarkdownExporter().from_notebook_node(
        nbformat.read(path, as_version=4), {"unique_key": path.stem}
    )
    folder = PAGES / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{path.stem}.md").write_text(re.sub(r"\.ipynb\)", ".md)", text), encoding="utf-8")
    for name, content in resources["outputs"].items():
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
