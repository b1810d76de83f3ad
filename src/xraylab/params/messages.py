"""Error messages about params.yaml: dotted path, nearest names, valid values."""

import difflib
import sys
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from xraylab import text
from xraylab.params import section
from xraylab.params.section import Problem

LONGEST = 200  # characters of a value
UNSPOKEN = ("literal[", "list[", "constrained-", "[key]")  # parts of pydantic's paths that are no keys


def problems(error: ValidationError, root: type[BaseModel], prefix: str = "") -> list[Problem]:
    """Each once; `root` is the model whose validation failed, and `prefix` the dotted path to it with its last dot."""
    return list(dict.fromkeys(_problem(item, root, prefix) for item in error.errors()))


def nearest(name: str, names: Iterable[str], prefix: str = "") -> str:
    """The one or two known names that are nearest, or of which it is a word, such as clip; all where none is near."""
    near = difflib.get_close_matches(name, list(names), n=2, cutoff=0.75)
    near = near or [each for each in names if name in each.split("_")][:2]
    near = near or difflib.get_close_matches(name, list(names), n=1, cutoff=0.65)
    paths = " or ".join(f"{prefix}{each}" for each in near)
    return f"did you mean {paths}?" if near else f"there is {', '.join(names)}"


def section_at(parents: Iterable[str], root: type[BaseModel]) -> type[BaseModel]:
    """The model that holds the keys below these; indices of lists and free names change nothing."""
    model = root
    for key in parents:
        field = model.model_fields.get(key)
        model = (_model(field.annotation) if field else None) or model
    return model


def _problem(item: Any, root: type[BaseModel], prefix: str) -> Problem:
    keys = [str(part) for part in item["loc"] if part != "" and not str(part).startswith(UNSPOKEN)]
    return prefix + ".".join(keys), _text(item, keys, root, prefix)


def _text(item: Any, keys: list[str], root: type[BaseModel], prefix: str) -> str:
    match item["type"]:
        case section.CONTRADICTION:
            return str(item["msg"])
        case "extra_forbidden":
            *parents, name = keys or [""]
            where = prefix + "".join(f"{key}." for key in parents)
            return f"unknown key; {nearest(name, section_at(parents, root).model_fields, where)}"
        case "missing":
            return "missing; it has no default outside params.yaml"
        case "value_error":
            return f"{item['ctx']['error']}, got {_shown(item['input'])}"
        case _:
            return f"{item['msg'][0].lower()}{item['msg'][1:]}, got {_shown(item['input'])}"


def _shown(value: Any) -> str:
    """The value as Python writes it, cut: it may be a whole table, or a number of more digits than Python prints."""
    try:
        return text.printable(repr(value), LONGEST)
    except ValueError:
        return f"a number of more than {sys.get_int_max_str_digits()} digits"


def _model(annotation: Any) -> type[BaseModel] | None:
    """The first model in an annotation such as list[Source] | str."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((inner for part in get_args(annotation) if (inner := _model(part))), None)
