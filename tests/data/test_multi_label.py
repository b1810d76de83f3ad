"""Several findings per image: tables of a column each or a joined one, what is unknown, and what is refused."""

from pathlib import Path

import findings
import numpy as np
import pandas as pd
import pytest
import small
from conftest import load, run
from test_layouts import touch, write

from xraylab import tables, targets
from xraylab.data import layouts
from xraylab.data.audit import audit
from xraylab.data.layouts import labels
from xraylab.data.layouts.records import Dataset, TableConfig
from xraylab.errors import DataError, ParamsError
from xraylab.stages import fetch, index, source
from xraylab.task import MULTI_LABEL

FILMS = ["films/1.png", "films/2.png", "films/3.png", "films/4.png"]


def read(
    raw: Path,
    classes: list[str] | None = None,
    labels: dict[str, list[str]] | None = None,
    layout: str = "auto",
    **tables: object,
) -> Dataset:
    config = TableConfig.of(tables.get("table"), tables.get("columns"))
    return layouts.read(raw, layout, classes, labels, None, config, MULTI_LABEL)


def refusal(raw: Path, *arguments: object, **others: object) -> str:
    with pytest.raises(DataError) as caught:
        read(raw, *arguments, **others)
    return str(caught.value)


def rows(dataset: Dataset) -> dict[str, list[int | None]]:
    """The labels of each image by the name of its file, None where nobody gave one."""
    columns = dataset.table[targets.of_table(dataset.table)]
    cells = [[None if pd.isna(value) else int(value) for value in row] for row in columns.astype(object).to_numpy()]
    return dict(zip(dataset.table["path"].str.split("/").str[-1], cells, strict=True))


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A table with a column per finding."""
    write(
        touch(tmp_path, FILMS), "list.csv",
        "Image,Patient,Sex,Edema,Pleural Effusion,Mass",
        "1.png,a,M,1,0,", "2.png,b,F,-1,1.0,0", "3.png,b,F,yes,No,", "4.png,c,M,,,1",
    )  # fmt: skip
    return tmp_path


def test_a_column_per_finding_says_1_0_uncertain_or_nothing(wide: Path) -> None:
    dataset = read(wide, ["Pleural Effusion", "Edema"])
    assert dataset.layout == "table"
    assert rows(dataset) == {"1.png": [0, 1], "2.png": [1, -1], "3.png": [0, 1]}
    assert list(dataset.table["label"]) == ["Edema", "Pleural Effusion", "Edema"]
    assert list(dataset.table["patient"]) == ["a", "b", "b"]
    assert dataset.left_out == {"none of data.classes is labelled": 1}
    assert dataset.not_studied == {"Mass": 1}


def test_without_classes_every_column_of_such_cells_is_a_finding(wide: Path) -> None:
    dataset = read(wide)
    assert targets.of_table(dataset.table) == ["y_Edema", "y_Mass", "y_Pleural Effusion"]
    assert rows(dataset)["4.png"] == [None, 1, None]


def test_labels_of_the_data_make_up_a_finding(wide: Path) -> None:
    """There if one is; uncertain before unknown; unknown before absent."""
    dataset = read(wide, labels={"Wet": ["Edema", "Pleural Effusion"], "Mass": ["Mass"]})
    assert rows(dataset) == {"1.png": [1, None], "2.png": [1, 0], "3.png": [1, None], "4.png": [None, 1]}
    write(wide, "list.csv", "image,A,B,C", "1.png,0,-1,1", "2.png,0,,1", "3.png,,-1,1", "4.png,1,-1,1")
    dataset = read(wide, labels={"AB": ["A", "B"], "C": ["C"]})
    assert [row[0] for row in rows(dataset).values()] == [-1, None, -1, 1]


def test_a_joined_column_says_all_that_is_there(tmp_path: Path) -> None:
    write(
        touch(tmp_path, FILMS), "list.csv",
        "image,Finding Labels", "1.png,Mass|Edema", "2.png,No Finding", "3.png,Hernia", "4.png,",
    )  # fmt: skip
    dataset = read(tmp_path, ["Edema", "Mass"])
    assert rows(dataset) == {"1.png": [1, 1], "2.png": [0, 0], "3.png": [0, 0]}
    assert list(dataset.table["label"]) == ["Edema|Mass", "No Finding", "No Finding"]
    assert dataset.left_out == {"unlabelled": 1}
    assert dataset.not_studied == {"Hernia": 1, "No Finding": 1}
    assert rows(read(tmp_path, ["No Finding", "Mass"])) == {"1.png": [0, 1], "2.png": [1, 0], "3.png": [0, 0]}


def test_several_rows_of_one_image_name_its_findings_one_by_one(tmp_path: Path) -> None:
    write(
        touch(tmp_path, FILMS), "boxes.csv",
        "image,finding,x", "1.png,Mass,3", "1.png,Edema,7", "1.png,Mass,9", "2.png,No Finding,", "3.png,Edema,1",
    )  # fmt: skip
    assert rows(read(tmp_path, ["Edema", "Mass"])) == {"1.png": [1, 1], "2.png": [0, 0], "3.png": [1, 0]}


def test_rows_that_contradict_one_another_are_refused(wide: Path) -> None:
    write(wide, "list.csv", "image,Edema,Mass", "1.png,1,", "1.png,0,1", "2.png,0,0", "3.png,,")
    assert refusal(wide, ["Edema", "Mass"]) == (
        "list.csv: rows of one image contradict one another: films/1.png (Edema 1, then 0)"
    )
    write(wide, "list.csv", "image,Edema,Mass", "1.png,1,", "1.png,,1", "2.png,0,0", "3.png,,")
    assert rows(read(wide, ["Edema", "Mass"])) == {"1.png": [1, 1], "2.png": [0, 0]}


def test_a_cell_that_is_no_label_is_named(wide: Path) -> None:
    write(wide, "list.csv", "image,Edema,Mass", "1.png,1,0", "2.png,2,0", "3.png,0,1")
    assert refusal(wide, ["Edema", "Mass"]) == (
        "list.csv, line 3: Edema is '2', not 1, 0, -1 (uncertain) or empty (not labelled)"
    )


def test_a_finding_that_no_image_has_is_named_with_the_nearest(wide: Path) -> None:
    assert refusal(wide, ["Edema", "Pleural effusion"]) == (
        "data.classes names Edema, Pleural effusion; the source has Edema (2), Mass (1), Pleural Effusion (1). "
        "Set data.classes or data.labels:\n"
        "  - no image has Pleural effusion\n"
        "  - Pleural effusion: did you mean Pleural Effusion?\n"
        '  - or paste below data: in params.yaml: labels: {"Edema": ["Edema"], '
        '"Pleural effusion": ["Pleural Effusion"]}'
    )


def test_a_column_of_labels_that_data_columns_names_goes_before_columns_of_findings(tmp_path: Path) -> None:
    write(
        touch(tmp_path, FILMS),
        "list.csv",
        "image,all,Edema,Mass",
        "1.png,Mass,1,0",
        "2.png,Edema,0,1",
        "3.png,Mass,0,1",
    )
    dataset = read(tmp_path, ["Edema", "Mass"], columns={"label": "all"})
    assert rows(dataset) == {"1.png": [0, 1], "2.png": [1, 0], "3.png": [0, 1]}


def test_nih_s_table_has_each_finding_and_the_official_split(tmp_path: Path) -> None:
    names = ["00000001_000.png", "00000001_001.png", "00000002_000.png", "00000003_000.png"]
    touch(tmp_path, [f"images_001/images/{name}" for name in names])
    write(
        tmp_path, "Data_Entry_2017.csv",
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],",
        f"{names[0]},Cardiomegaly|Effusion,0,1,058Y,M,PA,2682,2749,0.143,0.143,",
        f"{names[1]},No Finding,1,1,058Y,M,PA,2682,2749,0.143,0.143,",
        f"{names[2]},Hernia,0,2,081Y,F,AP,2500,2048,0.168,0.168,",
        f"{names[3]},Effusion,0,3,080Y,M,PA,2500,2048,0.168,0.168,",
    )  # fmt: skip
    write(tmp_path, "train_val_list.txt", *names[:2])
    write(tmp_path, "test_list.txt", *names[2:])
    dataset = read(tmp_path, ["Cardiomegaly", "Effusion"])
    assert dataset.layout == "nih"
    assert list(rows(dataset).values()) == [[1, 1], [0, 0], [0, 0], [0, 1]]
    assert list(dataset.table["split"]) == ["train", "train", "test", "test"]
    assert list(dataset.table["patient"]) == ["00000001", "00000001", "00000002", "00000003"]
    assert dataset.not_studied == {"Hernia": 1, "No Finding": 1}


def test_the_index_has_a_column_per_finding(several_findings: Path) -> None:
    table = tables.read(several_findings / "data/index.csv")
    cells = tables.read(several_findings.parent / "images/labels.csv", ("image",))
    values = targets.values(table, findings.FINDINGS)
    expected = cells[findings.FINDINGS].apply(lambda column: column.replace("", np.nan).astype(float)).to_numpy()
    np.testing.assert_array_equal(values, expected[~np.isnan(expected).all(axis=1)])
    assert set(np.unique(values[~np.isnan(values)])) == {-1, 0, 1}
    assert list(table["label"]) == [targets.joined(row, findings.FINDINGS) for row in values]


@pytest.fixture
def two_sources(tmp_path: Path) -> small.Change:
    """One that labels Edema and Mass, a column each; and one of joined labels, whose findings are Mass and Effusion."""
    small.write_images(tmp_path / "wide", FILMS, seed=1)
    write(tmp_path / "wide", "list.csv", "image,patient,Edema,Mass", "1.png,a,1,0", "2.png,b,-1,", "3.png,b,0,1")
    small.write_images(tmp_path / "joined", FILMS, seed=2)
    write(
        tmp_path / "joined", "list.csv",
        "image,patient,labels", "1.png,a,mass|Effusion", "2.png,b,Hernia", "3.png,c,Effusion", "4.png,c,mass",
    )  # fmt: skip
    sources = [{"name": "one", "path": str(tmp_path / "wide")}, {"name": "other", "path": str(tmp_path / "joined")}]

    def change(tree: small.Tree) -> None:
        tree["data"].update(source=sources, classes=["Effusion", "Edema", "Mass"], positive=None, task="multi-label")
        tree["loss"].update(name="bce")

    return change


def test_findings_that_a_source_does_not_label_are_unknown_there(tmp_path: Path, two_sources: small.Change) -> None:
    _, paths = run(load(small.study(tmp_path / "study", two_sources)), source, fetch, index)
    table = tables.read(paths.index)
    assert dict(zip(table["id"], targets.values(table, ["Effusion", "Edema", "Mass"]).tolist(), strict=True)) == {
        "one/films/1.png": [pytest.approx(np.nan, nan_ok=True), 1, 0],
        "one/films/2.png": [pytest.approx(np.nan, nan_ok=True), -1, pytest.approx(np.nan, nan_ok=True)],
        "one/films/3.png": [pytest.approx(np.nan, nan_ok=True), 0, 1],
        "other/films/1.png": [1, pytest.approx(np.nan, nan_ok=True), 1],
        "other/films/2.png": [0, pytest.approx(np.nan, nan_ok=True), 0],
        "other/films/3.png": [1, pytest.approx(np.nan, nan_ok=True), 0],
        "other/films/4.png": [0, pytest.approx(np.nan, nan_ok=True), 1],
    }
    assert list(table["label"]) == ["Edema", "No Finding", "Mass", "Effusion|Mass", "No Finding", "Effusion", "Mass"]
    assert list(table["patient"][:2]) == ["one/a", "one/b"]


def test_a_finding_that_no_source_has_is_refused(tmp_path: Path, two_sources: small.Change) -> None:
    study = small.study(tmp_path / "study", two_sources)
    small.edit(study, lambda tree: tree["data"].update(classes=["Effusion", "Edema", "Hernias"]))
    with pytest.raises(DataError) as caught:
        run(load(study), source)
    assert str(caught.value) == (
        "data.source: no source has an image of Hernias: set data.classes, or the labels of a source:\n"
        "  - one has Edema (1)\n  - other has Effusion (2)"
    )


def test_what_belongs_to_the_other_task_is_refused(tmp_path: Path, two_sources: small.Change) -> None:
    study = small.study(tmp_path / "study", two_sources)

    def change(tree: small.Tree) -> None:
        tree["data"]["source"][0]["ignore"] = "others"
        tree["data"]["source"][1]["path"] = "demo"

    small.edit(study, change)
    with pytest.raises(ParamsError) as caught:
        load(study)
    assert list(caught.value.problems) == [
        "data.demo.task: the demo's films are single-label, and data.task is multi-label: set both to the same",
        "data.source.0.ignore: belongs to task: single-label; here a label that no finding names is not studied",
    ]


def test_a_study_of_one_class_per_image_says_that_the_data_have_several_findings(wide: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        layouts.read(wide, "auto", ["Edema", "Mass"], None, None)
    assert str(caught.value).endswith(
        "  - list.csv: has findings (Edema, Pleural Effusion, Mass), a column each: set data.task: multi-label"
    )
    (wide / "list.csv").unlink()
    write(wide, "list.csv", "image,label", "1.png,Edema|Mass", "2.png,Mass", "3.png,Hernia")
    with pytest.raises(DataError) as caught:
        layouts.read(wide, "auto", ["Edema", "Mass"], None, None)
    assert str(caught.value).endswith(f"  - {labels.SEVERAL}")
    assert labels.SEVERAL.startswith("images have several findings each: with data.task: multi-label")


def test_the_audit_of_a_folder_reads_its_findings(wide: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two folders with findings together; beside one of classes, joined labels."""
    small.write_images(wide, FILMS)
    other = findings.images(tmp_path_factory.mktemp("other") / "films", count=12)
    counts = audit.audit_folders([wide, other], "auto", None).record.classes
    assert list(counts) == ["Cardiomegaly", "Edema", "Effusion", "Mass", "Pleural Effusion"]
    assert counts["Mass"] == {"images": 1, "patients": 1, "negative": 1, "uncertain": 0, "missing": 14}
    classes = small.two_classes(tmp_path_factory.mktemp("two") / "films", healthy=3, tb=3)
    together = audit.audit_folders([wide, classes], "auto", None).record.classes
    assert {name: count["images"] for name, count in together.items()} == {
        "Edema": 2, "Healthy": 3, "Mass": 1, "Pleural Effusion": 1, "TB": 3,
    }  # fmt: skip
