"""Small studies on real radiographs, from the folder to the report."""

from pathlib import Path

import pytest
import small
from conftest import load

from xraylab import files, tables
from xraylab.stages import cache, evaluate, fetch, index, plan, predict, report, source, split, train

pytestmark = pytest.mark.real


def run(study: Path) -> Path:
    loaded = load(study)
    for stage in (source, fetch, index, split, cache, plan):
        stage.run(*loaded)
    for experiment in loaded[0].experiments:
        train.run(*loaded, experiment, 0)
        predict.run(*loaded, experiment, 0)
    for stage in (evaluate, report):
        stage.run(*loaded)
    return study


def two_experiments(tree: small.Tree) -> None:
    for name in ("l2", "sharpness", "contrast"):
        del tree["experiments"][name]
    tree["train"]["batch_size"] = 32


def test_tb(tmp_path: Path, real_data: Path) -> None:
    study = small.study(tmp_path, small.use(real_data / "tb", ["Normal", "TB"], "TB"))
    small.edit(study, two_experiments)
    run(study)
    sides = files.read_json(study / "data/split/summary.json")["sides"]
    assert {label: part["images"] for label, part in sides["test"].items()} == {"Normal": 380, "TB": 80}
    metrics = files.read_json(study / "reports/metrics.json")
    assert metrics["baseline"]["test"]["auroc"] > 0.8
    assert (study / "reports/index.html").stat().st_size > 50_000


def test_covid3_whose_patients_are_in_two_classes(tmp_path: Path, real_data: Path) -> None:
    def point(tree: small.Tree) -> None:
        small.use(real_data / "covid3", ["Covid-19", "No_findings", "Pneumonia"], None)(tree)
        tree["data"]["patient"] = r"^(?P<patient>\d{8}(?=_\d{3}\.)|.+(?=\.))"

    study = small.study(tmp_path, point)
    small.edit(study, two_experiments)
    run(study)
    table = tables.read(study / "data/index.csv")
    classes = table.groupby("patient")["label"].nunique()
    assert (classes > 1).sum() == 21
    shared = files.read_json(study / "data/split/summary.json")["shared_patients"]
    assert shared
    assert all("test" in row["sides"] for row in shared)
    metrics = files.read_json(study / "reports/metrics.json")
    assert metrics["baseline"]["test"]["auroc"] > 0.6
