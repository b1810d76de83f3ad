"""YAML within limits: what is nested too deeply ends its parser in C, and aliases can stand for any amount."""

from typing import IO, Any

from ruamel.yaml import YAML
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent

DEEPEST = 100  # mappings and lists in one another; params.yaml has 5
LONGEST = 64 << 20  # characters; the dvc.lock of 1,000 runs has 3 million
MOST_NODES = 1_000_000  # with each alias counted as what it stands for


def load_yaml(file: IO[str], yaml: YAML | None = None) -> Any:
    """YAML 1.2, by `yaml` where comments are to be kept.

    Errors: ValueError or YAMLError, also for what is too deep, too long or too large.
    """
    text = file.read(LONGEST + 1)
    if len(text) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST >> 20} million characters")
    _check_size(text)
    try:
        return (yaml or YAML(typ="safe")).load(text)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:  # of tags with values of another type
        raise ValueError(f"a value does not fit its tag: {error}") from None


def _check_size(text: str) -> None:
    """Errors: ValueError, before anything is built."""
    sizes: dict[str, int] = {}  # anchor -> number of nodes
    nodes, open_nodes = 0, list[tuple[str | None, int]]()  # of these the anchor, and the number of nodes before it
    for event in YAML(typ="safe").parse(text):
        if isinstance(event, AliasEvent):
            if event.anchor in {anchor for anchor, _ in open_nodes}:
                raise ValueError(f"the alias *{event.anchor} stands within what it stands for")
            nodes += sizes.get(event.anchor, 0)
        elif isinstance(event, NodeEvent):
            nodes += 1
            sizes |= {event.anchor: 1} if event.anchor else {}
        if isinstance(event, CollectionStartEvent):
            open_nodes.append((event.anchor, nodes - 1))
        elif isinstance(event, CollectionEndEvent):
            anchor, before = open_nodes.pop()
            sizes |= {anchor: nodes - before} if anchor else {}
        if len(open_nodes) > DEEPEST:
            raise ValueError(f"mappings and lists are nested more than {DEEPEST} deep, at {_where(event)}")
        if nodes > MOST_NODES:
            raise ValueError(f"its aliases stand for more than {MOST_NODES:,} values, at {_where(event)}")


def _where(event: Any) -> str:
    return f"line {event.start_mark.line + 1}"
