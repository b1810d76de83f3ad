"""Which stages and trainings `dvc exp run -S` would run again, without running or writing anything.

`dvc exp run --dry` itself looks for the files of every stage in an empty checkout of its own, and fails (treeverse/dvc
issue 9818); it could not see through the stage `configure` either.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from xraylab import files, template
from xraylab.errors import ParamsError
from xraylab.params import config, messages
from xraylab.params.config import Params
from xraylab.studies.presets import leaves

Tree = dict[str, Any]
EXISTING = re.compile(r"[a-z_][\w.]*=")
"""An override of a key that params.yaml has; `+` and `++` add one, `~` removes one."""
BEFORE_TRAINING = ("source", "index", "split", "cache")
"""Stages whose outputs every training reads; `configure` writes one for each."""


def lines(root: Path, overrides: Sequence[str]) -> list[str]:
    """What the values would change in the params.yaml of `root`. Errors: ParamsError where one is refused."""
    path = root / "params.yaml"
    _refuse_unknown_keys(overrides)
    old, new = files.read_yaml(path), _overridden(path, overrides)
    before, after = config.validate(old, path.name), config.validate(new, path.name)
    changed, stages = _changed(old, new)
    _, used_by = _changed(before.model_dump(), after.model_dump())  # without what a split does not use
    trained = _trained(before, after, used_by)
    return [
        f"changes: {', '.join(changed) or 'nothing'}",
        f"stages that read it: {', '.join(stages) or 'report' if changed else 'none'}",
        f"trained again: {', '.join(trained) or 'nothing'}",
    ]


def _refuse_unknown_keys(overrides: Sequence[str]) -> None:
    """Errors: ParamsError with the nearest key for one that no params.yaml has; names of experiments are free."""
    for override in overrides:
        keys = override.partition("=")[0].split(".")
        for depth, key in enumerate(keys if EXISTING.match(override) and keys[0] != "experiments" else []):
            section = messages.section_at(keys[:depth], Params)
            if depth and section is messages.section_at(keys[: depth - 1], Params):
                break  # below a key that holds no section, such as a list or a mapping of free names
            if key not in section.model_fields:
                parent = "".join(f"{each}." for each in keys[:depth])
                hint = messages.nearest(key, section.model_fields, parent)
                raise ParamsError(f"-S {override}: unknown key {parent}{key}; {hint}")


def _overridden(path: Path, overrides: Sequence[str]) -> Any:
    """The file's content as DVC sets the values, in a copy."""
    from dvc.exceptions import DvcException  # type: ignore[import-untyped] # noqa: PLC0415 - slow
    from dvc.utils.hydra import apply_overrides  # type: ignore[import-untyped] # noqa: PLC0415

    with TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        files.write_text(path.read_text(encoding="utf-8"), copy)
        try:
            apply_overrides(str(copy), list(overrides))
        except DvcException as error:
            raise ParamsError(f"-S {' '.join(overrides)}: {error.__cause__ or error}") from None
        return files.read_yaml(copy)


def _changed(before: Tree, after: Tree) -> tuple[list[str], list[str]]:
    """The dotted keys whose values differ, and the stages that read one of them."""
    old, new = dict(leaves(before)), dict(leaves(after))
    changed = [key for key in dict.fromkeys([*old, *new]) if old.get(key, ...) != new.get(key, ...)]
    return changed, [name for name, stage in template.stages().items() if _reads(stage.get("params", []), changed)]


def _reads(names: list[str], changed: list[str]) -> bool:
    return any(f"{key}.".startswith(f"{name}.") for name in names for key in changed)


def _trained(before: Params, after: Params, stages: list[str]) -> list[str]:
    """The runs whose configuration or data change, and new ones."""
    configs = {
        f"{name}/{repeat}": _config(before, name) for name in before.experiments for repeat in before.study.repeats
    }
    labels = [(params.data.positive, params.data.uncertain) for params in (before, after)]
    data = [name for name in BEFORE_TRAINING if name in stages] or labels[0] != labels[1]
    return [
        run
        for name in after.experiments
        for run in (f"{name}/{repeat}" for repeat in after.study.repeats)
        if data or configs.get(run) != _config(after, name)
    ]


def _config(params: Params, experiment: str) -> Tree:
    return params.experiment(experiment).model_dump()
