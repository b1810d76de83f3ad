"""Names of findings in public data sets: which are the same, which only look so, and that the table is consistent."""

import pytest

from xraylab.errors import DataError
from xraylab.registry import datasets, findings

NIH = [
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
]  # fmt: skip
CHEXPERT = [
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
]  # fmt: skip
VINBIGDATA = [
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Consolidation", "ILD", "Infiltration",
    "Lung Opacity", "Nodule/Mass", "Other lesion", "Pleural effusion", "Pleural thickening", "Pneumothorax",
    "Pulmonary fibrosis",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("Effusion", "Pleural Effusion"),
        ("pleural effusion", "Pleural Effusion"),
        ("Pleural-Effusion", "Pleural Effusion"),
        ("Pleural_Thickening", "Pleural Thickening"),
        ("Nodule/Mass", "Nodule or Mass"),
        ("Nodule_Mass", "Nodule or Mass"),
        ("hiatal hernia", "Hernia"),
        ("pulmonary fibrosis", "Fibrosis"),
        ("infiltrates", "Infiltration"),
        ("bone_fragment", "Bone fragment"),
        ("Tumor in lung", "Tumor in lung"),
    ],
)
def test_a_finding_has_one_name(name: str, finding: str) -> None:
    assert findings.canonical(name) == finding
    assert findings.canonical(finding) == finding


def test_nih_shares_seven_findings_with_chexpert_and_eight_with_vinbigdata() -> None:
    """Those of NIH and CheXpert are torchxrayvision's: its lists for both have these, Pleural Effusion renamed."""
    assert findings.common(NIH, CHEXPERT) == [
        ("Atelectasis", "Atelectasis"),
        ("Cardiomegaly", "Cardiomegaly"),
        ("Effusion", "Pleural Effusion"),
        ("Pneumonia", "Pneumonia"),
        ("Pneumothorax", "Pneumothorax"),
        ("Consolidation", "Consolidation"),
        ("Edema", "Edema"),
    ]
    shared = findings.common(NIH, VINBIGDATA)
    assert [first for first, _ in shared] == [
        "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Pneumothorax", "Consolidation", "Fibrosis",
        "Pleural_Thickening",
    ]  # fmt: skip
    assert dict(shared)["Fibrosis"] == "Pulmonary fibrosis"
    assert sorted((b, a) for a, b in shared) == sorted(findings.common(VINBIGDATA, NIH))


def test_names_that_only_look_alike_are_not_mapped_and_are_explained() -> None:
    assert findings.common(["Mass", "Nodule"], ["Lung Lesion", "Nodule/Mass"]) == []
    assert findings.remarks(["Mass", "Nodule"], ["Lung Lesion", "Nodule_Mass"]) == [
        "Lung Lesion against Mass and Nodule: CheXpert's labeller counts masses, nodules, nodular opacities, cavitary "
        "lesions and tumours as Lung Lesion",
        "Nodule_Mass against Mass and Nodule: it is either of them",
    ]
    assert [text.split(":")[0] for text in findings.remarks(["No Finding"], ["no_finding"])] == [
        "No Finding against no_finding"
    ]
    assert findings.remarks(["Cardiomegaly"], ["Cardiomegaly"]) == []


def test_names_that_no_set_has_are_compared_by_their_words() -> None:
    assert findings.common(["TB", "Bone_Fragment"], ["bone fragment", "tb"]) == [
        ("TB", "tb"), ("Bone_Fragment", "bone fragment")
    ]  # fmt: skip


def test_a_list_with_two_names_of_one_finding_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        findings.common(["Atelectasis"], ["Effusion", "Pleural Effusion"])
    assert str(caught.value) == (
        "Effusion and Pleural Effusion are names of one finding (Pleural Effusion): join them in data.labels, or leave "
        "one out of data.classes"
    )


def test_the_table_names_each_finding_once_and_known_sets_alone() -> None:
    by_key: dict[str, str] = {}
    for finding, name in findings._pairs():
        assert by_key.setdefault(findings.key(name), finding) == finding
    assert {dataset for by_dataset in findings.names().values() for dataset in by_dataset} <= set(datasets.read())
    for listed, dataset in ((NIH, "nih"), (CHEXPERT, "chexpert"), (CHEXPERT, "mimic-cxr")):
        assert {by[dataset] for by in findings.names().values() if dataset in by} - {"No Finding"} == (
            set(listed) - {"No Finding"}
        )
    for entry in findings._table()["alike"]:
        assert entry["name"] in findings.names()
        assert entry["source"]
