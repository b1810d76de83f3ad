"""Which stages and trainings `dvc exp run -S` would run again, without running or writing anything.

`dvc exp run --dry` itself looks for the files of every stage in an empty checkout of its own, and fails (treeverse/dvc
issue 9818); it could not see through the stage `plan` either.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from xraylab import files, template
from xraylab.errors import ParamsError
from xraylab.params import config
from xraylab.params.config import Params
from xraylab.studies.presets import leaves

BEFORE_TRAINING = ("source", "index", "split", "cache")
"""Stages whose outputs every training reads; `plan` makes one for each."""


def lines(root: Path, overrides: Sequence[str]) -> list[str]:
    """What the values would change in the params.yaml of `root`. Errors: ParamsError where one is refused."""
    before, after = config.read(root / "params.yaml"), _overridden(root / "params.yaml", overrides)
    changed = _changed(before, after)
    stages = [name for name, stage in template.stages().items() if _reads(stage.get("params", []), changed)]
    trained = _trained(before, after, stages)
    return [
        f"changes: {', '.join(changed) or 'nothing'}",
        f"stages that read it: {', '.join(stages) or 'report' if changed else 'none'}",
        f"trained again: {', '.join(trained) or 'nothing'}",
    ]


def _overridden(path: Path, overrides: Sequence[str]) -> Params:
    """As DVC sets the values, in a copy."""
    from dvc.exceptions import DvcException  # type: ignore[import-untyped] # noqa: PLC0415 - slow
    from dvc.utils.hydra import apply_overrides  # type: ignore[import-untyped] # noqa: PLC0415

    with TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        files.write_text(path.read_text(encoding="utf-8"), copy)
        try:
            apply_overrides(str(copy), list(overrides))
        except DvcException as error:
            raise ParamsError(f"-S {' '.join(overrides)}: {error.__cause__ or error}") from None
        return config.read(copy, path.name)


def _changed(before: Params, after: Params) -> list[str]:
    """The dotted keys whose values differ."""
    old, new = (dict(leaves(tree.model_dump())) for tree in (before, after))
    return [key for key in dict.fromkeys([*old, *new]) if old.get(key, ...) != new.get(key, ...)]


def _reads(names: list[str], changed: list[str]) -> bool:
    return any(f"{key}.".startswith(f"{name}.") for name in names for key in changed)


def _trained(before: Params, after: Params, stages: list[str]) -> list[str]:
    """The runs whose configuration or data change, and new ones."""
    known = {
        f"{name}/{repeat}": _config(before, name) for name in before.experiments for repeat in before.study.repeats
    }
    data = [name for name in BEFORE_TRAINING if name in stages] or before.data.positive != after.data.positive
    return [
        run
        for name in after.experiments
        for run in (f"{name}/{repeat}" for repeat in after.study.repeats)
        if data or known.get(run) != _config(after, name)
    ]


def _config(given: Params, experiment: str) -> dict[str, Any]:
    return given.experiment(experiment).model_dump()
