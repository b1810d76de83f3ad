"""Tables that lie beside images: found by what they hold, joined to the images, and said where they are passed over."""

from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from xraylab.data import layouts
from xraylab.data.layouts import TableConfig, sheets
from xraylab.data.layouts.records import Dataset
from xraylab.errors import DataError, MissingError


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two class folders of two images each."""
    for name in ("A/x1.png", "A/x2.png", "B/x3.png", "B/x4.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def write(raw: Path, name: str, *lines: str) -> None:
    (raw / name).write_text("\n".join(lines) + "\n")


def read(raw: Path, table: str | list[str] | None = None, **columns: str | None) -> Dataset:
    return layouts.read(raw, "auto", ["A", "B"], None, None, TableConfig.of(table, columns))


def refusal(raw: Path, table: str | list[str] | None = None, **columns: str | None) -> str:
    with pytest.raises(DataError) as caught:
        read(raw, table, **columns)
    return str(caught.value)


def patients(found: Dataset) -> list[str]:
    return list(found.table["patient"])


PATIENTS = ["x1,p", "x2,p", "x3,q", "x4,q"]


@pytest.mark.parametrize("name", ["patient_id", "patientid", "Patient ID", "PatientID", "subject", "Subject-ID"])
@pytest.mark.parametrize("file", ["image_id", "Image Index", "filename", "anything"])
def test_a_table_without_labels_tells_patients(raw: Path, name: str, file: str) -> None:
    write(raw, "meta.csv", f"{file},{name}", *PATIENTS)
    assert patients(read(raw)) == ["p", "p", "q", "q"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_every_column_in_use_is_joined_and_said(raw: Path, separator: str) -> None:
    header = ["image", "Patient ID", "Gender", "Patient Age", "ViewPosition", "Site", "split"]
    rows = [["x1.png", "p", "female", "058Y", "pa", "Ulm", "train"], ["A/x2.png", "p", "M", "7", "AP", "Ulm", "test"]]
    write(raw, "meta.csv", *(separator.join(cells) for cells in [header, *rows]))
    found = read(raw)
    assert found.table[["patient", "sex", "age", "view", "source", "split"]].values.tolist() == [
        ["p", "F", "58", "PA", "Ulm", "train"],
        ["p", "M", "7", "AP", "Ulm", "test"],
        ["", "", "", "", "", ""],
        ["", "", "", "", "", ""],
    ]
    assert found.patients == "column patient_id"
    assert found.tables == [
        "meta.csv: joined by image, 2 of 4 images; patient from patient_id, split from split, source from site, "
        "sex from gender, age from patient_age, view from viewposition"
    ]


def test_a_study_stands_for_a_patient_who_is_not_named(raw: Path) -> None:
    write(raw, "meta.csv", "image,StudyInstanceUID", "x1,1.2", "x2,1.2", "x3,1.3", "x4,1.4")
    assert patients(read(raw)) == ["1.2", "1.2", "1.3", "1.4"]


def test_several_tables_are_joined_by_image_and_by_patient(raw: Path) -> None:
    pd.DataFrame([line.split(",") for line in PATIENTS], columns=["File", "Patient"]).to_excel(
        raw / "who.xlsx", index=False
    )
    write(raw, "people.csv", "patient,sex,age", "p,F,30", "q,M,40", "r,M,50")
    found = read(raw)
    assert found.table[["patient", "sex", "age"]].values.tolist() == [["p", "F", "30"]] * 2 + [["q", "M", "40"]] * 2
    assert found.tables == [
        "who.xlsx: joined by file, 4 of 4 images; patient from patient",
        "people.csv: joined by patient (patient), 4 of 4 images; sex from sex, age from age",
    ]


def test_why_a_table_is_passed_over_is_said(raw: Path) -> None:
    write(raw, "a.csv", "who,what", "me,x")
    write(raw, "b.csv", "image,score", "x1,1")
    write(raw, "c.csv", "image,sex", "y1,F")
    write(raw, "d.csv", "who,what", "a,b,c")
    write(raw, "e.csv", "patient,sex", "z,F")
    assert read(raw).tables == [
        "b.csv: passed over, since none of its columns (image, score) tells of patient, sex, age, view, split or "
        "source",
        "c.csv: passed over, since its column image names none of the images (y1)",
        "e.csv: passed over, since it names no image, and its column patient no patient of an image",
        "a.csv: passed over, since none of its columns names images: who, what",
        "d.csv: passed over, since it cannot be read (d.csv, line 2: 3 cells, the header has 2)",
    ]


def test_data_table_and_data_columns_say_it_explicitly(raw: Path) -> None:
    write(raw, "a.csv", "image,patient,Pat-Nr,Befund", "x1,1,p,u", "x2,2,p,v", "x3,3,q,u", "x4,4,q,v")
    write(raw, "b.csv", "image,patient", "x1,9", "x2,9", "x3,9", "x4,9")
    assert patients(read(raw, "a.csv")) == ["1", "2", "3", "4"]
    assert patients(read(raw, "a.csv", patient="Pat Nr")) == ["p", "p", "q", "q"]
    assert patients(read(raw, ["b.csv"])) == ["9"] * 4
    assert patients(read(raw, [])) == [""] * 4
    assert patients(read(raw, "a.csv", patient=None)) == [""] * 4
    found = layouts.read(raw, "auto", ["u", "v"], None, None, TableConfig.of("a.csv", {"label": "Befund"}))
    assert list(found.table["label"]) == ["u", "u", "v", "v"]
    assert refusal(raw, "c.csv") == "data.table: c.csv is not in the source, which has a.csv, b.csv"
    assert refusal(raw, "b.csv", patient="who") == (
        "data.columns: no table has patient: who; the source has\n  - b.csv has image, patient"
    )


def test_a_named_table_that_cannot_be_used_is_an_error(raw: Path) -> None:
    write(raw, "a.csv", "who,what", "me,x")
    assert refusal(raw, "a.csv") == (
        "data.table: names a table that cannot be used:\n"
        "  - a.csv: passed over, since none of its columns names images: who, what"
    )


def test_rows_that_contradict_one_another_and_rows_of_two_images_are_errors(raw: Path) -> None:
    write(raw, "a.csv", "image,patient", "x1,p", "x1,q")
    assert refusal(raw) == "a.csv: rows of one image contradict one another: A/x1.png (patient p, then q)"
    write(raw, "a.csv", "frontal,lateral,patient", "x1,x2,p", "x3,x4,q")
    assert refusal(raw).startswith(
        "a.csv, line 2: the columns frontal and lateral name two images: write a row for each"
    )


def test_a_column_of_small_numbers_is_not_one_of_files(tmp_path: Path) -> None:
    for number in range(1, 5):
        (tmp_path / f"{'AB'[number % 2]}").mkdir(exist_ok=True)
        (tmp_path / f"{'AB'[number % 2]}/{number}.png").touch()
    write(tmp_path, "meta.csv", "name,visit,patient", "1.png,2,p", "2.png,1,q", "3.png,9,p", "4.png,8,q")
    assert patients(read(tmp_path)) == ["q", "q", "p", "p"]


def test_an_absolute_path_finds_its_copy_by_the_folders_that_agree(tmp_path: Path) -> None:
    for name in ("A/1.png", "B/1.png", "masks/A/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    write(tmp_path, "list.csv", "Path,Diagnosis", "/data/old/A/1.png,ill", "C:\\films\\B\\1.png,well")
    found = layouts.read(tmp_path, "auto", ["well", "ill"], None, None)
    assert found.table[["id", "label"]].values.tolist() == [["B/1.png", "well"], ["A/1.png", "ill"]]


def test_parquet_is_read_or_says_what_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    if find_spec("pyarrow") is None:
        path.touch()
        with pytest.raises(MissingError, match=r"pyarrow, which reads it, is not installed: pip install pyarrow$"):
            sheets.read(path)
        return
    pd.DataFrame({"Image": ["1.png", "2.png"], "Age": [30.0, None], "label": ["a", "b"]}).to_parquet(path)
    assert sheets.read(path).rows == [
        (2, {"image": "1.png", "age": "30", "label": "a"}),
        (3, {"image": "2.png", "age": "", "label": "b"}),
    ]
