"""External tests where an image may have several findings: what is mapped to what, and metrics of what is common."""

import shutil
from pathlib import Path
from typing import Any

import findings
import numpy as np
import pandas as pd
import pytest
import small
from conftest import Loaded
from sklearn.metrics import roc_auc_score

from xraylab import files, tables
from xraylab.errors import DataError
from xraylab.predict import checkpoints, external, thresholds
from xraylab.predict.external_findings import YOUDEN
from xraylab.task import is_multi

NAMES = {"Edema": "Mass", "Effusion": "pleural_effusion"}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films with Cardiomegaly, pleural_effusion and Mass, and their table."""
    folder = findings.images(tmp_path_factory.mktemp("other") / "films", 40, seed=5)
    table = (folder / "labels.csv").read_text()
    header, newline, rest = table.partition("\n")
    for name, called in NAMES.items():
        header = header.replace(name, called)
    (folder / "labels.csv").write_text(header + newline + rest)
    return folder


def run(loaded: Loaded, folder: Path, *labels: str) -> tuple[dict[str, Any], list[str]]:
    target = loaded[1].root.parent / "external.json"
    lines = list(external.run(*loaded, "baseline", folder, "auto", list(labels), target))
    return files.read_json(target), lines


def value(record: dict[str, Any], finding: str, metric: str) -> Any:
    return next(row["value"] for row in record["metrics"] if (row["class"], row["metric"]) == (finding, metric))


def truth(folder: Path, column: str) -> pd.Series:
    table = pd.read_csv(folder / "labels.csv")
    return table.set_index("films/" + table["image"])[column]


def probabilities(loaded: Loaded, folder: Path) -> pd.DataFrame:
    """By the network itself, in the order of the files."""
    images = pd.DataFrame({"id": [f"films/{path.name}" for path in sorted((folder / "films").iterdir())]})
    model = checkpoints.find_run(loaded[1], "baseline")
    (p,), _ = checkpoints.predict_files([model], images.assign(path=images["id"]), folder, 0)
    return pd.DataFrame(p, columns=model.classes, index=images["id"])


def test_common_findings_are_tested_by_any_name_and_the_others_named(trained_findings: Loaded, other: Path) -> None:
    record, lines = run(trained_findings, other)
    mapping = record["mapping"]
    assert mapping["labels"] == {"Cardiomegaly": ["Cardiomegaly"], "Effusion": ["pleural_effusion"]}
    assert mapping["only_model"] == ["Edema"]
    assert mapping["only_data"] == {"Mass": int((truth(other, "Mass") == 1).sum())}
    p = probabilities(trained_findings, other)
    aurocs = []
    for finding, column in (("Cardiomegaly", "Cardiomegaly"), ("Effusion", "pleural_effusion")):
        label = truth(other, column).reindex(p.index)
        known = label.isin([0, 1])
        aurocs.append(roc_auc_score(label[known], p[finding][known]))
        assert value(record, finding, "auroc") == pytest.approx(aurocs[-1])
        assert (record["classes"][finding], record["known"][finding]) == ((label == 1).sum(), known.sum())
        assert value(record, finding, "sensitivity") == pytest.approx((p[finding][label == 1] >= 0.5).mean())
    assert value(record, "macro", "auroc") == pytest.approx(np.mean(aurocs))
    assert "Effusion      pleural_effusion" in lines
    assert "findings not tested: Edema" in lines
    assert f"labels not used: Mass ({mapping['only_data']['Mass']})" in lines
    assert "no threshold from validation images, so 0.5: Cardiomegaly, Effusion" in lines


def test_thresholds_and_temperatures_of_findings_are_the_runs_own(trained_findings: Loaded, other: Path) -> None:
    _, paths = trained_findings
    p, label = probabilities(trained_findings, other)["Effusion"], truth(other, "pleural_effusion")
    threshold = float(p.median())
    rows = [("baseline", 0, "Effusion", YOUDEN, threshold), ("baseline", 0, "Edema", YOUDEN, 0.1)]
    points = pd.DataFrame(rows, columns=["experiment", "repeat", "class", "point", "threshold"])
    tables.write(points, paths.evaluation / thresholds.POINTS)
    warm = [
        {"experiment": "baseline", "repeat": 0, "class": name, "temperature": 1e9}
        for name in ("Cardiomegaly", "Effusion")
    ]
    files.write_json(warm, paths.evaluation / thresholds.TEMPERATURES)
    try:
        record, lines = run(trained_findings, other)
    finally:
        shutil.rmtree(paths.evaluation)
    assert record["thresholds"] == {"Cardiomegaly": 0.5, "Effusion": threshold}
    assert value(record, "Effusion", "sensitivity") == pytest.approx(
        (p.reindex(label.index)[label == 1] >= threshold).mean()
    )
    assert "no threshold from validation images, so 0.5: Cardiomegaly" in lines
    (point,) = record["operating_points"]
    assert (point["class"], point["threshold"]) == ("Effusion", threshold)
    assert point["sensitivity"] == pytest.approx(value(record, "Effusion", "sensitivity"))
    assert record["log_loss_calibrated"] == pytest.approx(np.log(2))  # at such a temperature each probability is a half


def test_a_named_label_comes_before_the_table_of_names(trained_findings: Loaded, other: Path) -> None:
    record, _ = run(trained_findings, other, "Edema=Mass", "Edema=pleural_effusion")
    assert record["mapping"]["labels"] == {"Cardiomegaly": ["Cardiomegaly"], "Edema": ["Mass", "pleural_effusion"]}
    either = (truth(other, "Mass") == 1) | (truth(other, "pleural_effusion") == 1)
    assert record["classes"]["Edema"] == either.sum()


def test_findings_are_tested_on_classes_of_which_an_image_has_one(trained_findings: Loaded, tmp_path: Path) -> None:
    small.pictures(tmp_path / "classes", [f"Normal/n{n}.png" for n in range(7)], seed=8)
    small.pictures(tmp_path / "classes", [f"Effusion/e{n}.png" for n in range(6)], seed=9)
    record, _ = run(trained_findings, tmp_path / "classes")
    assert record["mapping"]["labels"] == {"Effusion": ["Effusion"]}
    assert record["mapping"]["only_data"] == {"Normal": 7}
    assert (record["classes"], record["known"]) == ({"Effusion": 6}, {"Effusion": 13})


def test_a_model_of_two_classes_is_tested_on_the_one_finding_that_it_looks_for(trained: Loaded, other: Path) -> None:
    record, lines = run(trained, other, "TB=pleural_effusion")
    label = truth(other, "pleural_effusion")
    assert record["classes"] == {"Healthy": (label == 0).sum(), "TB": (label == 1).sum()}
    unknown = int((~label.isin([0, 1])).sum())
    assert record["left_out"]["no common finding is labelled"] == int(label.isna().sum())
    assert record["left_out"]["TB is uncertain"] == unknown - label.isna().sum()
    assert (
        "TB is pleural_effusion in the data; an image without it counts as the other class, whatever else it has"
        in lines
    )
    p = probabilities(trained, other)["TB"].reindex(label.index)
    known = label.isin([0, 1])
    assert value(record, "TB", "auroc") == pytest.approx(roc_auc_score(label[known], p[known]))


def test_what_does_not_fit_is_refused(trained: Loaded, trained_findings: Loaded, other: Path, tmp_path: Path) -> None:
    counts = ", ".join(
        f"{name} ({(truth(other, name) == 1).sum()})" for name in ["Cardiomegaly", "Mass", "pleural_effusion"]
    )
    with pytest.raises(DataError) as caught:
        run(trained, other)
    assert str(caught.value) == (
        f"the images in {other} have several findings, and none is the one that the model looks for. {other} has "
        f"{counts}, and none of the model's findings (TB); say what one is called:\n  - --label 'TB=LABEL'"
    )
    with pytest.raises(DataError) as caught:
        run(trained_findings, other, "Edema=Fracture")
    assert str(caught.value) == f"--label Edema=Fracture: no image in {other} has it; there is {counts}"
    small.pictures(
        tmp_path / "classes", [f"{label}/{n}.png" for label in ("Covid", "Normal") for n in range(3)], seed=4
    )
    with pytest.raises(DataError, match="none of the model's findings \\(Cardiomegaly, Edema, Effusion\\)"):
        run(trained_findings, tmp_path / "classes")
    assert not is_multi(trained[0].data.task)
