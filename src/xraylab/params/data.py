"""Where the images come from and what they are called."""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveInt,
    Tag,
)

from xraylab.params.section import Section

SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
CLASS_NAME = re.compile(r"[\w][\w .()-]{0,63}")


def _class_name(name: str) -> str:
    if not CLASS_NAME.fullmatch(name):
        raise ValueError("a class name is a folder name of letters, digits, spaces and _ . ( ) -")
    return name


def _source_name(name: str) -> str:
    if not SOURCE_NAME.fullmatch(name):
        raise ValueError("a source's name is up to 64 letters, digits, - and _, and becomes a folder below data/raw")
    return name


def pattern(text: str) -> str:
    """`text`, where it is a regular expression that finds a patient. Errors: ValueError."""
    try:
        groups = re.compile(text).groupindex
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if "patient" not in groups:
        raise ValueError("has no group (?P<patient>...)")
    return text


ClassName = Annotated[str, AfterValidator(_class_name)]
Pattern = Annotated[str, AfterValidator(pattern)]
Text = Annotated[str, Field(min_length=1)]
Column = Literal["file", "label", "patient", "study", "side", "source", "sex", "age", "view"]
Columns = dict[Column, str | None]
Labels = dict[str, Annotated[list[str], Field(min_length=1)]]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
LayoutName = Literal[
    "auto", "class-folders", "tbx11k", "covid-radiography", "covidx", "kermany", "acse4", "nih", "shenzhen", "table"
]


class Demo(Section):
    healthy: PositiveInt
    tb: PositiveInt
    pixels: Annotated[int, Field(ge=32, le=1024)]
    seed: NonNegativeInt


class Source(Section):
    """One of several sources; a key that it does not name is as in `data`, and `sha256` is none."""

    name: Annotated[str, AfterValidator(_source_name)]
    path: Text
    sha256: Sha256 | None = None
    layout: LayoutName = "auto"
    labels: Labels | None = None
    ignore: Literal["others"] | list[str] | None = None
    table: Text | list[str] | None = None
    columns: Columns | None = None
    patient: Pattern | None = None


def _kind_of_source(value: Any) -> str:
    return "list[source]" if isinstance(value, list) else "literal[address]"  # these stand in no dotted path


class Data(Section):
    source: Annotated[
        Annotated[Text, Tag("literal[address]")] | Annotated[list[Source], Field(min_length=1), Tag("list[source]")],
        Discriminator(_kind_of_source),
    ]
    sha256: Sha256 | None
    layout: LayoutName
    classes: Annotated[list[ClassName], Field(min_length=2)]
    labels: Labels | None
    positive: str | None
    table: Text | list[str] | None
    columns: Columns | None
    patient: Pattern | None
    keep_names: bool
    on_bad_image: Literal["fail", "skip"]
    demo: Demo

    @property
    def sources(self) -> dict[str, Source]:
        """Dotted path and name -> each source of a list, with all of its keys; none for a single address."""
        listed = [] if isinstance(self.source, str) else self.source
        return {
            f"data.source.{number} ({source.name})": source.model_copy(update=self._inherited(source))
            for number, source in enumerate(listed)
        }

    def _inherited(self, source: Source) -> dict[str, Any]:
        taken = ("layout", "labels", "table", "columns", "patient")
        return {key: getattr(self, key) for key in taken if key not in source.model_fields_set}

    @property
    def source_text(self) -> str:
        """The source, or the names of several with where they are, for people."""
        return self.source if isinstance(self.source, str) else ", ".join(f"{s.name} ({s.path})" for s in self.source)


def label_problems(data: Data) -> list[str]:
    if data.labels is None:
        return []
    problems = []
    if set(data.labels) != set(data.classes):
        problems.append(f"data.labels: needs the keys {', '.join(data.classes)}, has {', '.join(data.labels)}")
    listed = [label for labels in data.labels.values() for label in labels]
    problems += [f"data.labels: {label!r} is listed twice" for label in set(listed) if listed.count(label) > 1]
    return problems


def source_problems(data: Data) -> list[str]:
    """What is wrong with the list of several sources."""
    if isinstance(data.source, str):
        return []
    problems, names = [], [source.name.lower() for source in data.source]
    if data.sha256:
        problems.append("data.sha256: of several sources each has its own, below its name: set it to null")
    for number, source in enumerate(data.source):
        where, labels = f"data.source.{number}", source.labels or {}
        if source.name.lower() in names[:number]:
            problems.append(f"{where}.name: {source.name} is the name of another source, in upper or lower case")
        problems += [
            f"{where}.labels: {name} is none of data.classes ({', '.join(data.classes)})"
            for name in labels
            if name not in data.classes
        ]
        listed = [label for several in labels.values() for label in several]
        listed += source.ignore if isinstance(source.ignore, list) else []
        problems += [f"{where}: {label!r} is listed twice" for label in sorted(set(listed)) if listed.count(label) > 1]
    return problems
