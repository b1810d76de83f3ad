"""The stages of dvc.yaml, with what ${...} stands for put in, and which of them depend on which.

DVC itself takes seconds to be imported, and its lock, for which the dvc that runs the study would have to wait.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from xraylab.errors import DataError

Tree = dict[str, Any]
REFERENCE = re.compile(r"\$\{([^}]+)\}")
PARAMS = "params.yaml"


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml, of a matrix one of its cells.

    `params`: dotted keys of params.yaml. `uncached`: those of the outs that DVC's cache does not hold.
    """

    name: str
    cmd: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[str, ...] = ()
    uncached: tuple[str, ...] = ()


def parse(tree: Tree, params: Tree) -> list[Stage]:
    """The stages of a dvc.yaml. Errors: DataError where it has none, or what DVC would not take for one."""
    stages = tree.get("stages") if isinstance(tree, dict) else None
    if not isinstance(stages, dict) or not stages:
        raise DataError("dvc.yaml has no stages: run this command in the top folder of a study")
    if not isinstance(params, dict):
        raise DataError(f"{PARAMS} holds no sections: bring it back by `git checkout {PARAMS}`")
    return [stage for name, entry in stages.items() for stage in _stages(str(name), entry, params)]


def _stages(name: str, entry: Any, params: Tree) -> list[Stage]:
    """One stage, or those of a matrix. Errors: DataError."""
    try:
        return list(_cells(name, entry, params))
    except (AttributeError, KeyError, TypeError):
        raise DataError(
            f"dvc.yaml: the stage {name} is not as DVC takes it, or refers to what {PARAMS} does not have: "
            "`dvc status` says more, `git checkout dvc.yaml` brings it back"
        ) from None


def _cells(name: str, entry: Tree, params: Tree) -> Iterator[Stage]:
    for cell, items in _axes(entry, params):
        known = params | items
        body = entry.get("do", entry)
        outs = [out for kind in ("outs", "metrics", "plots") for out in body.get(kind) or []]
        yield Stage(
            f"{name}@{cell}" if cell else name,
            _text(command(body["cmd"]), known),
            tuple(_paths(body.get("deps") or [], known)),
            tuple(_paths(outs, known)),
            tuple(key for key in body.get("params") or [] if isinstance(key, str)),
            tuple(_paths([out for out in outs if _uncached(out)], known)),
        )


def command(cmd: Any) -> str:
    """The command of a stage, of which DVC also takes a list."""
    return "\n".join(map(str, cmd)) if isinstance(cmd, list) else str(cmd)


def _axes(entry: Tree, params: Tree) -> Iterator[tuple[str, Tree]]:
    """What follows the @ in each name of a stage, and what ${item} and ${key} stand for there."""
    if "foreach" in entry:
        values = _resolved(entry["foreach"], params)
        pairs = values.items() if isinstance(values, dict) else enumerate(values)
        for key, value in pairs:
            named = isinstance(values, dict) or isinstance(value, dict)
            yield str(key if named else value), {"item": value, "key": key}
        return
    axes = {axis: list(_resolved(values, params)) for axis, values in entry.get("matrix", {}).items()}
    for cell in product(*axes.values()):
        yield "-".join(map(str, cell)), {"item": dict(zip(axes, cell, strict=True))}


def _uncached(out: str | Tree) -> bool:
    return isinstance(out, dict) and any((options or {}).get("cache") is False for options in out.values())


def _paths(entries: Iterable[str | Tree], known: Tree) -> Iterator[str]:
    for entry in entries:
        yield _text(entry if isinstance(entry, str) else next(iter(entry), ""), known)


def _resolved(values: Any, params: Tree) -> Iterable[Any]:
    """A list, or what `${key}` stands for: a list, or a mapping, which stands for its keys."""
    match = REFERENCE.fullmatch(values) if isinstance(values, str) else None
    found: Iterable[Any] = value(params, match[1]) if match else values
    return found


def _text(text: str, known: Tree) -> str:
    return REFERENCE.sub(lambda match: str(value(known, match[1])), text)


def value(tree: Tree, key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    branch: Any = tree
    for name in key.split("."):
        branch = branch.get(name) if isinstance(branch, dict) else None
    return branch


def below(stages: list[Stage], names: set[str]) -> set[str]:
    """The stages that depend on these, directly or not."""
    reached, before = set(names), set[str]()
    while reached != before:
        before = set(reached)
        outs = [out for stage in stages if stage.name in reached for out in stage.outs]
        reached |= {stage.name for stage in stages if any(touches(dep, out) for dep in stage.deps for out in outs)}
    return reached


def touches(dep: str, out: str) -> bool:
    """Return whether one of two paths is the other, or lies in it."""
    return dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/")
