"""DVC's experiments as one table: the runs that each of them trained, the best first."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from xraylab.jobs.dvc import Dvc
from xraylab.params.config import OVERRIDABLE, merge
from xraylab.studies.presets import leaves

Tree = dict[str, Any]
Config = dict[str, Any]  # dotted key -> value
SECTIONS = ("data", "split", "images", *OVERRIDABLE)
"""What can change a training."""
TEST = "test_"
METRICS = "metrics"  # the folder of the runs' metrics
UNFINISHED = {"queued", "running", "failed"}


@dataclass(frozen=True)
class Row:
    """A run of a version: of the workspace, a commit, or a DVC experiment.

    `metric`: f1 and the like on validation images, test_f1 on test images; `value` is None where it has none.
    `age`: commits since, 0 for the newest; None for what is not committed. An unfinished experiment has no run yet,
    and as `config` only what it changes.
    """

    version: str
    run: str
    metric: str
    value: float | None
    config: Config
    state: str = ""
    age: int | None = None


async def show(dvc: Dvc, baseline: str, commits: int) -> Table:
    """The table of the workspace, the last `commits` and the experiments that began there."""
    versions = json.loads(await dvc.output("exp", "show", "--json", "--num", str(commits)))
    add_metrics(versions, await dvc.objects(hashes(versions)))
    listed = rows(versions)
    return table(listed, reference(listed, baseline))


def hashes(versions: list[Tree]) -> list[str]:
    """The MD5s of the runs' metrics, metrics/<experiment>/<repeat>.json, each once."""
    outs = (out for data in _each(versions) for out in _metric_files(data).values())
    return list(dict.fromkeys(out["hash"] for out in outs if out["hash"]))


def add_metrics(versions: list[Tree], contents: dict[str, Tree]) -> None:
    """Add the contents of these files, by their MD5, to the metrics that DVC lists."""
    for data in _each(versions):
        files = {path: contents.get(out["hash"], {}) for path, out in _metric_files(data).items()}
        listed = {path: {"data": content} for path, content in files.items() if content}
        data["metrics"] = listed | (data.get("metrics") or {})


def _each(versions: list[Tree]) -> Iterator[Tree]:
    """The data of every commit and experiment."""
    for version in versions:
        experiments = [last for each in version.get("experiments") or [] for last in each["revs"]]
        yield from (each["data"] for each in (version, *experiments) if each.get("data"))


def _metric_files(data: Tree) -> Tree:
    return {path: out for path, out in data.get("outs", {}).items() if _is_run_metric(path)}


def _is_run_metric(name: str) -> bool:
    return PurePosixPath(name.replace("\\", "/")).parts[0] == METRICS


def rows(versions: list[Tree]) -> list[Row]:
    """The runs of every commit, and those that the workspace and the experiments trained differently; the best first.

    `versions`: what `dvc exp show --json` prints, with `add_metrics`.
    """
    workspace, *commits = versions
    listed = [row for age, commit in enumerate(commits) for row in _commit(commit, age)]
    listed += _changed_runs(workspace, _data(commits[0]) if commits else {}, "workspace")
    return sorted(listed, key=_order)


def _commit(commit: Tree, age: int) -> Iterator[Row]:
    data = _data(commit)
    yield from _runs(data, _name(commit), age)
    for experiment in commit["experiments"] or []:
        last, state = experiment["revs"][0], (experiment["executor"] or {}).get("state", "").lower()
        yield from _unfinished(last, data, state) if state in UNFINISHED else _changed_runs(last, data, _name(last))


def _unfinished(version: Tree, parent: Tree, state: str) -> Iterator[Row]:
    before, config = (_flat(_params(data)) for data in (parent, _data(version)))
    changed = {key: value for key, value in config.items() if before.get(key, ...) != value}
    yield Row(_name(version), "", "", None, changed, state)


def _changed_runs(version: Tree, parent: Tree, name: str) -> Iterator[Row]:
    """The runs whose model is not the parent's."""
    data = _data(version)
    before = {run: _model(parent, run) for run in _metrics(parent)}
    return (row for row in _runs(data, name) if _model(data, row.run) != before.get(row.run))


def _runs(data: Tree, version: str, age: int | None = None) -> Iterator[Row]:
    for run, (metric, value) in _metrics(data).items():
        yield Row(version, run, metric, value, _config(_params(data), run.split("/")[0]), age=age)


def _metrics(data: Tree) -> dict[str, tuple[str, float | None]]:
    """Run -> name and value of the metric that chose its best epoch, from metrics/<experiment>/<repeat>.json."""
    metrics = {}
    for name, content in data.get("metrics", {}).items():
        path = PurePosixPath(name.replace("\\", "/"))
        if _is_run_metric(name) and isinstance(content.get("data"), dict):
            ((metric, value),) = next(iter(content["data"].values())).items()
            metrics[f"{path.parent.name}/{path.stem}"] = (metric, value)
    return metrics


def _model(data: Tree, run: str) -> str | None:
    outs = {path.replace("\\", "/"): out for path, out in data.get("outs", {}).items()}
    return (outs.get(f"models/{run}") or {}).get("hash")


def _params(data: Tree) -> Tree:
    return (data.get("params", {}).get("params.yaml") or {}).get("data") or {}


def _flat(params: Tree) -> Config:
    return dict(leaves({name: params[name] for name in (*SECTIONS, "experiments") if name in params}))


def _config(params: Tree, experiment: str) -> Config:
    """The settings that an experiment is trained with."""
    overrides = params.get("experiments", {}).get(experiment) or {}
    return dict(leaves(merge({name: params[name] for name in SECTIONS if name in params}, overrides)))


def _data(version: Tree) -> Tree:
    return version.get("data") or {}


def _name(version: Tree) -> str:
    return str(version.get("name") or version["rev"][:7])


def _order(row: Row) -> tuple[bool, str, float]:
    """The lowest loss or the highest of anything else first, metric by metric; rows without a value last."""
    if row.value is None:
        return (True, "", 0.0)
    return (False, row.metric, row.value if row.metric.endswith("loss") else -row.value)


def reference(listed: list[Row], baseline: str) -> Row | None:
    """The first run of the baseline in the newest commit, with which the others are compared."""
    committed = [row for row in listed if row.run.split("/")[0] == baseline and row.age is not None]
    return min(committed, key=lambda row: (row.age, int(row.run.split("/")[1])), default=None)


def changes(row: Row, other: Row | None) -> list[str]:
    """The parameters in which a run differs, as `-S` takes them."""
    before = {} if row.state else other.config if other else row.config
    return [f"{key}={_text(value)}" for key, value in row.config.items() if before.get(key, ...) != value]


def _text(value: Any) -> str:
    return "null" if value is None else str(value).replace("'", "")


def table(listed: list[Row], other: Row | None) -> Table:
    """Fits any terminal: the parameters that differ are one column, whose lines break."""
    metrics = list(dict.fromkeys(row.metric for row in listed if row.metric))
    heads = [Column(_head(name), justify="right", no_wrap=True) for name in metrics]
    differing = Column("differs in", overflow="fold")
    result = Table(Column("version", no_wrap=True), Column("run", no_wrap=True), *heads, differing, box=None)
    for row in listed:
        values = [_decimal(row.value) if row.metric in (name, "") else "" for name in metrics]
        difference = "the baseline" if row is other else " ".join(changes(row, other))
        result.add_row(*map(Text, (row.version, row.run or "-", *values, f"{row.state} {difference}".strip())))
    return result


def _head(metric: str) -> str:
    return f"test {metric.removeprefix(TEST)}" if metric.startswith(TEST) else f"valid {metric}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
