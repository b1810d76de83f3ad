"""Searches: the space, the samplers, early ends, restarts, the files for the report; without dvc."""

import asyncio
import io
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import finished_study
import optuna
import pandas as pd
import pytest
import small
from filelock import FileLock
from rich.console import Console
from ruamel.yaml import YAML

from xraylab import cli, files, tables
from xraylab.errors import DataError, MissingError, ParamsError, XraylabError
from xraylab.jobs.dvc import Dvc
from xraylab.params import config
from xraylab.params.config import Params
from xraylab.params.search import Search, Values
from xraylab.params.train import Train
from xraylab.paths import Paths
from xraylab.report import search as in_report
from xraylab.search import command, experiment, results, trials
from xraylab.search.screen import Screen, label
from xraylab.search.trials import FailedError, Objective, Report
from xraylab.stages import evaluate, report
from xraylab.train import history

SPACE = {
    "train.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "train.epochs": {"low": 2, "high": 9, "integer": True},
    "train.optimizer": ["adam", "sgd"],
    "train.momentum": {"low": 0.5, "high": 0.99, "when": {"train.optimizer": "sgd"}},
}


def searching(**changes: Any) -> Search:
    given = {"experiment": "baseline", "space": SPACE, "sampler": "random", "trials": 6, "seed": 3, "prune": True}
    return Search.model_validate({**given, "workers": 1, **changes})


def open_study(folder: Path, metric: str = "valid_f1") -> optuna.Study:
    return trials.open_study(folder / "journal.log", "test", metric)


def screen(search: Search, metric: str = "valid_f1", **options: Any) -> Screen:
    return Screen(metric, search.trials, 0, None, search.workers, Console(file=io.StringIO()), **options)


def searched(study: optuna.Study, search: Search, objective: Objective) -> None:
    asyncio.run(trials.run(study, search, objective, screen(search)))


def scoring(metric: Callable[[int, Values], float], seen: list[Values] | None = None) -> Objective:
    """A trial that is trained at once."""

    async def run(number: int, values: Values, report: Report) -> float:
        await asyncio.sleep(0)
        if seen is not None:
            seen.append(values)
        return metric(number, values)

    return run


def drawn(study: optuna.Study, search: Search) -> list[Values]:
    return [trials.suggest(trials.ask(study, search), search.space) for _ in range(search.trials)]


# the space


def problems(tmp_path: Path, **search: Any) -> list[str]:
    study = small.study(tmp_path, lambda tree: tree["search"].update(search))
    with pytest.raises(ParamsError) as caught:
        config.read(study / "params.yaml")
    return list(caught.value.problems)


def test_every_ill_formed_dimension_is_named(tmp_path: Path) -> None:
    space = {
        "train.lr": {"low": 1.0, "high": 0.1},
        "loss.l2": {"low": 0.0, "high": 1.0, "log": True},
        "train.epochs": {"low": 1.5, "high": 3, "integer": True},
        "model.dropout": {"lowest": 0.0, "high": 0.5},
        "train.optimizer": ["adam"],
        "train.batch_size": 8,
    }
    assert problems(tmp_path, space=space, sampler="grid") == [
        "search.space.train.lr: low must be less than high, got {'low': 1.0, 'high': 0.1}",
        "search.space.loss.l2: a logarithmic scale begins above 0, got {'low': 0.0, 'high': 1.0, 'log': True}",
        "search.space.train.epochs: with integer: true, low and high are whole numbers, "
        "got {'low': 1.5, 'high': 3, 'integer': True}",
        "search.space.model.dropout.low: missing; it has no default outside params.yaml",
        "search.space.model.dropout.lowest: unknown key; did you mean search.space.model.dropout.low?",
        "search.space.train.optimizer: list should have at least 2 items after validation, not 1, got ['adam']",
        "search.space.train.batch_size: input should be a valid dictionary or instance of Range, got 8",
        "search.sampler: input should be 'random' or 'tpe', got 'grid'",
    ]


def test_keys_that_cannot_be_varied_are_named(tmp_path: Path) -> None:
    two = {"low": 1, "high": 2}
    space = {
        "train.lrr": two, "split.seed": two, "train": two, "train.lr.x": two, "train.monitor": ["valid_f1", "test_f1"],
        "train.momentum": {**two, "when": {"train.optimizer": "sgd"}},
    }  # fmt: skip
    assert problems(tmp_path, space=space) == [
        "search.space.train.lrr: unknown key; did you mean train.lr?",
        "search.space.split.seed: unknown key; there is model, augment, sampling, loss, train",
        "search.space.train: is a whole section; name one of "
        + ", ".join(Train.model_fields),
        "search.space.train.lr.x: train.lr is a single value",
        "search.space.train.monitor: trials that are judged differently cannot be compared",
        "search.space.train.momentum.when: train.optimizer is not a list of choices in search.space",
    ]  # fmt: skip


def test_values_that_a_trial_would_choke_on_are_named_before_it_begins(tmp_path: Path) -> None:
    space = {
        "train.batch_size": {"low": 8, "high": 32},
        "model.dropout": [0.0, 1.5],
        "train.optimizer": ["adam", "sgd"],
    }
    assert problems(tmp_path / "types", space=space) == [
        "search.space.train.batch_size: input should be a valid integer, got 8.0",
        "search.space.model.dropout: input should be less than 1, got 1.5",
        "search.space.train.batch_size: input should be a valid integer, got 32.0",
    ]
    assert problems(tmp_path / "scale", space={"augment.scale": {"low": 0.9, "high": 1.1}}) == [
        "search.space.augment.scale: input should be a valid list, got 0.9",
        "search.space.augment.scale: input should be a valid list, got 1.1",
    ]
    together = {"train.optimizer": ["adam", "sgd"], "train.momentum": [0.9, None]}
    assert problems(tmp_path / "together", space=together) == [
        "search.space: train.momentum: train.optimizer is sgd, which needs a number here (with train.optimizer: sgd, "
        "train.momentum: None)"
    ]
    unknown = {**SPACE, "train.momentum": {"low": 0.5, "high": 0.9, "when": {"train.optimizer": "rmsprop"}}}
    assert problems(tmp_path / "never", space=unknown) == [
        "search.space.train.momentum.when: train.optimizer is never 'rmsprop'; its choices are adam, sgd"
    ]
    assert problems(tmp_path / "whose", space=SPACE, experiment="base") == [
        "search.experiment: 'base' is not one of the experiments"
    ]


def test_the_example_of_the_docs_is_a_search(tmp_path: Path) -> None:
    text = (small.REPOSITORY / "docs/search.md").read_text()
    block = textwrap.dedent(re.search(r"(?m)^    search:\n(?:     .*\n)+", text)[0])  # type: ignore[index]
    example = YAML(typ="safe").load(block)["search"]
    assert config.read(small.study(tmp_path, lambda tree: tree.update(search=example)) / "params.yaml").search.space


def test_a_choice_may_be_a_list(tmp_path: Path) -> None:
    """As two factors are: each trial draws one of the lists whole, in the grammar of dvc's --set-param."""
    intervals = [[1.0, 1.0], [0.9, 1.1]]
    space = {"augment.scale": intervals}
    search = config.read(small.study(tmp_path, lambda tree: tree["search"].update(space=space)) / "params.yaml").search
    sampled = [values["augment.scale"] for values in drawn(open_study(tmp_path), search)]
    assert sorted(map(tuple, {tuple(each) for each in sampled})) == [(0.9, 1.1), (1.0, 1.0)]
    assert "++experiments.baseline.augment.scale=[0.9,1.1]" in experiment.changes(
        "baseline", {"augment.scale": intervals[1]}
    )


@pytest.mark.parametrize("base", [{"optimizer": "adam", "momentum": None}, {"optimizer": "sgd", "momentum": 0.9}])
def test_a_condition_holds_whatever_the_experiment_itself_says(base: dict[str, Any], tmp_path: Path) -> None:
    """Where it does not hold, the setting is null: adam takes no momentum, though the experiment has one."""

    def change(tree: small.Tree) -> None:
        tree["search"]["space"] = SPACE
        tree["train"].update(base)

    assert config.read(small.study(tmp_path, change) / "params.yaml").train.optimizer == base["optimizer"]


def given(tmp_path: Path, change: small.Change) -> Params:
    return config.read(small.study(tmp_path, change) / "params.yaml")


def test_a_search_on_test_data_is_refused_with_the_reason(tmp_path: Path) -> None:
    def publish(tree: small.Tree) -> None:
        tree["search"]["space"] = SPACE
        tree["train"]["monitor"] = "test_f1"

    with pytest.raises(ParamsError) as caught:
        command.refuse(given(tmp_path, publish))
    assert str(caught.value) == (
        "a search in published mode is refused: train.monitor is test_f1 for baseline, so the best of 30 trials would "
        "be the one that suits the test images by chance, and no image would be left to show it; set train.monitor to "
        "valid_f1"
    )


def test_an_empty_space_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError) as caught:
        command.refuse(given(tmp_path, lambda tree: None))
    assert str(caught.value) == (
        "search.space is empty: name keys and their values there; docs/search.md has examples"
    )  # fmt: skip


# what is drawn


def test_every_draw_lies_in_the_space_and_conditions_hold(tmp_path: Path) -> None:
    draws = drawn(open_study(tmp_path), searching(trials=40))
    assert all(1e-4 <= values["train.lr"] <= 1e-1 and values["train.epochs"] in range(2, 10) for values in draws)
    assert {values["train.optimizer"] for values in draws} == {"adam", "sgd"}
    assert all((values["train.momentum"] is None) == (values["train.optimizer"] == "adam") for values in draws)
    small_rates = sum(values["train.lr"] < 10**-2.5 for values in draws)  # the middle of the logarithmic scale
    assert 10 < small_rates < 30


@pytest.mark.parametrize("sampler", trials.SAMPLERS)
def test_the_same_seed_tries_the_same_settings(sampler: str, tmp_path: Path) -> None:
    def values(folder: str, seed: int) -> list[Values]:
        seen: list[Values] = []
        search = searching(sampler=sampler, seed=seed, trials=14)
        searched(open_study(tmp_path / folder), search, scoring(lambda number, values: -values["train.lr"], seen))
        return seen

    assert values("one", 3) == values("two", 3)
    assert values("one-more", 4) != values("two", 3)


def test_tpe_learns_from_the_trials_before(tmp_path: Path) -> None:
    seen: list[Values] = []
    search = searching(sampler="tpe", trials=30, space={"loss.l2": {"low": 0.0, "high": 1.0}})
    searched(open_study(tmp_path), search, scoring(lambda number, values: -abs(values["loss.l2"] - 0.7), seen))
    early, late = ([abs(values["loss.l2"] - 0.7) for values in part] for part in (seen[:10], seen[-10:]))
    assert sum(late) < sum(early) / 2


# restarts, and trials that end early


async def interrupted(study: optuna.Study, search: Search, last: int) -> None:
    """Ctrl-C in trial `last`."""

    async def objective(number: int, values: Values, report: Report) -> float:
        if number == last:
            task.cancel()
            await asyncio.sleep(60)
        return values["train.lr"]

    task = asyncio.create_task(trials.run(study, search, objective, screen(search)))
    await asyncio.wait([task])
    assert task.cancelled()


def test_a_stopped_search_goes_on_with_the_trials_that_remain(tmp_path: Path) -> None:
    whole: list[Values] = []
    search = searching()
    searched(open_study(tmp_path / "whole"), search, scoring(lambda number, values: values["train.lr"], whole))
    asyncio.run(interrupted(open_study(tmp_path / "stopped"), search, 2))
    rest: list[Values] = []
    study = open_study(tmp_path / "stopped")
    searched(study, search, scoring(lambda number, values: values["train.lr"], rest))
    assert rest == whole[2:]
    assert [trial.value for trial in study.trials] == [values["train.lr"] for values in whole]
    searched(study, search, scoring(lambda number, values: pytest.fail("nothing is left")))
    more: list[Values] = []
    searched(study, searching(trials=8), scoring(lambda number, values: 0.0, more))
    assert len(more) == 2


def learning(reached: dict[int, int], curve: Callable[[int, int], float]) -> Objective:
    """A trial of nine epochs that notes how far it came."""

    async def run(number: int, values: Values, report: Report) -> float:
        for epoch in range(1, 10):
            reached[number] = epoch
            report(epoch, 9, curve(number, epoch))
        return curve(number, 9)

    return run


def test_a_trial_behind_the_median_is_ended_after_a_third(tmp_path: Path) -> None:
    reached: dict[int, int] = {}
    study = open_study(tmp_path)
    searched(study, searching(), learning(reached, lambda number, epoch: epoch / 10 - (number == 5)))
    assert reached == {0: 9, 1: 9, 2: 9, 3: 9, 4: 9, 5: 4}
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 5 + ["PRUNED"]


def test_of_a_loss_the_high_one_is_behind(tmp_path: Path) -> None:
    reached: dict[int, int] = {}
    study = open_study(tmp_path, "valid_loss")
    search = searching(trials=7)
    searched(study, search, learning(reached, lambda number, epoch: {5: 0.9, 6: 0.1}.get(number, 0.5)))
    assert (reached[5], reached[6]) == (4, 9)
    assert study.best_trial.number == 6


def test_without_pruning_every_trial_runs_to_its_end(tmp_path: Path) -> None:
    reached: dict[int, int] = {}
    searched(open_study(tmp_path), searching(prune=False), learning(reached, lambda number, epoch: -number))
    assert set(reached.values()) == {9}


def test_as_many_trials_run_at_once_as_there_are_workers(tmp_path: Path) -> None:
    live, most = set[int](), list[int]()

    async def run(number: int, values: Values, report: Report) -> float:
        live.add(number)
        most.append(len(live))
        await asyncio.sleep(0.01)
        live.remove(number)
        return 0.5

    study = open_study(tmp_path)
    searched(study, searching(workers=3), run)
    assert max(most) == 3
    assert len(study.trials) == 6


async def broken(number: int, values: Values, report: Report) -> float:
    raise FailedError(f"trial {number} is broken")


def test_a_failed_trial_is_noted_and_three_at_first_end_the_search(tmp_path: Path) -> None:
    async def once(number: int, values: Values, report: Report) -> float:
        return await broken(number, values, report) if number == 1 else 0.5

    study = open_study(tmp_path / "one")
    searched(study, searching(), once)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", *["COMPLETE"] * 4]
    with pytest.raises(XraylabError) as caught:
        searched(open_study(tmp_path / "all"), searching(), broken)
    assert str(caught.value) == (
        "the search has ended, because its first 3 trials failed\n"
        "  - trial 0 is broken\n  - trial 1 is broken\n  - trial 2 is broken"
    )


# how dvc is asked, and what it says


def test_a_trial_overrides_the_varied_experiment_alone() -> None:
    values = {"train.lr": 1e-05, "train.optimizer": "it's", "loss.class_weights": [1.0, 2], "model.freeze.until": None}
    assert experiment.arguments("search-x-001", "train@l2-0", experiment.changes("l2", values)) == [
        "exp", "run", "--temp", "--name", "search-x-001",
        "--set-param", "++experiments.l2.train.lr=1e-05",
        "--set-param", "++experiments.l2.train.optimizer='it\\'s'",
        "--set-param", "++experiments.l2.loss.class_weights=[1.0,2]",
        "--set-param", "++experiments.l2.model.freeze.until=null",
        "train@l2-0",
    ]  # fmt: skip


def test_the_line_of_an_epoch_is_understood() -> None:
    line = "baseline-0 epoch 2/30  train_loss 0.4411  train_accuracy 0.8125  valid_loss nan  valid_f1 0.5000"
    epoch, epochs, metrics = experiment.parse_epoch(line) or pytest.fail("not understood")
    assert (epoch, epochs, metrics["train_accuracy"], metrics["valid_f1"]) == (2, 30, 0.8125, 0.5)
    assert str(metrics["valid_loss"]) == "nan"
    assert experiment.parse_epoch("Running stage 'train@baseline-0':") is None


@pytest.mark.parametrize("monitor", ["valid_auroc", "valid_auprc"])
def test_the_metric_of_several_findings_that_chooses_is_on_every_epochs_line(monitor: str) -> None:
    """Pruning needs it, however many metrics there are."""
    values = {f"{split}_{name}": 0.25 for split in ("train", "valid") for name in ("loss", "f1", "accuracy")}
    row = {"epoch": 1} | values | {"valid_auprc": 0.5, "valid_auroc": 0.75}
    line = history.epoch_line("a-run-with-a-name-of-many-letters-0", 30, row, monitor)
    epoch, epochs, metrics = experiment.parse_epoch(line) or pytest.fail("not understood")
    assert (epoch, epochs, metrics[monitor]) == (2, 30, row[monitor])


def test_each_finished_trial_is_a_line_with_the_best_and_the_time_left() -> None:
    times = iter([0.0, 0.0, 60.0, 60.0, 90.0])
    shown = screen(searching(trials=4), clock=lambda: next(times))
    for number, metric in enumerate([0.5, 0.25]):
        shown.started(number, label(number, {"train.lr": 0.00123456}))
        shown.trial_ended(number, f"valid_f1 {metric:.4f}", metric)
    assert shown.console.file.getvalue().splitlines() == [
        "1/4 trial 0: valid_f1 0.5000  train.lr=0.00123  (best: trial 0, 0.5000; about 3:00 left)",
        "2/4 trial 1: valid_f1 0.2500  train.lr=0.00123  (best: trial 0, 0.5000; about 1:30 left)",
    ]


class FakeDvc(Dvc):
    """Has one finished experiment."""

    async def read(self, path: str, revision: str) -> str:
        assert (path, revision) == ("models/l2/2/history.csv", "search-x-004")
        return "epoch,train_f1,valid_loss,valid_f1,test_f1\n0,0.1,0.5,0.25,0.9\n1,0.99,0.25,0.75,0.1\n2,0.9,,0.5,1.0\n"


@pytest.mark.parametrize(("metric", "best"), [("valid_f1", 0.75), ("valid_loss", 0.25)])
def test_a_trial_is_judged_by_its_best_epoch_on_validation(metric: str, best: float, tmp_path: Path) -> None:
    """And one that a killed search could not note is not trained again."""
    run = experiment.Trainer(
        FakeDvc(tmp_path), "l2", 2, metric, lambda number: f"search-x-{number:03d}", {"search-x-004"}, [{}], tmp_path
    )
    assert asyncio.run(run(4, {}, lambda epoch, epochs, value: None)) == best


def test_what_is_left_of_ended_trials_is_removed_unless_it_is_in_use(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "baseline-0-aa", tmp_path / "baseline-0-bb"
    for folder in (ours, theirs):
        folder.mkdir()
    with FileLock(theirs.with_suffix(".lock")):
        command._remove({ours, theirs})
    assert not ours.exists()
    assert theirs.exists()


def test_a_search_is_another_one_where_its_space_settings_or_data_are_others(tmp_path: Path) -> None:
    def key(lock: str = "a" * 32, **changes: Any) -> str:
        study = small.study(
            tmp_path / str(len(list(tmp_path.iterdir()))), lambda tree: tree["search"].update(space=SPACE)
        )
        small.edit(study, lambda tree: [tree[section].update(values) for section, values in changes.items()])
        outs = {stage: {"outs": [{"path": stage, "md5": lock}]} for stage in command.DATA}
        files.write_yaml({"schema": "2.0", "stages": outs}, study / "dvc.lock")
        return command.identity(config.read(study / "params.yaml"), Paths(study))

    assert key() == key(search={"trials": 99, "workers": 3, "prune": False}, study={"title": "Another"})
    others = [key(lock="b" * 32), key(search={"seed": 1}), key(train={"epochs": 5}), key(search={"experiment": "l2"})]
    assert len({key(), *others}) == 5


def test_without_optuna_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError) as caught:
        cli.app(["search"], standalone_mode=False)
    assert str(caught.value) == "xraylab search needs Optuna, which is not installed: pip install 'optuna>=4'"


# what remains for the report


def finished(folder: Path, trials: int = 8) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A search in which only the learning rate matters, with a trial that failed."""

    async def run(number: int, values: Values, report: Report) -> float:
        return await broken(number, values, report) if number == 1 else 1 - values["train.lr"]

    search, study, paths = searching(trials=trials, space={**SPACE}), open_study(folder), Paths(folder)
    searched(study, search, run)
    results.write(study, search, lambda number: f"search-x-{number:03d}", "valid_f1", 0, paths)
    return tables.read(paths.search / "trials.csv"), files.read_json(paths.search / "importance.json")


def test_trials_and_importances_are_written(tmp_path: Path) -> None:
    table, facts = finished(tmp_path, 24)
    assert list(table.columns) == ["trial", "state", "value", "epochs_seen", "seconds", *SPACE]
    assert list(table["state"]) == ["finished", "failed", *["finished"] * 22]
    metrics = pd.to_numeric(table["value"])
    assert facts["best"] == table["trial"][metrics.idxmax()]
    assert metrics.max() == 1 - table["train.lr"][metrics.idxmax()]
    assert ((table["train.momentum"] != "") == (table["train.optimizer"] == "sgd")).all()
    assert facts["keys"] == {
        "train.lr": "log", "train.epochs": "linear", "train.optimizer": "choices", "train.momentum": "linear",
    }  # fmt: skip
    shares = facts["importances"]
    assert set(shares) == {"train.lr", "train.epochs", "train.optimizer"}  # the keys that every trial has
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["train.lr"] > 0.8


@pytest.mark.parametrize("missing", ["importances", "value"])
def test_a_search_of_an_earlier_version_is_refused_by_the_report(tmp_path: Path, missing: str) -> None:
    table, facts = finished(tmp_path, 2)
    folder = Paths(tmp_path).search
    assert in_report.read(folder) is not None
    files.write_json({key: value for key, value in facts.items() if key != missing}, folder / "importance.json")
    tables.write(table.drop(columns=missing, errors="ignore"), folder / "trials.csv")
    with pytest.raises(DataError) as caught:
        in_report.read(folder)
    assert str(caught.value) == (
        f"{folder} was written by an earlier version of xraylab (it has no {missing}): run `xraylab search` again, or "
        "delete the folder"
    )


def test_too_few_trials_have_no_importances(tmp_path: Path) -> None:
    _, facts = finished(tmp_path, 4)
    assert facts["importances"] is None


def test_the_charts_hold_a_line_per_trial_and_a_bar_per_key(tmp_path: Path) -> None:
    table, facts = finished(tmp_path, 24)
    section = in_report.section(table, facts)
    assert section["counts"] == {"finished": 23, "failed": 1}
    assert section["ranked"][0]["trial"] == facts["best"]
    for text in (*SPACE, "valid_f1", "adam", "sgd"):
        assert f">{text}<" in section["parallel"]
    lines = [f"stroke: {in_report.OTHERS.lower()}; stroke-opacity: 0.55; stroke-width: 0.9"]
    lines += [f"stroke: {in_report.BEST.lower()}; stroke-width: 2"]
    assert [section["parallel"].count(line) for line in lines] == [22, 1]
    assert section["importance"].count(f"fill: {in_report.OTHERS.lower()}") == 3


def test_the_report_speaks_of_a_search_where_there_was_one(tmp_path: Path) -> None:
    loaded, paths = finished_study.make(tmp_path)
    evaluate.run(loaded, paths)
    report.run(loaded, paths)
    before = paths.report.read_text(encoding="utf-8")
    _, facts = finished(tmp_path)
    report.run(loaded, paths)
    after = paths.report.read_text(encoding="utf-8")
    assert "<h2>Search</h2>" not in before
    assert "<h2>Search</h2>" in after
    assert f"<code>dvc exp apply {facts['best']}</code>" in after
    assert "7 finished, 1 failed" in " ".join(after.split())
