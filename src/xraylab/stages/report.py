"""report: one page from the artefacts."""

from typing import Any

import numpy as np
import pandas as pd

from xraylab import files, tables
from xraylab.params import Params, read_plan
from xraylab.paths import Paths
from xraylab.report import answer, charts, images, page, rows, search
from xraylab.report.split import sentences

MEASURES = {"loss": "Loss", "accuracy": "Accuracy", "f1": "F1"}
CORNER = 0.2  # of the ROC axes, shown larger
SAMPLES_PER_CLASS = 6
RIGHT_PER_CLASS = 6
MISTAKES = 12
SIDES = ("train", "valid", "test")


def run(params: Params, paths: Paths) -> None:
    summary = files.read_json(paths.evaluation / "summary.json")
    split = files.read_json(paths.split / "summary.json")
    totals = _totals(split["sides"])
    means = {(row["experiment"], row["checkpoint"], row["side"]): row for row in summary["means"]}
    html = page.render(
        params=params,
        params_text=paths.params.read_text(encoding="utf-8"),
        summary=summary,
        f1_name=answer.f1_name(summary),
        answer=answer.sentences(summary, means, _tested(split, params.study.repeats)),
        comparison=rows.comparison(summary, means),
        learning_curves=_learning_curves(paths, summary),
        rocs=_rocs(paths, summary),
        lines=_lines(summary, means),
        confusions=rows.confusions(summary),
        experiments=_experiments(paths, summary),
        versions=sorted({run["hardware"]["torch"] for run in summary["runs"]}),
        split=split,
        totals=totals,
        tested=_tested(split, params.study.repeats),
        audit=files.read_json(paths.audit),
        split_by=sentences(params.split),
        leaks=files.read_json(paths.split / "audit.json"),
        samples=_samples(paths, summary),
        class_samples=_class_samples(paths, params.data.classes),
        search=_search(paths),
        **_data_charts(paths, params.data.classes, split),
    )
    files.write_text(html, paths.report)


def _totals(sides: dict[str, Any]) -> dict[str, int]:
    return {side: sum(part["images"] for part in sides[side].values()) for side in SIDES}


def _tested(split: dict[str, Any], repeats: list[int]) -> int:
    """How many images are tested; with folds, in all of those that the repeats test."""
    folds = split["folds"]
    parts = [split] if folds is None else [split["each_fold"][fold] for fold in {repeat % folds for repeat in repeats}]
    return sum(_totals(part["sides"])["test"] for part in parts)


def _runs(summary: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """experiment -> its runs, one per repeat."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for run in summary["runs"]:
        runs.setdefault(run["experiment"], []).append(run)
    return runs


def _name(run: dict[str, Any]) -> str:
    return f"{run['experiment']}-{run['repeat']}"


def _learning_curves(paths: Paths, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Per experiment: its charts, all of one measure with the same limits."""
    folder = paths.evaluation / "curves"
    histories = {_name(run): tables.read(folder / f"{_name(run)}.csv") for run in summary["runs"]}
    limits = {measure: charts.limits(histories.values(), measure) for measure in MEASURES}
    curves = []
    for experiment, runs in _runs(summary).items():
        lines = [(histories[_name(run)], run["best_epoch"]) for run in runs]
        best = ", ".join(str(run["best_epoch"]) for run in runs)
        drawn = {
            title: charts.learning_curve(
                lines,
                measure,
                runs[0]["select_on"],
                limits[measure],
                f"{experiment}: {title} per epoch; best epoch {best}",
            )
            for measure, title in MEASURES.items()
        }
        curves.append({"experiment": experiment, "charts": drawn, "best": best})
    return curves


def _rocs(paths: Paths, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Per class that has a curve: the whole chart, and its upper left corner."""
    shown = []
    for label in [summary["positive"]] if summary["positive"] else summary["classes"]:
        curves: dict[int, list[pd.DataFrame]] = {}
        for number, runs in enumerate(_runs(summary).values()):
            found = [paths.evaluation / "roc" / _name(run) / f"{label}.csv" for run in runs]
            curves[number] = [tables.read(path) for path in found if path.is_file()]
        if any(curves.values()):
            alt = f"ROC curves of {label} against the rest on the test images"
            drawn = [charts.roc(curves, 1, alt), charts.roc(curves, CORNER, f"{alt}, upper left corner")]
            shown.append({"label": label, "charts": drawn})
    return shown


def _lines(summary: dict[str, Any], means: answer.Means) -> list[dict[str, Any]]:
    """The key of the ROC charts."""
    return [
        {
            "experiment": experiment,
            "style": charts.line_style(number),
            "auroc": means[experiment, "best", "test"]["auroc"],
            "mark": answer.mark(summary, experiment),
        }
        for number, experiment in enumerate(_runs(summary))
    ]


def _experiments(paths: Paths, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """What was trained: each experiment's plan, what it changes, and its runs."""
    plans = {experiment: read_plan(paths.plan(experiment)) for experiment in _runs(summary)}
    baseline = plans[summary["baseline"]].model_dump()
    return [
        {
            "experiment": experiment,
            "plan": plans[experiment],
            "changes": rows.changes(plans[experiment].model_dump(), baseline),
            "runs": runs,
            "machines": rows.machines(runs),
        }
        for experiment, runs in _runs(summary).items()
    ]


def _data_charts(paths: Paths, classes: list[str], split: dict[str, Any]) -> dict[str, Any]:
    """How many images of each class, of which sizes, and the colour of each class in these charts."""
    counts = {
        name: {label: split["sides"][side][label]["images"] for label in classes}
        for side, name in {"train": "training", "valid": "validation", "test": "test"}.items()
    }
    index = tables.read(paths.index)
    several = len(index[["width", "height"]].drop_duplicates()) > 1
    return {
        "balance": charts.balance(counts, "Number of images per side and class"),
        "sizes": charts.sizes(index, classes, "Width and height of the images of each class") if several else None,
        "size": index[["width", "height"]].iloc[0].tolist(),
        "class_colours": {label: charts.line_style(number)[0] for number, label in enumerate(classes)},
    }


def _search(paths: Paths) -> dict[str, Any] | None:
    """What the last search found; None where there was none."""
    if not (paths.search / "trials.csv").is_file():
        return None
    return search.section(tables.read(paths.search / "trials.csv"), files.read_json(paths.search / "importance.json"))


def _class_samples(paths: Paths, classes: list[str]) -> dict[str, list[dict[str, str]]]:
    """Some images of each class, evenly through the index, as the cache holds them."""
    pixels = np.load(paths.cache / "images.npy", mmap_mode="r")
    index = tables.read(paths.index)
    samples = {}
    for label in classes:
        rows = np.flatnonzero(index["label"] == label)
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, SAMPLES_PER_CLASS).astype(int))]
        samples[label] = [{"id": index["id"].iloc[row], "image": images.data_uri(pixels[row])} for row in chosen]
    return samples


def _samples(paths: Paths, summary: dict[str, Any]) -> dict[str, Any]:
    """Test images as the first repeat of the best experiment sees them."""
    run = _runs(summary)[summary["top_two"][0]][0]
    table = tables.read(paths.evaluation / "images" / f"{_name(run)}.csv")
    pixels = np.load(paths.cache / "images.npy", mmap_mode="r")
    row_of = {name: row for row, name in enumerate(tables.read(paths.cache / "rows.csv")["id"])}

    def shown(chosen: pd.DataFrame) -> list[Any]:
        uris = [images.data_uri(pixels[row_of[name]]) for name in chosen["id"]]
        return list(chosen.assign(image=uris).to_dict("index").values())

    return {
        "run": run,
        "right": {label: shown(images.right(table, label, RIGHT_PER_CLASS)) for label in summary["classes"]},
        "mistakes": shown(images.mistakes(table, MISTAKES)),
        "wrong": int((table["actual"] != table["predicted"]).sum()),
    }
