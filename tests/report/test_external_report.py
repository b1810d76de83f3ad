"""External tests on the page: of the runs as they are trained now, beside the study's own test."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import finished_study
import pytest

from xraylab import files
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.report import metric_tables
from xraylab.report.records import Metric
from xraylab.stages import evaluate, report

Study = tuple[Params, Paths]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    loaded = finished_study.make(tmp_path)
    evaluate.run(*loaded)
    return loaded


def row(of: str, metric: str, value: float) -> dict[str, Any]:
    return {
        "class": of,
        "metric": metric,
        "value": value,
        "ci_low": value - 0.1,
        "ci_high": value + 0.05,
        "ci_method": "Wilson",
        "n": 9,
    }


def record(paths: Paths, **changes: Any) -> dict[str, Any]:
    """As `xraylab external-test` writes it."""
    point = {"class": "TB", "point": "Youden", "threshold": 0.25}
    for name in ("sensitivity", "specificity", "ppv", "npv"):
        point |= {name: 0.75, f"{name}_ci_low": 0.5, f"{name}_ci_high": 0.875}
    return {
        "experiment": "l2", "repeat": 0, "folder": "/data/<b>elsewhere</b>", "images": 1234,
        "classes": {"Healthy": 1000, "TB": 234}, "overlap": {"train": 3, "valid": 1, "examples": []},
        "intervals": "patients are unknown, so each image counts as one patient", "operating_points": [point],
        "predictions": files.sha256(paths.prediction("l2", 0)),
        "metrics": [row("overall", "accuracy", 0.875), row("TB", "accuracy", 0.875), row("TB", "auroc", 0.8125)],
    } | changes  # fmt: skip


def page(study: Study, *records: dict[str, Any]) -> str:
    _, paths = study
    for number, each in enumerate(records):
        files.write_json(each, paths.external / f"{number}.json")
    report.run(*study)
    return paths.report.read_text()


def test_without_one_nothing_is_said(study: Study) -> None:
    html = page(study)
    assert "External test</h2>" not in html
    assert "xraylab external-test tests a run on another data set" in html  # the checklist says what is missing


def test_its_metrics_stand_beside_the_studys_own(study: Study) -> None:
    html = page(study, record(study[1]))
    part = html[html.index('<section id="external">') :].split("</section>")[0]
    assert "l2/0 on b&gt;" in part  # the folder's name alone, escaped
    assert "1\u202f234 images (Healthy 1\u202f000, TB 234)" in part
    assert "removed: 4." in part
    assert part.count(">Accuracy %<") == 1
    own = files.read_json(study[1].evaluation / "summary.json")["means"]
    accuracy = next(
        each["accuracy"]
        for each in own
        if (each["experiment"], each["checkpoint"], each["split"]) == ("l2", "best", "test")
    )
    cells = part[part.index(">Accuracy %<") :].split("</tr>")[0]
    assert f"<td>{100 * accuracy:.1f}" in cells
    assert "<td>87.5<small>77.5 to 92.5</small></td>" in cells
    assert "<td>0.250</td><td>75.0<small>50.0 to 87.5</small></td>" in part


@pytest.mark.parametrize("changes", [{"predictions": "0" * 64}, {"predictions": None}, {"experiment": "gone"}])
def test_one_of_an_earlier_training_is_left_out_and_named(study: Study, changes: dict[str, Any]) -> None:
    html = page(study, record(study[1], **changes))
    part = html[html.index('<section id="external">') :].split("</section>")[0]
    assert f"Left out, because the run has been trained again since: {changes.get('experiment', 'l2')}/0 on" in part
    assert "<table>" not in part


def test_a_mean_over_fewer_findings_does_not_stand_beside_the_studys_own() -> None:
    keys = {"experiment": "l2", "checkpoint": "best", "kind": "repeat", "split": "test", "number": 0}
    own = [Metric(**keys, class_=name, metric="auroc", value=0.8) for name in ("Mass", "Edema", "macro", "micro")]
    rows = [row("Mass", "auroc", 0.7), row("Mass", "npv", 0.9), row("macro", "auroc", 0.7), row("micro", "auroc", 0.6)]
    test = {
        "experiment": "l2", "repeat": 0, "folder": "/data/other", "images": 9, "classes": {"Mass": 4}, "overlap": {},
        "intervals": "", "operating_points": [], "predictions": "x", "metrics": rows, "task": "multi-label",
    }  # fmt: skip
    for only_model, beside in ((["Edema"], {"Mass"}), ([], {"Mass", "macro", "micro"})):
        mapping = {"labels": {"Mass": ["mass"]}, "only_model": only_model, "only_data": {}, "remarks": []}
        data = SimpleNamespace(
            external=[test | {"mapping": mapping}], summary=SimpleNamespace(predictions={"l2/0": "x"}), metrics=own
        )
        (shown,) = metric_tables.external(data)["tests"]  # type: ignore[arg-type,index]
        assert [(each.class_, each.metric) for each, _ in shown.rows] == [
            ("Mass", "auroc"), ("macro", "auroc"), ("micro", "auroc"),
        ]  # fmt: skip
        assert {each.class_ for each, internal in shown.rows if internal} == beside
