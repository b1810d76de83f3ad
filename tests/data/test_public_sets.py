"""CheXpert, MIMIC-CXR, VinDr-CXR and PadChest are read from trees of their real shape, with their official splits."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from test_layouts import touch, write
from test_multi_label import rows

from xraylab import targets
from xraylab.data import layouts
from xraylab.data.layouts.records import Dataset, LabelRules
from xraylab.errors import DataError
from xraylab.task import MULTI_LABEL

CHEXPERT = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,"
    "Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
HEAD = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{CHEXPERT}"
ROOT = "CheXpert-v1.0-small"
STUDY = "Cardiomegaly", "Edema", "Support Devices"


def read(raw: Path, *classes: str, task: str = MULTI_LABEL, **rules: object) -> Dataset:
    chosen = LabelRules.of(rules.get("blank", "missing"), rules.get("readers", "majority"), rules.get("views"))
    return layouts.read(raw, "auto", list(classes) or None, None, None, task=task, rules=chosen)


def cells(dataset: Dataset, *names: str) -> list[tuple[str, ...]]:
    return list(dataset.table[list(names)].itertuples(index=False, name=None))


@pytest.fixture
def chexpert(tmp_path: Path) -> Path:
    """Two patients for training, one of validation; the third image has a lateral view."""
    names = [
        "train/patient00001/study1/view1_frontal.jpg",
        "train/patient00002/study2/view1_frontal.jpg",
        "train/patient00002/study2/view2_lateral.jpg",
        "valid/patient64541/study1/view1_frontal.jpg",
    ]
    touch(tmp_path, [f"{ROOT}/{name}" for name in names])
    write(
        tmp_path, f"{ROOT}/train.csv", HEAD,
        f"{ROOT}/{names[0]},Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0",
        f"{ROOT}/{names[1]},Male,87,Frontal,PA,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,",
        f"{ROOT}/{names[2]},Male,87,Lateral,,,,-1.0,1.0,,0.0,-1.0,,-1.0,,-1.0,,1.0,",
    )  # fmt: skip
    write(
        tmp_path, f"{ROOT}/valid.csv", HEAD,
        f"{ROOT}/{names[3]},Unknown,73,Frontal,AP,0.0,1.0,1.0,1.0,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0",
    )  # fmt: skip
    return tmp_path


def test_chexpert_has_uncertain_labels_and_a_test_split_of_its_valid_csv(chexpert: Path) -> None:
    dataset = read(chexpert, *STUDY)
    assert dataset.layout == "chexpert"
    values = targets.values(dataset.table, STUDY)
    nan = float("nan")
    np.testing.assert_array_equal(values, [[nan, nan, 1], [-1, -1, nan], [-1, 0, nan], [1, 1, 0]])
    assert cells(dataset, "patient", "split", "sex", "age", "view") == [
        ("patient00001", "train", "F", "68", "AP"),
        ("patient00002", "train", "M", "87", "PA"),
        ("patient00002", "train", "M", "87", "LATERAL"),
        ("patient64541", "test", "", "73", "AP"),
    ]


def test_blank_cells_of_chexpert_can_be_read_as_absent(chexpert: Path) -> None:
    values = targets.values(read(chexpert, *STUDY, blank="negative").table, STUDY)
    assert values.tolist() == [[0, 0, 1], [-1, -1, 0], [-1, 0, 0], [1, 1, 0]]


def test_with_a_test_csv_valid_stays_valid(chexpert: Path) -> None:
    """As CheXlocalize published it: no sex, age or view, and paths from the split's folder."""
    touch(chexpert, [f"{ROOT}/test/patient64741/study1/view1_frontal.jpg"])
    write(
        chexpert, f"{ROOT}/test_labels.csv",
        f"Path,{CHEXPERT}", "test/patient64741/study1/view1_frontal.jpg,0,1,1,1,0,0,0,0,0,0,0,0,0,1",
    )  # fmt: skip
    dataset = read(chexpert, *STUDY)
    assert list(dataset.table["split"]) == ["test", "train", "train", "train", "valid"]
    assert dataset.table["view"][0] == ""


def test_frontal_views_alone_are_asked_for_by_data_views(chexpert: Path) -> None:
    dataset = read(chexpert, *STUDY, views=["AP", "pa"])
    assert sorted(dataset.table["view"]) == ["AP", "AP", "PA"]
    assert dataset.left_out == {"view LATERAL": 1}
    with pytest.raises(DataError) as caught:
        read(chexpert, *STUDY, views=["LL"])
    assert str(caught.value) == (
        "data.views: no image has the view LL; the source has view AP (2), view PA (1), view LATERAL (1)"
    )


def test_a_broken_chexpert_row_is_named(chexpert: Path) -> None:
    path = chexpert / ROOT / "valid.csv"
    text = path.read_text()
    path.write_text(text.replace("0.0,1.0,1.0", "0.0,2.0,1.0"))
    with pytest.raises(DataError) as caught:
        read(chexpert, *STUDY)
    assert str(caught.value) == (
        "valid.csv, line 2: Enlarged Cardiomediastinum is '2.0', not 1, 0, -1 (uncertain) or empty (not labelled)"
    )
    path.write_text(text.replace("patient64541", "p64541"))
    with pytest.raises(DataError) as caught:
        read(chexpert, *STUDY)
    assert str(caught.value) == (
        f"valid.csv, line 2: Path '{ROOT}/valid/p64541/study1/view1_frontal.jpg' does not end as "
        "train/patient00001/study1/view1_frontal.jpg"
    )


DICOMS = ("02aa804e-bde0afdd-112c0b34-7bc16630-4e384014", "174413ec-4ec4c1f7-34ea26b7-c5f994f8-79ef1962")
LABELS = "subject_id,study_id," + ",".join(sorted(CHEXPERT.split(",")))


@pytest.fixture
def mimic(tmp_path: Path) -> Path:
    """Two studies of two patients with tables packed as they are published, and a study without labels."""
    touch(
        tmp_path,
        [f"files/p10/p10000032/s50414267/{DICOMS[0]}.jpg", f"files/p10/p10000032/s50414267/{DICOMS[1]}.jpg",
         "files/p11/p11000011/s51029426/c.jpg", "files/p11/p11000011/s51029427/d.jpg"],
    )  # fmt: skip
    tables = {
        "chexpert": [
            LABELS, "10000032,50414267,,,,-1.0,,,,,1.0,,,,,", "11000011,51029426,1.0,1.0,0.0,1.0,,,,,,,,,,1.0",
        ],
        "negbio": [LABELS, "10000032,50414267,,,,,,,,,1.0,,,,,", "11000011,51029426,,1.0,,0.0,,,,,,,,,,"],
        "split": [
            "dicom_id,study_id,subject_id,split",
            f"{DICOMS[0]},50414267,10000032,train", f"{DICOMS[1]},50414267,10000032,train",
            "c,51029426,11000011,validate", "d,51029427,11000011,validate", "e,51029428,11000012,test",
        ],
        "metadata": [
            "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime",
            f"{DICOMS[0]},10000032,50414267,CHEST (PA AND LAT),PA,3056,2544,21800506,213014.531",
            f"{DICOMS[1]},10000032,50414267,CHEST (PA AND LAT),LATERAL,3056,2544,21800506,213014.531",
        ],
    }  # fmt: skip
    for kind, lines in tables.items():
        with gzip.open(tmp_path / f"mimic-cxr-2.0.0-{kind}.csv.gz", "wt") as file:
            file.write("\n".join(lines) + "\n")
    return tmp_path


def test_mimic_s_labels_are_those_of_the_study(mimic: Path) -> None:
    dataset = read(mimic, "Cardiomegaly", "Edema", "No Finding")
    assert dataset.layout == "mimic-cxr"
    assert rows(dataset) == {
        f"{DICOMS[0]}.jpg": [None, -1, 1], f"{DICOMS[1]}.jpg": [None, -1, 1], "c.jpg": [1, 1, None]
    }  # fmt: skip
    assert cells(dataset, "patient", "split", "view") == [
        ("10000032", "train", "PA"), ("10000032", "train", "LATERAL"), ("11000011", "valid", ""),
    ]  # fmt: skip
    assert dataset.left_out == {"no row of its study in mimic-cxr-2.0.0-chexpert.csv.gz": 1}
    assert dataset.missing == ["e"]


def test_mimic_s_other_labels_are_named_by_data_table(mimic: Path) -> None:
    tables = layouts.TableConfig.of("mimic-cxr-2.0.0-negbio.csv.gz", None)
    dataset = layouts.read(mimic, "auto", ["Cardiomegaly", "No Finding"], None, None, tables, MULTI_LABEL)
    assert rows(dataset)["c.jpg"] == [1, None]
    values = targets.values(dataset.table, ["Cardiomegaly"])
    assert values[2] == 1


READERS = "image_id,rad_id,Aortic enlargement,Cardiomegaly,Nodule/Mass,Other diseases,No finding"


@pytest.fixture
def vindr(tmp_path: Path) -> Path:
    """Two training images of three readers each, and a test image of a consensus."""
    touch(tmp_path, ["train/000434271f63a053c4128a0ba6352c7f.dicom", "train/b.dicom", "test/c.dicom"])
    write(
        tmp_path, "annotations/image_labels_train.csv", READERS,
        "000434271f63a053c4128a0ba6352c7f,R2,1,1,0,0,0", "000434271f63a053c4128a0ba6352c7f,R3,0,1,0,0,0",
        "000434271f63a053c4128a0ba6352c7f,R6,0,0,0,1,0",
        "b,R1,0,0,0,0,1", "b,R2,0,0,0,0,1", "b,R3,0,0,1,0,0",
    )  # fmt: skip
    write(
        tmp_path, "annotations/image_labels_test.csv",
        READERS.replace("rad_id,", "").replace("Other diseases", "Other disease"), "c,1,1,0,1,0",
    )  # fmt: skip
    write(tmp_path, "annotations/annotations_train.csv", "image_id,rad_id,class_name,x_min,y_min,x_max,y_max",
          "b,R3,Nodule/Mass,1,2,3,4")  # fmt: skip
    return tmp_path


@pytest.mark.parametrize(
    ("readers", "first", "second"), [("majority", [0, 1, 0, 0], [0, 0, 0, 1]), ("any", [1, 1, 1, 0], [0, 0, 0, 1])]
)
def test_vindr_s_readers_are_combined(vindr: Path, readers: str, first: list[int], second: list[int]) -> None:
    dataset = read(vindr, "Aortic enlargement", "Cardiomegaly", "Other diseases", "No finding", readers=readers)
    assert dataset.layout == "vindr"
    assert rows(dataset) == {
        "c.dicom": [1, 1, 1, 0], "000434271f63a053c4128a0ba6352c7f.dicom": first, "b.dicom": second,
    }  # fmt: skip
    assert set(cells(dataset, "split", "view")) == {("train", "PA"), ("test", "PA")}
    assert dataset.patients == "unknown"
    assert dataset.not_studied == ({"Nodule/Mass": 1} if readers == "any" else {})


def test_half_of_the_readers_are_no_majority_and_leave_a_label_uncertain(vindr: Path) -> None:
    write(vindr, "annotations/image_labels_train.csv", READERS, "b,R1,0,1,0,0,0", "b,R2,0,0,0,0,1")
    assert rows(read(vindr, "Cardiomegaly", "No finding"))["b.dicom"] == [-1, -1]


def test_the_competition_s_boxes_are_votes_too(tmp_path: Path) -> None:
    touch(tmp_path, ["train/a.png", "train/b.png"])
    write(
        tmp_path, "train.csv",
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max",
        "a,No finding,14,R1,,,,", "a,Cardiomegaly,3,R2,1,2,3,4", "a,Cardiomegaly,3,R3,1,2,3,4",
        "a,ILD,5,R3,1,2,3,4", "a,ILD,5,R3,5,6,7,8",
        "b,No finding,14,R1,,,,", "b,No finding,14,R2,,,,", "b,No finding,14,R3,,,,",
    )  # fmt: skip
    assert rows(read(tmp_path, "Cardiomegaly", "ILD", "No finding")) == {"a.png": [1, 0, 0], "b.png": [0, 0, 1]}


PADCHEST_HEAD = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,Projection,"
    "MethodProjection,Pediatric,Report,MethodLabel,Labels"
)


@pytest.fixture
def padchest(tmp_path: Path) -> Path:
    touch(tmp_path, ["0/a_k6ga29.png", "0/b.png", "14/c.png", "14/d.png", "14/e.png"])

    def row(number: int, name: str, patient: str, rest: str, labels: str) -> str:
        return f'{number},{name},0,20140915,2053,{patient},{rest},Manual,No,"sin, hallazgos",Physician,"{labels}"'

    write(
        tmp_path, "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", PADCHEST_HEAD,
        row(0, "a_k6ga29.png", "8398", "1930.0,F,POSTEROANTERIOR,PA",
            "['pleural effusion', ' cardiomegaly', 'nodule']"),
        row(1, "b.png", "8398", "1930.0,F,LATERAL,L", "['normal']"),
        row(2, "c.png", "313", ",M,,AP_horizontal", "['unchanged', '']"),
        row(3, "d.png", "314", "1954.0,M,,PA", "['cardiomegaly', 'unchanged']"),
        row(4, "e.png", "315", "1954.0,M,,PA", ""),
    )  # fmt: skip
    return tmp_path


def test_padchest_s_labels_are_a_list(padchest: Path) -> None:
    dataset = read(padchest, "cardiomegaly", "pleural effusion")
    assert dataset.layout == "padchest"
    assert rows(dataset) == {"a_k6ga29.png": [1, 1], "b.png": [0, 0], "d.png": [1, 0]}
    assert cells(dataset, "patient", "sex", "age", "view") == [
        ("8398", "F", "84", "PA"), ("8398", "F", "84", "L"), ("314", "M", "60", "PA"),
    ]  # fmt: skip
    assert dataset.left_out == {"unlabelled": 2}
    assert dataset.not_studied == {"nodule": 1, "normal": 1}
    assert list(read(padchest, "normal", "cardiomegaly", task="single-label").table["label"]) == [
        "normal", "cardiomegaly", "cardiomegaly",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["['normal'", "{[]: 1}", "-" * 50_000 + "1"])
def test_padchest_s_labels_that_are_no_list_are_named(padchest: Path, text: str) -> None:
    table = padchest / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
    table.write_text(table.read_text().replace("['normal']", text))
    with pytest.raises(DataError) as caught:
        read(padchest, "cardiomegaly", "nodule")
    message = f"{table.name}, line 3: Labels {text!r} is no list such as ['pleural effusion', 'cardiomegaly']"
    assert str(caught.value) == str(DataError(message))  # long text is cut where it is shown
