"""Every command that a document or a notebook shows exists, with the options that are shown."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import small
from typer.main import get_command

from xraylab import cli

DOCUMENTS = [small.REPOSITORY / "README.md", small.REPOSITORY / "CONTRIBUTING.md", *small.REPOSITORY.glob("docs/*.md")]
NOTEBOOKS = sorted(small.REPOSITORY.glob("docs/notebooks/*.ipynb"))
PROGRAMS = ("xraylab", "dvc", "make", "python")
AT_ONCE = (["--install-completion"], ["--show-completion"])
TARGETS = re.findall(r"^([\w.-]+):", (small.REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def blocks(path: Path) -> Iterator[str]:
    """The lines of a document's blocks of code, or those that a notebook gives to the shell."""
    if path.suffix == ".ipynb":
        for cell in nbformat.read(path, as_version=4).cells:
            yield from (line[1:] for line in cell.source.splitlines() if cell.cell_type == "code" and line[:1] == "!")
        return
    fenced = False
    for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        fenced ^= line.startswith("```")
        if fenced or line.startswith("    "):
            yield line.strip().removeprefix("$ ")


def commands(path: Path) -> Iterator[list[str]]:
    """Words of every command of ours in a document's blocks, without comments and redirections."""
    for line in blocks(path):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # prose with an apostrophe
            continue
        command: list[str] = []
        for word in [*words, "&&"]:
            if word in ("&&", "|", ">", "2>&1;", ";") or word.endswith(";"):
                if command and command[0] in PROGRAMS:
                    yield command
                command = [] if word != ">" else [""]
            else:
                command.append(word)


def spans(path: Path) -> Iterator[str]:
    """Commands in the prose: `xraylab show`."""
    text = path.read_text(encoding="utf-8")
    yield from (" ".join(span.split()) for span in re.findall(r"`(xraylab [a-z][^`]*)`", text))


def problem(words: list[str]) -> str | None:
    """What is wrong with a command; None if it can be run as it stands."""
    program, *arguments = words
    if program == "make":
        return next((f"no target {each}" for each in arguments if each not in TARGETS and "=" not in each), None)
    if program == "python":
        script = arguments[0]
        return None if script.startswith("-") or (small.REPOSITORY / script).is_file() else f"no file {script}"
    if program == "dvc":
        return _problem_of_dvc(arguments)
    return _problem_of_xraylab(arguments)


def _problem_of_dvc(arguments: list[str]) -> str | None:
    from dvc.cli import DvcParserError, parse_args  # noqa: PLC0415 - a second

    try:
        parse_args(arguments)
    except (DvcParserError, SystemExit) as error:
        return f"dvc refuses it: {error!r}"
    return None


def _problem_of_xraylab(arguments: list[str]) -> str | None:
    """Read the arguments as the command line does, without running anything."""
    command: Any = get_command(cli.app)
    if arguments in AT_ONCE:  # reading them would change the shell's own files
        return None if {*arguments} <= {name for each in command.params for name in each.opts} else "No such option"
    context, rest = None, arguments
    try:
        while hasattr(command, "commands"):
            context = command.make_context("xraylab", list(rest), parent=context)
            if not (rest := [*context._protected_args, *context.args]):
                return None
            _, command, rest = command.resolve_command(context, rest)
        command.make_context(command.name, list(rest), parent=context)
    except SystemExit as ended:
        return None if ended.code in (0, None) else "ends with an error"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


@pytest.mark.parametrize("path", [*DOCUMENTS, *NOTEBOOKS], ids=lambda path: path.name)
def test_every_command_of_the_blocks_can_be_run_as_it_stands(path: Path) -> None:
    wrong = {" ".join(words): text for words in commands(path) if (text := problem(words))}
    assert wrong == {}


def test_commands_are_found_in_the_documents() -> None:
    found = [words for path in [*DOCUMENTS, *NOTEBOOKS] for words in commands(path)]
    assert ["dvc", "metrics", "diff"] in found
    assert ["xraylab", "audit", "/data/xrays"] in found
    assert len(found) > 70


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["xraylab", "shwo"], "No such command"),
        (["xraylab", "show", "--fast"], "No such option"),
        (["xraylab", "predict-images", "baseline"], "Missing parameter: path"),
        (["dvc", "exp", "run", "--sett", "a"], "dvc refuses it"),
        (["make", "tests"], "no target tests"),
        (["python", "bench/none.py"], "no file bench/none.py"),
    ],
)
def test_a_wrong_command_is_noticed(words: list[str], text: str) -> None:
    assert text in str(problem(words))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_options_named_in_the_prose_exist(path: Path) -> None:
    wrong = [span for span in spans(path) if not _exists(span)]
    assert wrong == []


def _exists(span: str) -> bool:
    command: Any = get_command(cli.app)
    for word in span.split()[1:]:
        if word.startswith("-"):
            name = word.partition("=")[0].rstrip(",.;")
            if name not in {option for each in command.params for option in each.opts} | {"--help"}:
                return False
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return command.name == "study"  # `xraylab study NAME`
            command = command.commands[word]
    return True
