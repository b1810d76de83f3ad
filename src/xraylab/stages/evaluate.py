"""evaluate: what every experiment scores, how sure that is, who comes first, and on which data that was chosen."""

from pathlib import Path
from typing import Any

import pandas as pd

from xraylab import files, tables
from xraylab.evaluate import (
    at_thresholds,
    compare,
    comparisons,
    demographics,
    figures,
    operating,
    pool,
    predictions,
    series,
    study,
    wanted,
    wide,
)
from xraylab.evaluate.compare import Result
from xraylab.evaluate.runs import Run
from xraylab.evaluate.values import Asked
from xraylab.params.config import Params
from xraylab.paths import Paths

DECIMALS = 6
SHOWN = ("accuracy", "f1", "auroc")


def run(params: Params, paths: Paths) -> None:
    asked, folds = wanted.of(params), paths.folds
    sources = files.read_json(paths.split / "summary.json")["test_sources"]
    models: list[dict[str, Any]] = []
    results: list[Result] = []
    runs: list[Run] = []
    with files.replacing_folder(paths.evaluation) as folder:
        for experiment, repeat in _planned(params):
            model = files.read_json(paths.model(experiment, repeat) / "model.json")
            table = tables.read(paths.prediction(experiment, repeat))
            sides = _checked(paths, experiment, repeat, table, params.data.classes)
            models.append(model)
            runs.append(_run(paths, model, table, sides, params.data.classes, sources))
            results += _results(model, runs[-1], asked)
            _write_series(folder, runs[-1], table, asked, params)
        tested = {(run.experiment, run.repeat): run.test for run in runs}
        pooled = pool.results(tested, folds, asked.positive) if folds else []
        ranked_on = "valid" if any(row["side"] == "valid" for row in results) else "test"
        means = _means(results, pooled)
        summary = {**_summary(params, models, means, ranked_on), "results": results, "folds": folds, "pooled": pooled}
        summary["test_sources"] = sources
        rows = study.figures(runs, asked, folds)
        _write_tables(folder, params, paths, runs, rows, asked)
        compared = comparisons.rows(runs, params.study.baseline, summary["top_two"], ranked_on, asked, folds)
        tables.write(pd.DataFrame(compared, columns=list(comparisons.COLUMNS)), folder / "comparisons.csv")
        points = operating.fixed(params.evaluate.sensitivities, params.evaluate.specificities)
        compared_at = at_thresholds.rows(runs, params.study.baseline, asked, points, folds)
        tables.write(pd.DataFrame(compared_at, columns=list(at_thresholds.COLUMNS)), folder / "at_thresholds.csv")
        judged = _judged(params, runs, rows, asked)
        files.write_json(judged, folder / "goals.json")
        more = {
            "comparisons": compared,
            "at_thresholds": compared_at,
            "goals": judged,
            "intervals": study.rests_on(runs, asked),
            "primary": params.evaluate.primary,
            "predictions": {f"{run.experiment}/{run.repeat}": _hash(paths, run) for run in runs},
            "mean_figures": [row for row in rows if row["kind"] == study.MEAN],
        }
        files.write_json({**summary, **more}, folder / "summary.json")
        # apart, so that `explain` runs again where these change and not where any figure does
        files.write_json({name: summary[name] for name in ("ranked_on", "top_two")}, folder / "top_two.json")
    tables.write(wide.comparison(results, rows, asked), paths.comparison)
    files.write_json(_metrics(results, means), paths.metrics)
    if folds:
        _say_which_folds(params.study.repeats, folds, sources)


def _hash(paths: Paths, run: Run) -> str:
    return files.sha256(paths.prediction(run.experiment, run.repeat))


def _planned(params: Params) -> list[tuple[str, int]]:
    """Every experiment, the baseline first, and repeat."""
    names = dict.fromkeys([params.study.baseline, *params.experiments])
    return [(name, repeat) for name in names for repeat in params.study.repeats]


def _checked(
    paths: Paths, experiment: str, repeat: int, table: pd.DataFrame, classes: list[str]
) -> dict[str, pd.DataFrame]:
    """The sides that did not train and have images, after a look whether the predictions are theirs."""
    split = paths.split_of(repeat)
    read = {side: tables.read(split / f"{side}_data.csv") for side in ("valid", "test")}
    sides = {side: images for side, images in read.items() if len(images)}
    where = split.relative_to(paths.root).as_posix()
    predictions.check(table, sides, classes, paths.prediction(experiment, repeat), where)
    return sides


def _run(
    paths: Paths,
    model: dict[str, Any],
    table: pd.DataFrame,
    sides: dict[str, pd.DataFrame],
    classes: list[str],
    sources: list[str],
) -> Run:
    experiment, repeat = model["experiment"], model["repeat"]
    tested = {"test": sources[repeat % len(sources)]} if sources else {}
    samples = {
        side: {
            name: predictions.sample(table, name, side, classes, images, tested.get(side))
            for name in predictions.CHECKPOINTS
        }
        for side, images in sides.items()
    }
    return Run(
        experiment=experiment,
        repeat=repeat,
        select_on=model["select_on"],
        ids=predictions.ids(table, "best", "test"),
        test=samples["test"],
        valid=samples.get("valid", {}),
        history=tables.read(paths.model(experiment, repeat) / "history.csv"),
        epochs={name: model[f"{name}_epoch"] for name in predictions.CHECKPOINTS},
    )


def _results(model: dict[str, Any], run: Run, asked: Asked) -> list[Result]:
    sides = {"valid": run.valid, "test": run.test}
    return [
        {
            "experiment": run.experiment,
            "repeat": run.repeat,
            "checkpoint": checkpoint,
            "side": side,
            "epoch": model[f"{checkpoint}_epoch"],
            "chosen_on": run.chosen_on(checkpoint),
            **figures.figures(samples[checkpoint].actual, samples[checkpoint].probabilities, asked.positive),
        }
        for checkpoint in predictions.CHECKPOINTS
        for side, samples in sides.items()
        if samples
    ]


def _write_series(folder: Path, run: Run, table: pd.DataFrame, asked: Asked, params: Params) -> None:
    """Curves of one run; images, ROC and so on of its best epoch on the test side."""
    name = f"{run.experiment}-{run.repeat}"
    tables.write(run.history, folder / f"curves/{name}.csv")
    images = predictions.by_image(table, "best", "test", params.data.classes)
    tables.write(images, folder / f"images/{name}.csv")
    for each in series.of_run(run, asked, params.evaluate.bins):
        tables.write(each.table, folder / each.path)


def _write_tables(
    folder: Path, params: Params, paths: Paths, runs: list[Run], rows: list[dict[str, Any]], asked: Asked
) -> None:
    """What docs/evaluation.md lists."""
    given = params.evaluate
    points = operating.points(given.sensitivities, given.specificities)
    index = tables.read(paths.index)
    groups = study.by_subgroup(runs, index, asked, given.age_bands, given.smallest_group)
    people = demographics.table(*_in_splits(index, paths), given.age_bands, given.smallest_group)
    tables.write(pd.DataFrame(rows).astype({"number": "Int64"}), folder / "figures.csv")
    tables.write(study.spread(rows), folder / "spread.csv")
    tables.write(study.operating_points(runs, asked, points), folder / "operating_points.csv")
    tables.write(groups, folder / "subgroups.csv")
    tables.write(people, folder / "demographics.csv")
    tables.write(pd.DataFrame(study.learnt(runs)), folder / "epochs.csv")
    files.write_json(study.calibrations(runs, asked, given.bins), folder / "calibration.json")
    files.write_json(study.matrices(runs, asked), folder / "confusion_matrices.json")


def _in_splits(index: pd.DataFrame, paths: Paths) -> tuple[pd.DataFrame, pd.Series]:
    """The rows of the index that the splits hold, of folds the first one's, and which split each is in."""
    rows = index.set_index("id", drop=False)
    ids = {name: tables.read(paths.split_of(0) / f"{name}_data.csv")["id"] for name in ("train", "valid", "test")}
    held = pd.concat([rows.loc[own] for own in ids.values()], ignore_index=True)
    return held, pd.Series([name for name, own in ids.items() for _ in own], index=held.index, dtype=str)


def _judged(params: Params, runs: list[Run], rows: list[dict[str, Any]], asked: Asked) -> list[dict[str, Any]]:
    given = params.evaluate.goals
    at_least, at_most = ({str(name): goal for name, goal in own.items()} for own in (given.at_least, given.at_most))
    return study.goal_rows(rows, study.learnt(runs), asked, at_least, at_most)


def _means(results: list[Result], pooled: list[Result]) -> list[Result]:
    """Each figure's mean over repeats; with folds, on the test side over the rounds of pooled folds."""
    apart = [row for row in results if row["side"] != "test" or not pooled]
    return compare.means([*apart, *pooled])


def _summary(params: Params, runs: list[dict[str, Any]], means: list[Result], ranked_on: str) -> dict[str, Any]:
    """What the report needs besides the series."""
    ranking = compare.rank(means, ranked_on, params.train.select_by)
    return {
        "classes": params.data.classes,
        "positive": params.data.positive,
        "baseline": params.study.baseline,
        "chosen_on_test": list(dict.fromkeys(run["experiment"] for run in runs if run["select_on"] == "test")),
        "ranked_on": ranked_on,
        "ranked_by": params.train.select_by,
        "ranking": ranking,
        "top_two": [row["experiment"] for row in ranking[:2]],
        "means": means,
        "runs": runs,
    }


def _metrics(results: list[Result], means: list[Result]) -> dict[str, Any]:
    """The few test figures that `dvc metrics diff` shows, of the best epochs; those chosen on test data are marked.

    Validation figures stand with each run, in metrics/.
    """
    metrics: dict[str, Any] = {row["experiment"]: {} for row in results}
    for row in results:
        if _best(row) and row["chosen_on"] == "test":
            metrics[row["experiment"]]["chosen_on"] = "test"
    for row in means:
        if _best(row) and row["side"] == "test":
            metrics[row["experiment"]]["test"] = {name: _rounded(row[name]) for name in SHOWN}
    return metrics


def _say_which_folds(repeats: list[int], folds: int, sources: list[str]) -> None:
    for number, members in pool.rounds(repeats, folds).items():
        if len(members) < folds:
            tested = ", ".join(str(sources[repeat % folds] if sources else repeat % folds) for repeat in members)
            what, how = ("source", "are the mean over") if sources else ("fold", "pool")
            print(
                f"note: round {number} of the repeats tests {what} {tested} of {folds} alone; its figures {how} these"
            )


def _best(row: Result) -> bool:
    return bool(row["checkpoint"] == "best")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS)
