"""evaluate: what every experiment scores, how sure that is, who comes first, and on which data that was chosen."""

import pandas as pd

from xraylab import files, tables
from xraylab.evaluate import tables as evaluated
from xraylab.evaluate.config import EvalConfig
from xraylab.evaluate.headline import headline
from xraylab.evaluate.multi_label import samples as multi_label
from xraylab.evaluate.multi_label import tables as findings
from xraylab.evaluate.multi_label.study import evaluate_study as evaluate_findings
from xraylab.evaluate.predictions import Study, read_study, rounds
from xraylab.evaluate.scores import metrics_on_test
from xraylab.evaluate.study import evaluate_study
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.task import is_multi


def run(params: Params, paths: Paths) -> None:
    _of_findings(params, paths) if is_multi(params.data.task) else _of_classes(params, paths)


def _of_classes(params: Params, paths: Paths) -> None:
    cfg, study = EvalConfig.from_params(params), read_study(paths, params)
    index = tables.read(paths.index)
    evaluation = evaluate_study(study, cfg, params.evaluate, params.train.monitored_metric)
    summary = evaluated.summary(study, evaluation, cfg, params.train.monitored_metric)
    with files.replacing_folder(paths.evaluation) as folder:
        for each in study.runs:
            evaluated.write_curves(folder, each, cfg, params.evaluate.ece_bins)
        evaluated.write_tables(folder, study, evaluation, cfg, params.evaluate)
        evaluated.write_groups(folder, study, index, cfg, params.evaluate)
        evaluated.write_demographics(folder, *_in_splits(index, paths), params.evaluate)
        files.write_json(summary, folder / "summary.json")
        files.write_json(metrics_on_test(evaluation.results, evaluation.means), folder / paths.test_metrics.name)
        # apart, so that `explain` runs again where these change and not where any metric does
        files.write_json({name: summary[name] for name in ("ranked_on", "top_two")}, folder / "top_two.json")
    tables.write(evaluated.comparison_table(evaluation, cfg), paths.comparison)
    files.write_json(headline(evaluation, study.by_experiment, params.train.monitored_metric, cfg), paths.metrics)
    _print_incomplete_rounds(study)


def _of_findings(params: Params, paths: Paths) -> None:
    cfg, study = EvalConfig.from_params(params), multi_label.read_study(paths, params)
    index = tables.read(paths.index)
    evaluation = evaluate_findings(study, cfg, params.evaluate, params.train.monitored_metric)
    summary = findings.summary(study, evaluation, cfg, params.train.monitored_metric)
    images, split = _in_splits(index, paths)
    with files.replacing_folder(paths.evaluation) as folder:
        for each in study.runs:
            findings.write_curves(folder, each, cfg, params.evaluate.ece_bins)
        findings.write_tables(folder, study, evaluation, cfg, params.evaluate)
        findings.write_groups(folder, study, index, cfg, params.evaluate)
        evaluated.write_demographics(folder, images, split, params.evaluate, cfg.classes)
        tables.write(findings.count_labels(images, split, cfg.classes), folder / "findings.csv")
        files.write_json(summary, folder / "summary.json")
        files.write_json(findings.metrics_on_test(study, evaluation), folder / paths.test_metrics.name)
        files.write_json({name: summary[name] for name in ("ranked_on", "top_two")}, folder / "top_two.json")
    tables.write(findings.comparison_table(evaluation), paths.comparison)
    files.write_json(headline(evaluation, study.by_experiment, params.train.monitored_metric, cfg), paths.metrics)
    for line in findings.notes(summary):
        print(line)
    _print_incomplete_rounds(study)


def _in_splits(index: pd.DataFrame, paths: Paths) -> tuple[pd.DataFrame, pd.Series]:
    """The rows of the index that the splits hold, of folds the first one's, and which split each is in."""
    rows = index.set_index("id", drop=False)
    ids = {name: tables.read(paths.split_of(0) / f"{name}_data.csv")["id"] for name in ("train", "valid", "test")}
    images = pd.concat([rows.loc[of_split] for of_split in ids.values()], ignore_index=True)
    return images, pd.Series([name for name, of_split in ids.items() for _ in of_split], index=images.index, dtype=str)


def _print_incomplete_rounds(study: Study | multi_label.FindingsStudy) -> None:
    folds, repeats = study.folds or 0, list(dict.fromkeys(run.repeat for run in study.runs))
    what, how = ("source", "are the mean over") if study.sources else ("fold", "pool")
    for number, members in rounds(repeats, folds).items() if folds else ():
        if len(members) < folds:
            names = study.sources or range(folds)
            tested = ", ".join(str(names[repeat % folds]) for repeat in members)
            print(
                f"note: round {number} of the repeats tests {what} {tested} of {folds} alone; its metrics {how} these"
            )
