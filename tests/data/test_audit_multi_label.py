"""The audit of several findings per image says of each finding what is wrong with it."""

from pathlib import Path
from typing import Any

import findings as findings_images
import numpy as np
import pandas as pd
import pytest
import small
from scipy.stats import chi2_contingency
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from xraylab import targets
from xraylab.data.audit import audit, confounding, findings, multi_label

NAMES = ["Effusion", "Mass"]
BLANK = {
    "patient": "", "split": "", "source": "", "sex": "", "age": "", "view": "", "width": 100, "height": 100,
    "mode": "L", "format": "PNG", "bytes": 5000, "brightness": 0.5, "contrast": 0.2, "border": 0.0, "burned_in": "",
    "window": "", "manufacturer": "", "site": "",
}  # fmt: skip
NO_PAIRS = pd.DataFrame({"id": [], "other": [], "change": [], "bits": []})


def index(labels: list[tuple[float, float]], **columns: Any) -> pd.DataFrame:
    """A table as data/index.csv of images with these labels of Effusion and Mass."""
    ids = [f"{at}.png" for at in range(len(labels))]
    table = pd.DataFrame([BLANK] * len(labels)).assign(id=ids, path=ids, file_hash=ids, pixel_hash=ids)
    return pd.concat([table, targets.to_columns(np.array(labels, float), NAMES)], axis=1).assign(**columns)


def random_labels(images: int, seed: int, share: float = 0.3) -> list[tuple[float, float]]:
    return [tuple(row) for row in (np.random.default_rng(seed).random((images, 2)) < share).astype(float)]


def by_kind(table: pd.DataFrame) -> dict[str, findings.Finding]:
    return {each.kind: each for each in findings.of_people(table, "a column")}


NAN = float("nan")


def test_one_picture_with_other_findings_names_them_but_not_the_unknown_ones() -> None:
    labels = [(1, 0), (0, 0), (1, 1), (-1, 1), (NAN, 0), (0, NAN)]
    table = index(labels, pixel_hash=["a", "a", "b", "b", "c", "c"])
    near = pd.DataFrame({"id": ["1.png"], "other": ["2.png"], "change": ["encoded"], "bits": [3]})
    found = {each.kind: each for each in findings.of_pictures(table, near)}
    assert found["other_findings"].examples == ["0.png = 1.png (Effusion)", "1.png = 2.png (Effusion, Mass)"]
    assert found["duplicates"].count == 3
    assert "label_conflict" not in found


def test_repeated_images_of_one_patient_are_told_apart_from_changing_findings() -> None:
    labels = [(1, 0), (0, 0), (0, 0), (NAN, 0), (-1, 0), (1, 1), (0, 1)]
    found = by_kind(index(labels, patient=["a", "a", "b", "b", "b", "c", ""]))
    assert found["several_images"].examples == ["a", "b"]
    assert found["several_images"].severity == "note"
    assert found["several_images"].says == (
        "patients have more than one image, up to 3 (patients from a column); findings come or go in those of 1, "
        "which is no error"
    )
    assert "patients_in_two_classes" not in found
    assert "imbalance" not in found


def test_findings_without_one_kind_of_label_rare_ones_and_unknown_labels_are_named() -> None:
    labels = [(1.0, NAN)] + 30 * [(0.0, 0.0)] + 2 * [(-1.0, 0.0)]
    found = by_kind(index(labels))
    assert found["undefined_findings"].examples == ["Mass: 0 present, 32 absent"]
    assert found["rare_findings"].examples == ["Effusion: 1 of 31"]
    assert found["rare_findings"].says == "finding is present in fewer than 5 % of the images where known"
    assert (found["uncertain_labels"].count, found["uncertain_labels"].examples) == (2, ["Effusion: 2"])
    assert (found["missing_labels"].count, found["missing_labels"].examples) == (1, ["Mass: 1"])


def test_the_record_counts_the_labels_of_each_finding_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    table = index([(1, 0), (0, 0), (1, 1), (-1, NAN)], patient=["a", "b", "a", ""])
    counts = multi_label.count_labels(table)
    assert counts["Effusion"] == {"images": 2, "patients": 1, "negative": 1, "uncertain": 1, "missing": 0}
    assert counts["Mass"] == {"images": 1, "patients": 1, "negative": 2, "uncertain": 0, "missing": 1}
    record = audit.Record(4, "table", "", [], "", counts, [], multi_label.find_shortcuts(table), without_finding=2)
    assert list(audit.lines(record))[2:] == [
        "    Effusion: 2 images, 1 patients, 1 without it, 1 uncertain",
        "    Mass: 1 images, 1 patients, 2 without it, 1 not labelled",
        "    none of them: 2 images",
    ]


def test_a_shortcut_is_named_for_the_finding_that_it_goes_with_and_for_no_other() -> None:
    labels = random_labels(200, seed=1)
    effusion = np.array(labels)[:, 0] == 1
    rng = np.random.default_rng(2)
    table = index(labels, burned_in=np.where(effusion, "YES", "NO"), border=rng.random(200), brightness=rng.random(200))
    shortcuts = multi_label.find_shortcuts(table)
    assert shortcuts.findings is not None
    effusions, masses = shortcuts.findings["Effusion"], shortcuts.findings["Mass"]
    assert (effusions.telling, effusions.told, effusions.auroc) == (["burned in"], True, 1.0)
    assert (masses.telling, masses.told) == ([], False)
    assert (effusions.images, effusions.positive) == (200, effusion.sum())
    assert shortcuts.warning == (
        "Effusion goes with burned in (Cramér's V 1.00) and facts about the files alone (AUROC 1.00)."
    )
    assert shortcuts.cramers_v["burned in"] == effusions.cramers_v["burned in"]
    found = {each.kind: each for each in findings.of_shortcuts(shortcuts)}
    assert found["findings_confounded"].examples == ["Effusion, burned in: Cramér's V 1.00"]
    assert found["findings_told_from_the_file"].examples == ["Effusion: AUROC 1.00"]


def test_the_auroc_of_facts_is_scikit_learns_over_the_images_where_the_finding_is_known() -> None:
    labels = np.array(random_labels(120, seed=3))
    labels[100:, 0] = NAN
    labels[90:100, 0] = targets.UNCERTAIN
    border = np.random.default_rng(4).random(120) + labels[:, 1]
    table = index([tuple(row) for row in labels], border=np.where(labels[:, 0] == 1, border + 0.3, border))
    known = table[:90].assign(label=np.where(labels[:90, 0] == 1, "present", "absent"))
    p = confounding.cross_validated(known, confounding.facts(known), known["label"])
    assert p is not None
    shortcuts = multi_label.find_shortcuts(table)
    assert shortcuts.findings is not None
    assert shortcuts.findings["Effusion"].auroc == round(roc_auc_score(labels[:90, 0], p[:, 1]), 3)
    assert shortcuts.findings["Effusion"].images == 90
    assert shortcuts.model is not None
    aurocs = [each.auroc for each in shortcuts.findings.values() if each.auroc is not None]
    assert shortcuts.model.auroc == round(float(np.mean(aurocs)), 3)


@pytest.mark.parametrize(("other_facts", "telling"), [(1, ["view"]), (7, [])])
def test_a_high_v_does_not_count_where_so_many_tests_make_one_by_chance(other_facts: int, telling: list[str]) -> None:
    view = np.array(["PA", "AP"] * 15)
    effusion = view == "PA"
    effusion[:7] = ~effusion[:7]
    rng = np.random.default_rng(0)
    names = ["mode", "format", "source", "manufacturer", "brightness", "contrast", "border"][:other_facts]
    chance = {name: rng.permutation(["1", "2"] * 15) for name in names}
    chance |= {name: rng.random(30) for name in names if name in ("brightness", "contrast", "border")}
    labels = [(float(one), float(other)) for one, other in zip(effusion, rng.permutation([0, 1] * 15), strict=True)]
    shortcuts = multi_label.find_shortcuts(index(labels, view=view, **chance))
    assert shortcuts.findings is not None
    assert shortcuts.findings["Effusion"].cramers_v["view"] > confounding.TELLING_V
    p = chi2_contingency(pd.crosstab(view, effusion), correction=False).pvalue
    assert (p * 2 * (other_facts + 1) < multi_label.ALPHA) == bool(telling)
    assert shortcuts.findings["Effusion"].telling == telling


def test_few_images_never_warn() -> None:
    labels = [(1.0, 0.0)] * 10 + [(0.0, 1.0)] * 10
    shortcuts = multi_label.find_shortcuts(index(labels, view=["PA"] * 10 + ["AP"] * 10))
    assert shortcuts.cramers_v == {"view": 1.0}
    assert shortcuts.warning is None


def test_a_folder_whose_table_has_a_column_per_finding_is_audited_finding_by_finding(tmp_path: Path) -> None:
    top = findings_images.images(tmp_path / "films", 12)
    record = audit.audit_folders([top], "auto", None).record
    table = pd.read_csv(top / "labels.csv")
    assert list(record.classes) == findings_images.FINDINGS
    for name, counts in record.classes.items():
        assert counts["images"] == (table[name] == 1).sum()
        assert counts["missing"] == table[name].isna().sum()
    small.write_images(tmp_path / "plain", ["A/1.png", "A/2.png", "B/1.png"], pixels=64)
    assert audit.audit_folders([tmp_path / "plain"], "auto", None).record.classes == {
        "A": {"images": 2, "patients": 0}, "B": {"images": 1, "patients": 0},
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_holms_correction_is_statsmodels(seed: int) -> None:
    ps = np.random.default_rng(seed).random(7) ** 3
    np.testing.assert_allclose(multi_label.holm(ps), multipletests(ps, method="holm")[1], rtol=1e-12)
