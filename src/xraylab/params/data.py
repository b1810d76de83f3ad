"""The section `data` of params.yaml: sources, classes and labels."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
)

from xraylab import patterns
from xraylab.params.names import LayoutName
from xraylab.params.section import ImageCount, Problem, Section, Seed
from xraylab.task import SINGLE_LABEL, is_multi

SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
AVERAGES = ("overall", "macro", "weighted", "micro")  # what metrics of all classes are called
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
    if "patient" not in patterns.compiled(text).groupindex:
        raise ValueError("has no group (?P<patient>...)")
    return text


ClassName = Annotated[str, AfterValidator(_class_name)]
Pattern = Annotated[str, AfterValidator(pattern)]
Text = Annotated[str, Field(min_length=1)]
Column = Literal["file", "label", "patient", "study", "split", "source", "sex", "age", "view"]
Columns = dict[Column, str | None]
Labels = dict[str, Annotated[list[str], Field(min_length=1)]]
Task = Literal["single-label", "multi-label"]
Uncertain = Literal["ignore", "positive", "negative", "smooth"]
UncertainPolicy = Uncertain | dict[str, Uncertain]
Blank = Literal["missing", "negative"]
Readers = Literal["majority", "any"]
Views = Annotated[list[Text], Field(min_length=1)] | None
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Demo(Section):
    n_healthy: ImageCount
    n_tb: ImageCount
    size: Annotated[int, Field(ge=32, le=1024)]
    seed: Seed
    task: Task


class Source(Section):
    """One of several sources; missing keys are inherited from `data`, and `sha256` is none."""

    name: Annotated[str, AfterValidator(_source_name)]
    path: Text
    sha256: Sha256 | None = None
    layout: LayoutName = "auto"
    labels: Labels | None = None
    ignore: Literal["others"] | list[str] | None = None
    table: Text | list[str] | None = None
    columns: Columns | None = None
    patient: Pattern | None = None
    blank: Blank | None = None
    readers: Readers | None = None
    views: Views = None

    @property
    def listed(self) -> list[str]:
        """All labels that it names, those that it leaves out included."""
        labels = [label for several in (self.labels or {}).values() for label in several]
        return labels + (self.ignore if isinstance(self.ignore, list) else [])


def _kind_of_source(value: Any) -> str:
    return "list[source]" if isinstance(value, list) else "literal[address]"  # these stand in no dotted path


class Data(Section):
    source: Annotated[
        Annotated[Text, Tag("literal[address]")] | Annotated[list[Source], Field(min_length=1), Tag("list[source]")],
        Discriminator(_kind_of_source),
    ]
    sha256: Sha256 | None
    layout: LayoutName
    task: Task
    classes: Annotated[list[ClassName], Field(min_length=2)]
    labels: Labels | None
    positive: str | None
    uncertain: UncertainPolicy
    blank: Blank
    readers: Readers
    views: Views
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
        inherited = ("layout", "labels", "table", "columns", "patient", "blank", "readers", "views")
        return {key: getattr(self, key) for key in inherited if key not in source.model_fields_set}

    @property
    def source_text(self) -> str:
        """The source, or the names of several with where they are, for people."""
        return self.source if isinstance(self.source, str) else ", ".join(f"{s.name} ({s.path})" for s in self.source)

    def problems(self) -> Iterator[Problem]:
        if len(set(self.classes)) < len(self.classes):
            yield "classes", "names a class twice"
        for name in AVERAGES:
            if name in self.classes:
                yield "classes", f"{name} names metrics of all classes; call the class otherwise"
        yield from self._of_findings() if is_multi(self.task) else self._of_positive()
        if self.sha256 and self.source == "demo":
            yield "sha256", "belongs to an https address; set it to null with data.source: demo"
        if "demo" in (self.source, *(each.path for each in self.sources.values())) and self.demo.task != self.task:
            yield (
                "demo.task",
                f"the demo's films are {self.demo.task}, and data.task is {self.task}: set both to the same",
            )
        yield from self._of_labels()
        yield from self._of_sources() if isinstance(self.source, list) else ()

    def _of_positive(self) -> Iterator[Problem]:
        if len(self.classes) == 2 and self.positive not in self.classes:
            yield "positive", f"must be one of {', '.join(self.classes)}, got {self.positive!r}"
        if len(self.classes) > 2 and self.positive is not None:
            yield "positive", "must be null with more than two classes, whose F1 is the mean over classes"

    def _of_findings(self) -> Iterator[Problem]:
        if self.positive is not None:
            yield "positive", f"must be null with task: {self.task}, in which every finding is present or absent"
        yield from uncertain_problems("uncertain", self.uncertain, self.classes)

    def _of_labels(self) -> Iterator[Problem]:
        if self.labels is None:
            return
        if set(self.labels) != set(self.classes):
            yield "labels", f"needs the keys {', '.join(self.classes)}, has {', '.join(self.labels)}"
        for label in _repeated([label for labels in self.labels.values() for label in labels]):
            yield "labels", f"{label!r} is listed twice"

    def _of_sources(self) -> Iterator[Problem]:
        sources = [] if isinstance(self.source, str) else self.source
        if self.sha256:
            yield "sha256", "of several sources each has its own, below its name: set it to null"
        names = [source.name.lower() for source in sources]
        for number, source in enumerate(sources):
            where = f"source.{number}"
            if names[number] in names[:number]:
                yield f"{where}.name", f"{source.name} is the name of another source, in upper or lower case"
            if is_multi(self.task) and source.ignore:
                yield (
                    f"{where}.ignore",
                    f"belongs to task: {SINGLE_LABEL}; here a label that no finding names is not studied",
                )
            for name in source.labels or {}:
                if name not in self.classes:
                    yield f"{where}.labels", f"{name} is none of data.classes ({', '.join(self.classes)})"
            for label in _repeated(source.listed):
                yield where, f"{label!r} is listed twice"


def uncertain_problems(key: str, policy: UncertainPolicy, findings: list[str]) -> Iterator[Problem]:
    """A mapping from findings to policies names them all, and no other."""
    if isinstance(policy, dict) and set(policy) != set(findings):
        yield key, f"needs one value, or one for each of {', '.join(findings)}; has {', '.join(policy) or 'none'}"


def _repeated(labels: list[str]) -> list[str]:
    return sorted(label for label in set(labels) if labels.count(label) > 1)
