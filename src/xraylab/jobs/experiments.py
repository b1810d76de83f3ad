"""DVC's experiments as one table: the runs that each of them trained, the best first."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from xraylab.params.config import OVERRIDABLE, merged
from xraylab.studies.presets import leaves

Tree = dict[str, Any]
Config = dict[str, Any]  # dotted key -> value
SECTIONS = ("data", "split", "images", *OVERRIDABLE)
"""What can change a training."""
TEST = "test_"
UNFINISHED = {"Queued": "queued", "Running": "running", "Failed": "failed"}


@dataclass(frozen=True)
class Row:
    """A run of a version, which is the workspace, a commit, or an experiment of DVC.

    `metric` is f1 and the like on validation images, test_f1 on test images; `value` is None without a figure. `age`
    counts commits from the newest, 0; None for what is not committed. What is not finished has no run yet, and as
    `config` only what it changes.
    """

    version: str
    run: str
    metric: str
    value: float | None
    config: Config
    state: str = ""
    age: int | None = None


def rows(shown: list[Tree]) -> list[Row]:
    """The runs of every commit, and those that the workspace and the experiments trained otherwise; the best first.

    `shown`: what `dvc exp show --json` prints.
    """
    workspace, *commits = shown
    found = [row for age, commit in enumerate(commits) for row in _of_commit(commit, age)]
    found += _of_child(workspace, _data(commits[0]) if commits else {}, "workspace")
    return sorted(found, key=_order)


def _of_commit(commit: Tree, age: int) -> Iterator[Row]:
    data = _data(commit)
    yield from _runs(data, _name(commit), age)
    for experiment in commit["experiments"] or []:
        last, state = experiment["revs"][0], (experiment["executor"] or {}).get("state", "")
        yield from _of_child(last, data, _name(last), UNFINISHED.get(state.capitalize(), ""))


def _of_child(child: Tree, parent: Tree, name: str, state: str = "") -> Iterator[Row]:
    """The runs whose model is not the parent's; of what is not finished, its parameters alone."""
    data = _data(child)
    if state:
        old, new = (_all(_params(each)) for each in (parent, data))
        changed = {key: value for key, value in new.items() if old.get(key, ...) != value}
        yield Row(name, "", "", None, changed, state)
        return
    before = {run: _model(parent, run) for run in _metrics(parent)}
    yield from (row for row in _runs(data, name) if _model(data, row.run) != before.get(row.run))


def _runs(data: Tree, version: str, age: int | None = None) -> Iterator[Row]:
    for run, (metric, value) in _metrics(data).items():
        yield Row(version, run, metric, value, _config(_params(data), run.split("/")[0]), age=age)


def _metrics(data: Tree) -> dict[str, tuple[str, float | None]]:
    """Run -> name and value of the figure that chose its best epoch, from metrics/<experiment>/<repeat>.json."""
    found = {}
    for path, content in data.get("metrics", {}).items():
        place = PurePosixPath(path.replace("\\", "/"))
        if place.parts[0] == "metrics" and isinstance(content.get("data"), dict):
            ((metric, value),) = next(iter(content["data"].values())).items()
            found["/".join([place.parent.name, place.stem])] = (metric, value)
    return found


def _model(data: Tree, run: str) -> str | None:
    outs = {path.replace("\\", "/"): out for path, out in data.get("outs", {}).items()}
    return (outs.get(f"models/{run}") or {}).get("hash")


def _params(data: Tree) -> Tree:
    return (data.get("params", {}).get("params.yaml") or {}).get("data") or {}


def _all(params: Tree) -> Config:
    return dict(leaves({name: params[name] for name in (*SECTIONS, "experiments") if name in params}))


def _config(params: Tree, experiment: str) -> Config:
    """What an experiment is trained with."""
    overrides = params.get("experiments", {}).get(experiment) or {}
    base = {name: params[name] for name in SECTIONS if name in params}
    return dict(leaves(merged(base, overrides)))


def _data(version: Tree) -> Tree:
    return version.get("data") or {}


def _name(version: Tree) -> str:
    return str(version.get("name") or version["rev"][:7])


def _order(row: Row) -> tuple[bool, str, float]:
    """The lowest loss or the highest of anything else first, metric by metric; what has no figure last."""
    if row.value is None:
        return (True, "", 0.0)
    return (False, row.metric, row.value if row.metric.endswith("loss") else -row.value)


def reference(found: Iterable[Row], baseline: str) -> Row | None:
    """The first run of the baseline in the newest commit, which the others are told apart from."""
    committed = [row for row in found if row.run.split("/")[0] == baseline and row.age is not None]
    return min(committed, key=lambda row: (row.age, int(row.run.split("/")[1])), default=None)


def changes(row: Row, other: Row | None) -> list[str]:
    """The parameters in which a run differs, as `-S` takes them."""
    before = {} if row.state else other.config if other else row.config
    return [f"{key}={_spelt(value)}" for key, value in row.config.items() if before.get(key, ...) != value]


def _spelt(value: Any) -> str:
    return "null" if value is None else str(value).replace("'", "")


def table(found: list[Row], other: Row | None) -> Table:
    """Fits any terminal: the parameters that differ are one column, whose lines break."""
    metrics = list(dict.fromkeys(row.metric for row in found if row.metric))
    heads = [Column(_head(name), justify="right", no_wrap=True) for name in metrics]
    differing = Column("differs in", overflow="fold")
    result = Table(Column("version", no_wrap=True), Column("run", no_wrap=True), *heads, differing, box=None)
    for row in found:
        figures = [_decimal(row.value) if row.metric in (name, "") else "" for name in metrics]
        told = "the baseline" if row is other else " ".join(changes(row, other))
        result.add_row(*map(Text, (row.version, row.run or "-", *figures, " ".join([row.state, told]).strip())))
    return result


def _head(metric: str) -> str:
    return f"test {metric.removeprefix(TEST)}" if metric.startswith(TEST) else f"valid {metric}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
