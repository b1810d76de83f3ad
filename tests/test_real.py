"""Small studies on real radiographs, from the folder to the report."""

from pathlib import Path

import pytest
import small
from conftest import to_the_report
from under_dvc import only

from xraylab import files
from xraylab.data.audit.audit import audit_folders

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_tb(tmp_path: Path, real_data: Path) -> None:
    study = small.study(tmp_path, small.use(real_data / "tb", ["Normal", "TB"], "TB"))
    small.edit(study, only("baseline", "sharpness"))
    small.edit(study, lambda tree: tree["train"].update(batch_size=32))
    to_the_report(study)
    splits = files.read_json(study / "data/split/summary.json")["splits"]
    assert {label: part["images"] for label, part in splits["test"].items()} == {"Normal": 380, "TB": 80}
    assert files.read_json(study / "data/split/audit.json") == []
    metrics = files.read_json(study / "reports/evaluation/test_metrics.json")
    assert metrics["baseline"]["test"]["auroc"] > 0.8
    assert (study / "reports/index.html").stat().st_size > 50_000


def test_covid3_whose_patients_are_in_two_classes(tmp_path: Path, real_data: Path) -> None:
    def point(tree: small.Tree) -> None:
        small.use(real_data / "covid3", ["Covid-19", "No_findings", "Pneumonia"], None)(tree)
        tree["split"]["on_leakage"] = "accept"

    study = small.study(tmp_path, point)
    small.edit(study, only("baseline"))
    small.edit(study, lambda tree: tree["train"].update(batch_size=32))
    to_the_report(study)
    record = files.read_json(study / "data/audit.json")
    assert record["classes"] == {
        "Covid-19": {"images": 124, "patients": 0},
        "No_findings": {"images": 500, "patients": 332},
        "Pneumonia": {"images": 500, "patients": 371},
    }
    found = {each["kind"]: each for each in record["findings"]}
    assert found["patients_in_two_classes"]["count"] == 21
    assert record["shortcuts"]["cramers_v"]["source"] > 0.99
    (leak,) = files.read_json(study / "data/split/audit.json")
    assert (leak["kind"], leak["severity"]) == ("patients_across_splits", "accepted")
    assert all("test" in example for example in leak["examples"])
    metrics = files.read_json(study / "reports/evaluation/test_metrics.json")
    assert metrics["baseline"]["test"]["auroc"] > 0.6
    summary = files.read_json(study / "reports/explain/summary.json")
    probes = {each["experiment"]: each["probes"] for each in summary["experiments"]}["baseline"]
    assert probes["metadata"]["shortcut"] is True
    assert "facts about the files (format" in probes["warnings"][-1]


def test_kermany_has_thirty_groups_of_duplicates_and_no_patient_on_two_given_splits(real_data: Path) -> None:
    audited = audit_folders([real_data / "kermany"], "auto", None)
    record = audited.record
    found = {each.kind: each for each in record.findings}
    assert (record.layout, record.splits) == ("kermany", {"test": 624, "train": 5216})
    assert found["duplicates"].count == found["duplicate_files"].count == 30
    assert "patients_across_splits" not in found
    assert (audited.index["patient"] != "").all()
