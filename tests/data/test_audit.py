"""The audit says what is wrong, and of what; and leakage is named, whether it stops the study or is accepted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small
from PIL import Image
from scipy.stats.contingency import association
from sklearn.metrics import roc_auc_score

from xraylab.data import layouts
from xraylab.data.audit import audit, confounding, findings

BLANK = {
    "patient": "", "split": "", "source": "", "sex": "", "age": "", "view": "", "width": 100, "height": 100,
    "mode": "L",
    "format": "PNG", "bytes": 5000, "brightness": 0.5, "contrast": 0.2, "border": 0.0, "burned_in": "", "window": "",
    "manufacturer": "", "site": "",
}  # fmt: skip
NO_PAIRS = pd.DataFrame({"id": [], "other": [], "change": [], "bits": []})


def index(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A table as data/index.csv, of rows that say only what matters; everything else is the same for all."""
    table = pd.DataFrame([BLANK | {"id": f"{at}.png", "label": "A"} | row for at, row in enumerate(rows)])
    for column in ("path", "file_hash", "pixel_hash"):
        table[column] = table["id"] if column not in table else table[column].fillna(table["id"])
    return table


def audited(top: Path) -> audit.Audit:
    return audit.audit(top, layouts.read(top, "auto", None, None, None))


def kinds(found: list[findings.Finding]) -> dict[str, tuple[str, int]]:
    return {each.kind: (each.severity, each.count) for each in found}


def test_every_flaw_of_a_folder_is_found_and_named(tmp_path: Path) -> None:
    small.write_images(tmp_path, [f"A/{number}.png" for number in range(8)], pixels=80)
    small.write_images(tmp_path, ["B/tiny.png"], pixels=20, seed=1)
    (tmp_path / "A/again.png").write_bytes((tmp_path / "A/0.png").read_bytes())
    (tmp_path / "B/same.png").write_bytes((tmp_path / "A/1.png").read_bytes())
    Image.open(tmp_path / "A/2.png").save(tmp_path / "A/jpeg.png", "JPEG")
    Image.new("L", (80, 80), 255).save(tmp_path / "B/white.png")
    (tmp_path / "B/cut.png").write_bytes((tmp_path / "A/3.png").read_bytes()[:500])
    record = audited(tmp_path).record
    found = {each.kind: each for each in record.findings}
    assert record.images == 13
    assert record.classes == {"A": {"images": 10, "patients": 0}, "B": {"images": 3, "patients": 0}}
    assert found["unreadable"].examples == [f"{tmp_path}/B/cut.png: image file is truncated"]
    assert found["wrong_extension"].examples == ["A/jpeg.png"]
    assert found["constant"].examples == ["B/white.png"]
    assert found["tiny"].examples == ["B/tiny.png"]
    assert found["duplicates"].examples == ["A/0.png = A/again.png", "A/1.png = B/same.png"]
    assert found["label_conflict"].examples == ["A/1.png = B/same.png"]
    assert found["near_duplicates"].count == 1
    assert found["imbalance"].says == "times as many images of A (10) as of B (3)"
    assert found["patients_unknown"].count == 13
    severities = [findings.SEVERITIES.index(each.severity) for each in record.findings]
    assert severities == sorted(severities)


def test_a_clean_folder_has_no_warning(tmp_path: Path) -> None:
    small.write_images(tmp_path, [f"{label}/{label}{number}.png" for label in "AB" for number in range(12)], pixels=80)
    assert {each.severity for each in audited(tmp_path).record.findings} <= {"note"}


def test_patients_in_two_classes_are_named() -> None:
    table = index([{"patient": "7"}, {"patient": "7", "label": "B"}, {"patient": "8"}, {"label": "B"}, {"label": "A"}])
    found = {each.kind: each for each in findings.of_people(table, "file names")}
    assert found["patients_in_two_classes"].examples == ["7"]
    assert found["patients_unknown"].count == 2


LEAKY = index(
    [
        {"patient": "p"}, {"patient": "p"}, {"patient": "q"}, {"patient": "q"},
        {"pixel_hash": "x"}, {"pixel_hash": "x"}, {}, {},
    ]
)  # fmt: skip
NEAR = pd.DataFrame(
    {"id": ["6.png", "6.png"], "other": ["7.png", "0.png"], "change": ["encoded", "mirrored"], "bits": [4, 9]}
)
SPLITS = pd.Series(["train", "test", "valid", "valid", "train", "test", "train", "valid"])


def test_what_crosses_splits_stops_the_study() -> None:
    found = findings.across_splits(LEAKY, NEAR, SPLITS)
    assert [(each.kind, each.severity, each.examples) for each in found] == [
        ("patients_across_splits", "stop", ["p (train+test)"]),
        ("duplicates_across_splits", "stop", ["4.png = 5.png (train+test)"]),
        ("near-duplicates_across_splits", "stop", ["6.png ~ 7.png (4 bits of 256)"]),
    ]


def test_how_a_picture_was_changed_stands_beside_the_pair() -> None:
    near = pd.DataFrame({"id": "6.png", "other": "7.png", "change": ["mirrored", "cropped"], "bits": ["9", ""]})
    (leak,) = [each for each in findings.across_splits(LEAKY, near, SPLITS) if each.kind.startswith("near")]
    assert leak.examples == ["6.png ~ 7.png (mirrored, 9 bits of 256)", "6.png ~ 7.png (cropped)"]


def test_accepted_leakage_is_named_all_the_same() -> None:
    found = findings.across_splits(LEAKY, NEAR, SPLITS, accepted=True)
    assert [each.severity for each in found] == ["accepted"] * 3


def test_images_that_are_not_used_leak_nothing() -> None:
    unused = SPLITS.where(~SPLITS.index.isin([1, 5, 7]), "unused")
    assert findings.across_splits(LEAKY, NEAR, unused) == []


def test_cramers_v_is_that_of_scipy_without_its_bias() -> None:
    rng = np.random.default_rng(0)
    label = pd.Series(rng.choice(["A", "B", "C"], 4000))
    fact = label.where(rng.random(4000) < 0.4, pd.Series(rng.choice(["A", "B", "C"], 4000)))
    biased = association(pd.crosstab(fact, label).to_numpy(), method="cramer")
    assert confounding.cramers_v(fact, label) == pytest.approx(biased, abs=0.002)
    assert confounding.cramers_v(label, label) == pytest.approx(1)
    assert confounding.cramers_v(pd.Series(["x"] * 4000), label) == 0


def test_cramers_v_of_nothing_is_nothing_even_with_many_values() -> None:
    rng = np.random.default_rng(1)
    label = pd.Series(rng.choice(["A", "B"], 200))
    fact = pd.Series(rng.integers(0, 60, 200).astype(str))
    assert confounding.cramers_v(fact, label) < 0.15


def test_a_class_that_has_a_format_of_its_own_is_told_from_the_file() -> None:
    rows = [{"label": "AB"[at % 2], "format": "JPEG" if at % 2 else "PNG", "brightness": at / 100} for at in range(60)]
    record = confounding.find_shortcuts(index(rows))
    found = list(findings.of_shortcuts(record))
    assert record.cramers_v["format"] > 0.9
    assert record.model.auroc > 0.99
    assert kinds(found)["told_from_the_file"][0] == "warning"
    assert "format: Cramér's V 1.00" in found[0].examples


def test_what_tells_the_class_is_one_sentence_for_whoever_sees_a_metric() -> None:
    model = confounding.FileModel(0.854, 99, ["format", "size", "border"])
    told = "tell the class with an AUROC of 0.85."
    assert confounding.warning({"source": 1.0, "size": 0.5, "mode": 0.49}, model, 30) == (
        "The class goes with source (Cramér's V 1.00) and 1 more; facts about the files alone tell it with an AUROC of "
        "0.85."
    )
    assert (
        confounding.warning({"mode": 0.49}, model, 30) == f"Facts about the files alone (format, size, border) {told}"
    )
    assert confounding.warning({"source": 0.501}, None, 30) == "The class goes with source (Cramér's V 0.50)."
    assert confounding.warning({"mode": 0.49}, replace(model, auroc=0.749), 30) is None
    assert confounding.warning({"source": 1.0}, model, 29) is None


def test_the_audit_says_so_before_its_details(tmp_path: Path) -> None:
    small.write_images(tmp_path, [f"A/{number}.png" for number in range(20)], pixels=80)
    small.write_images(tmp_path, [f"B/{number}.jpg" for number in range(20)], pixels=80, seed=1)
    record = audited(tmp_path).record
    said = list(audit.lines(record))
    at = next(number for number, line in enumerate(said) if line.startswith("warning: "))
    assert said[at].startswith(
        "warning: metrics of these images may not hold at other hospitals. The class goes with format ("
    )
    assert said[at + 1] == f"    {confounding.REMEDY}"
    assert "xraylab external-test RUN FOLDER" in confounding.REMEDY


def test_a_class_that_is_not_told_from_the_file_is_not_said_to_be() -> None:
    rng = np.random.default_rng(0)
    rows = [{"label": "AB"[at % 2], "brightness": float(rng.random())} for at in range(400)]
    record = confounding.find_shortcuts(index(rows))
    found = list(findings.of_shortcuts(record))
    assert record.warning is None
    assert 0.4 < record.model.auroc < 0.6
    assert kinds(found)["hardly_told_from_the_file"][0] == "note"


def test_the_forest_never_sees_a_patient_that_it_is_asked_about() -> None:
    rng = np.random.default_rng(0)
    looks = {patient: float(rng.random()) for patient in range(80)}
    labels = {patient: str(rng.choice(["A", "B"])) for patient in range(80)}
    rows = [{"patient": str(at % 80), "label": labels[at % 80], "brightness": looks[at % 80]} for at in range(800)]
    by_patient = confounding.auroc(index(rows))
    by_image = confounding.auroc(index([row | {"patient": ""} for row in rows]))
    assert by_patient.auroc < 0.7
    assert by_image.auroc > 0.95


def test_the_auroc_is_the_mean_over_classes() -> None:
    rng = np.random.default_rng(0)
    rows = [{"label": "ABC"[at % 3], "brightness": (at % 3) / 3 + float(rng.random())} for at in range(300)]
    table = index(rows)
    single = [roc_auc_score(table["label"] == "C", table["brightness"])]
    found = confounding.auroc(table)
    assert found is not None
    assert 0.5 < found.auroc < single[0]


@pytest.mark.parametrize("fact", ["manufacturer", "site"])
def test_a_class_that_has_a_maker_or_a_site_of_its_own_is_told_by_the_header(fact: str) -> None:
    rows = [{"label": "AB"[at % 2], fact: "xy"[at % 2], "source": "one"} for at in range(60)]
    record = confounding.find_shortcuts(index(rows))
    found = list(findings.of_shortcuts(record))
    assert record.cramers_v == {fact: 1.0}
    assert record.model.facts == [fact]
    assert found[0].examples == [f"{fact}: Cramér's V 1.00"]


def test_a_site_that_is_the_source_is_one_fact() -> None:
    rows = [{"label": "AB"[at % 2], "site": "xy"[at % 2], "source": "xy"[at % 2]} for at in range(60)]
    assert list(confounding.facts(index(rows))) == ["source"]


def test_sites_are_compared_not_addresses() -> None:
    rows = [{"label": "AB"[at % 2], "source": f"https://site{at % 2}.org/{at}.png"} for at in range(40)]
    assert confounding.facts(index(rows))["source"].unique().tolist() == ["site0.org", "site1.org"]


def test_too_few_images_are_not_judged() -> None:
    assert confounding.auroc(index([{"label": "AB"[at % 2], "brightness": at} for at in range(12)])) is None
