"""What is wrong with params.yaml, in sentences."""

import difflib
from typing import Any

from pydantic import ValidationError

from xraylab.params.data import Source
from xraylab.params.search import Range
from xraylab.params.section import Section


def headline(name: str) -> str:
    return f"{name} cannot be used:"


def problems(error: ValidationError, root: type[Section], prefix: str = "") -> list[str]:
    return list(dict.fromkeys(_sentence(problem, root, prefix) for problem in error.errors()))


def _sentence(problem: Any, root: type[Section], prefix: str) -> str:
    keys = [part for part in problem["loc"] if not str(part).startswith(("literal[", "list[", "constrained-"))]
    where = prefix + ".".join(map(str, keys))
    match problem["type"]:
        case "extra_forbidden":
            return f"{where}: unknown key{_suggestion(keys, root, prefix)}"
        case "missing":
            return f"{where}: missing; it has no default outside params.yaml"
        case "value_error":
            return f"{where}: {problem['ctx']['error']}, got {problem['input']!r}"
        case _:
            message = problem["msg"][0].lower() + problem["msg"][1:]
            return f"{where}: {message}, got {problem['input']!r}"


def _suggestion(keys: list[Any], root: type[Section], prefix: str) -> str:
    known = _known(keys[:-1], root)
    near = difflib.get_close_matches(str(keys[-1]), known, n=1)
    dotted = prefix + ".".join(map(str, [*keys[:-1], *near]))
    return f"; did you mean {dotted}?" if near else f"; there is {', '.join(known)}"


def _known(parents: list[Any], root: type[Section]) -> list[str]:
    if parents[:2] == ["search", "space"]:
        return list(Range.model_fields)
    if parents[:2] == ["data", "source"]:
        return list(Source.model_fields)
    section: Any = root
    for key in parents:
        section = section.model_fields[key].annotation
    return list(section.model_fields)
