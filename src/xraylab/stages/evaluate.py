"""evaluate: what every experiment scores, who comes first, and on which data that was chosen."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraylab import files, tables
from xraylab.evaluate import compare, figures, pool, predictions
from xraylab.evaluate.compare import Result
from xraylab.params import Params
from xraylab.paths import Paths

DECIMALS = 6
SHOWN = {"test": ("accuracy", "f1", "auroc"), "valid": ("f1",)}


def run(params: Params, paths: Paths) -> None:
    classes, positive = params.data.classes, params.data.positive
    number = None if positive is None else classes.index(positive)
    folds = paths.folds
    runs: list[dict[str, Any]] = []
    results: list[Result] = []
    tested: pool.Tested = {}
    with files.replacing_folder(paths.evaluation) as folder:
        for experiment, repeat in _planned(params):
            model = files.read_json(paths.model(experiment, repeat) / "model.json")
            table = tables.read(paths.prediction(experiment, repeat))
            sides = _checked(paths, experiment, repeat, table, classes)
            runs.append(model)
            results += _results(model, table, sides, classes, number)
            tested[experiment, repeat] = {
                name: predictions.arrays(table, name, "test", classes) for name in predictions.CHECKPOINTS
            }
            _write_series(folder, paths, model, table, classes, number)
        pooled = pool.results(tested, folds, number) if folds else []
        ranked_on = "valid" if any(row["side"] == "valid" for row in results) else "test"
        means = _means(results, pooled)
        summary = {**_summary(params, runs, means, ranked_on), "results": results, "folds": folds, "pooled": pooled}
        files.write_json(summary, folder / "summary.json")
        # apart, so that `explain` runs again where these change and not where any figure does
        files.write_json({name: summary[name] for name in ("ranked_on", "top_two")}, folder / "top_two.json")
    tables.write(_comparison(results, number), paths.comparison)
    files.write_json(_metrics(results, means), paths.metrics)
    if folds:
        _say_which_folds(params.study.repeats, folds)


def _planned(params: Params) -> list[tuple[str, int]]:
    """Every experiment, the baseline first, and repeat."""
    names = dict.fromkeys([params.study.baseline, *params.experiments])
    return [(name, repeat) for name in names for repeat in params.study.repeats]


def _checked(paths: Paths, experiment: str, repeat: int, table: pd.DataFrame, classes: list[str]) -> list[str]:
    """The sides that did not train and have images, after a look whether the predictions are theirs."""
    split = paths.split_of(repeat)
    read = {side: tables.read(split / f"{side}_data.csv") for side in ("valid", "test")}
    sides = {side: images for side, images in read.items() if len(images)}
    where = split.relative_to(paths.root).as_posix()
    predictions.check(table, sides, classes, paths.prediction(experiment, repeat), where)
    return list(sides)


def _results(
    model: dict[str, Any], table: pd.DataFrame, sides: list[str], classes: list[str], positive: int | None
) -> list[Result]:
    return [
        {
            "experiment": model["experiment"],
            "repeat": model["repeat"],
            "checkpoint": checkpoint,
            "side": side,
            "epoch": model[f"{checkpoint}_epoch"],
            "chosen_on": model["select_on"] if checkpoint == "best" else "none",
            **figures.figures(*predictions.arrays(table, checkpoint, side, classes), positive),
        }
        for checkpoint in predictions.CHECKPOINTS
        for side in sides
    ]


def _write_series(
    folder: Path, paths: Paths, model: dict[str, Any], table: pd.DataFrame, classes: list[str], positive: int | None
) -> None:
    """Curves of one run; images, confusion and ROC of its best epoch on the test side."""
    experiment, repeat = model["experiment"], model["repeat"]
    name = f"{experiment}-{repeat}"
    history = tables.read(paths.model(experiment, repeat) / "history.csv")
    tables.write(history, folder / f"curves/{name}.csv")
    images = predictions.by_image(table, "best", "test", classes)
    tables.write(images, folder / f"images/{name}.csv")
    # `dvc plots` puts every column into its page as it stands, and an id may hold what a browser would run
    tables.write(images[["actual", "predicted"]], folder / f"confusion/{name}.csv")
    actual, probabilities = predictions.arrays(table, "best", "test", classes)
    for label in range(len(classes)) if positive is None else [positive]:
        if figures.has_curve(actual, label):
            roc = figures.roc(actual, probabilities, label)
            tables.write(roc, folder / f"roc/{name}/{classes[label]}.csv")


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


def _comparison(results: list[Result], positive: int | None) -> pd.DataFrame:
    """The table for people: one row per experiment, repeat, checkpoint and side."""
    table = pd.DataFrame(results).drop(columns="confusion")
    if positive is None:
        return table
    cells = np.array([row["confusion"] for row in results])
    negative = 1 - positive
    return table.assign(
        tn=cells[:, negative, negative],
        fp=cells[:, negative, positive],
        fn=cells[:, positive, negative],
        tp=cells[:, positive, positive],
    )


def _metrics(results: list[Result], means: list[Result]) -> dict[str, Any]:
    """The few figures that `dvc metrics diff` shows, of the best epochs."""
    metrics: dict[str, Any] = {row["experiment"]: {"chosen_on": row["chosen_on"]} for row in results if _best(row)}
    for row in means:
        if _best(row):
            shown = {name: _rounded(row[name]) for name in SHOWN[row["side"]]}
            metrics[row["experiment"]][row["side"]] = shown
    return metrics


def _say_which_folds(repeats: list[int], folds: int) -> None:
    for number, members in pool.rounds(repeats, folds).items():
        if len(members) < folds:
            tested = ", ".join(str(repeat % folds) for repeat in members)
            print(f"note: round {number} of the repeats tests fold {tested} of {folds} alone; its figures pool these")


def _best(row: Result) -> bool:
    return bool(row["checkpoint"] == "best")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS)
