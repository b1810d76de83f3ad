"""The table of DVC's experiments: which runs it has, in which order, and what each differs in."""

import io
from copy import deepcopy
from typing import Any

import small
from rich.console import Console

from xraylab import files
from xraylab.jobs import experiments

Tree = dict[str, Any]
PARAMS = files.read_yaml(small.REPOSITORY / "params.yaml")


def version(name: str | None, metrics: Tree, change: Tree | None = None, **others: Any) -> Tree:
    """A version as `dvc exp show --json` prints it; `metrics`: run -> its metric, which tells models apart too."""
    params = {**PARAMS, **(change or {})}
    data = {
        "params": {"params.yaml": {"data": params}, "configs/l2.yaml": {"data": {}}},
        "metrics": {
            "reports/metrics.json": {"data": {"baseline": 0.5, "test.auroc": 1.0}},
            **{
                f"metrics/{run}.json": {"data": {run.replace("/", "-"): {"f1": value}}}
                for run, value in metrics.items()
            },
        },
        "outs": {f"models/{run}": {"hash": f"model {value}"} for run, value in metrics.items()},
    }
    return {"rev": "0123456789", "name": name, "data": data, "error": None, "experiments": None} | others


def experiment(state: str | None, *revisions: Tree) -> Tree:
    return {"revs": list(revisions), "executor": state and {"state": state, "name": "dvc-task", "local": None}}


def changed(section: str, **values: Any) -> Tree:
    return {section: PARAMS[section] | values}


COMMITTED = {"baseline/0": 0.8, "l2/0": 0.7, "dropout/0": None}
TRIED = [
    experiment(None, version("bold-fly", COMMITTED | {"baseline/0": 0.9}, changed("model", dropout=0.3))),
    experiment(None, version(None, COMMITTED | {"l2/0": 0.6}, changed("train", lr=0.1, ema_decay=None))),
    experiment(None, version("only-report", COMMITTED, changed("report", hide_names=True))),
    experiment("queued", version("grim-owl", {}, changed("experiments", l2={"train": {"lr": 0.2}}))),
]
SHOWN = [version("workspace", COMMITTED), version("main", COMMITTED, experiments=TRIED)]


def test_the_best_run_comes_first_and_only_what_was_trained_is_shown() -> None:
    found = [(row.version, row.run, row.value, row.state) for row in experiments.rows(SHOWN)]
    assert found == [
        ("bold-fly", "baseline/0", 0.9, ""),
        ("main", "baseline/0", 0.8, ""),
        ("main", "l2/0", 0.7, ""),
        ("0123456", "l2/0", 0.6, ""),
        ("main", "dropout/0", None, ""),
        ("grim-owl", "", None, "queued"),
    ]


def test_a_run_differs_from_the_baseline_of_the_commit_in_what_it_was_trained_with() -> None:
    rows = experiments.rows(SHOWN)
    reference = experiments.reference(rows, "baseline")
    assert reference == rows[1]
    differing = {(row.version, row.run): experiments.changes(row, reference) for row in rows}
    assert differing == {
        ("bold-fly", "baseline/0"): ["model.dropout=0.3"],
        ("main", "baseline/0"): [],
        ("main", "l2/0"): ["loss.l2=0.001"],
        ("0123456", "l2/0"): ["loss.l2=0.001", "train.lr=0.1"],
        ("main", "dropout/0"): ["model.dropout=0.5"],
        ("grim-owl", ""): ["experiments.l2.train.lr=0.2"],
    }


def test_what_the_workspace_trained_and_did_not_commit_is_shown() -> None:
    shown = [version("workspace", COMMITTED | {"l2/0": 0.75}, changed("train", epochs=7)), SHOWN[1]]
    assert [(row.version, row.run) for row in experiments.rows(shown)].count(("workspace", "l2/0")) == 1
    assert not [row for row in experiments.rows(shown) if row.version == "workspace" and row.run != "l2/0"]


def test_of_losses_the_lowest_comes_first() -> None:
    shown = version("main", {"baseline/0": 0.8, "l2/0": 0.7}, experiments=[])
    for content in (content for path, content in shown["data"]["metrics"].items() if path.startswith("metrics/")):
        for metrics in content["data"].values():
            if "f1" in metrics:
                metrics["loss"] = metrics.pop("f1")
    assert [row.run for row in experiments.rows([version("workspace", {}), shown])] == ["l2/0", "baseline/0"]


def test_metrics_that_dvc_does_not_list_are_read_from_its_cache() -> None:
    listed, cached = ([version("main", COMMITTED, experiments=deepcopy(TRIED))] for _ in range(2))
    contents: Tree = {}
    for data in (each["data"] for each in [cached[0], *(row["revs"][0] for row in cached[0]["experiments"])]):
        for path in [path for path in data["metrics"] if path.startswith("metrics/")]:
            content = data["metrics"].pop(path)["data"]
            data["outs"][path] = {"hash": f"md5 of {content}"}
            contents[f"md5 of {content}"] = content
    expected = [(row.version, row.run, row.metric, row.value) for row in experiments.rows([{"rev": ""}, *listed])]
    assert set(experiments.hashes(cached)) == set(contents)
    experiments.add_metrics(cached, contents)
    shown = experiments.rows([{"rev": ""}, *cached])
    assert [(row.version, row.run, row.metric, row.value) for row in shown] == expected


def test_the_table_fits_a_narrow_terminal() -> None:
    rows = experiments.rows(SHOWN)
    console = Console(width=55, file=io.StringIO())
    with console.capture() as capture:
        console.print(experiments.table(rows, experiments.reference(rows, "baseline")))
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert max(map(len, lines)) <= 55
    assert [" ".join(line.split()) for line in lines] == [
        "version run valid f1 differs in",
        "bold-fly baseline/0 0.9000 model.dropout=0.3",
        "main baseline/0 0.8000 the baseline",
        "main l2/0 0.7000 loss.l2=0.001",
        "0123456 l2/0 0.6000 loss.l2=0.001",
        "train.lr=0.1",
        "main dropout/0 - model.dropout=0.5",
        "grim-owl - - queued",
        "experiments.l2.train.",
        "lr=0.2",
    ]
