"""Data sets are recognised by their shape, and read with their labels, patients and splits."""

import typing
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from xraylab.data import layouts
from xraylab.data.layouts import records
from xraylab.data.layouts.listing import walk
from xraylab.data.layouts.records import Dataset
from xraylab.errors import DataError, MissingError
from xraylab.params import names


def touch(folder: Path, names: list[str], text: str = "") -> Path:
    """Files by name: a layout is told without a look into the images."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def write(folder: Path, name: str, *lines: str) -> None:
    touch(folder, [name], "\n".join(lines) + "\n")


def auto(
    raw: Path,
    classes: list[str] | None = None,
    labels: dict[str, list[str]] | None = None,
    patient: str | None = None,
) -> Dataset:
    return layouts.read(raw, "auto", classes, labels, patient)


def column(found: Dataset, name: str) -> dict[str, str]:
    """The column's cells by id."""
    return dict(zip(found.table["id"], found.table[name], strict=True))


def refusal(raw: Path, name: str = "auto", classes: list[str] | None = None, **others: typing.Any) -> str:
    """What the error says."""
    with pytest.raises(DataError) as caught:
        layouts.read(raw, name, classes, others.get("labels"), others.get("patient"))
    return str(caught.value)


# --- what holds for all


def test_the_layouts_are_those_of_params() -> None:
    first, *others = names.BUILT_IN["layout"]
    assert ("auto", *sorted(layouts.LAYOUTS)) == (first, *sorted(others))
    assert list(layouts.LAYOUTS)[-1] == "class-folders"


def test_a_table_has_the_same_text_columns_whatever_the_layout(tmp_path: Path) -> None:
    found = auto(touch(tmp_path, ["A/1.png", "B/1.png"]))
    names = ["id", "path", "label", "patient", "split", "source", "sex", "age", "view"]
    assert list(found.table.columns) == names
    assert found.table.loc[0].tolist() == ["A/1.png", "A/1.png", "A", "", "", "", "", "", ""]
    assert all(pd.api.types.is_string_dtype(found.table[name]) for name in names)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError) as caught:
        auto(tmp_path / "raw")
    assert str(caught.value) == f"{tmp_path}/raw does not exist: `dvc repro` makes it"


def test_hidden_files_and_links_to_folders_are_not_looked_at(tmp_path: Path) -> None:
    outside = touch(tmp_path / "outside", ["9.png"])
    names = ["A/1.png", "B/1.png", "A/.x.png", ".git/1.png", "__MACOSX/A/1.png", "A/.DS_Store", "B/Thumbs.db"]
    raw = touch(tmp_path / "raw", names)
    (raw / "C").symlink_to(outside)
    (raw / "A/2.png").symlink_to(outside / "9.png")
    assert walk(raw).images == ["A/1.png", "A/2.png", "B/1.png"]
    assert auto(raw, ["A", "B"]).left_out == {}


def test_classes_that_the_source_calls_otherwise_are_named_with_the_nearest_and_labels_to_paste(tmp_path: Path) -> None:
    touch(tmp_path, ["normal/1.png", "normal/2.PNG", "tb/1.jpg", "notes.csv"])
    message = refusal(tmp_path, classes=["Healthy", "TB"])
    assert message == (
        "data.classes names Healthy, TB; the source has normal (2), tb (1). Set data.classes or data.labels:\n"
        "  - Healthy: did you mean normal?\n"
        "  - TB: did you mean tb?\n"
        '  - or paste below data: in params.yaml: labels: {"Healthy": ["normal"], "TB": ["tb"]}'
    )
    labels = YAML(typ="safe").load("{" + message.partition("yaml: ")[2] + "}")["labels"]
    assert list(auto(tmp_path, ["Healthy", "TB"], labels).table["label"]) == ["Healthy", "Healthy", "TB"]


def test_a_source_without_images_says_what_counts_as_one(tmp_path: Path) -> None:
    assert refusal(touch(tmp_path, ["A/notes.txt"])) == (
        "no images found in the source:\n"
        "  - folders: none\n"
        "  - images: 0 (.png .jpg .jpeg .webp .tif .tiff .bmp .dcm .dicom)\n"
        "  - tables: none"
    )


def test_images_without_labels_say_the_three_ways_to_give_them(tmp_path: Path) -> None:
    touch(tmp_path, ["png/1.png", "png/2.png"])
    write(tmp_path, "data.csv", "image_id,Alter", "1,30", "2,40")
    message = refusal(tmp_path, classes=["A", "B"])
    assert message.startswith(
        "no classes found: put the images of each class into a folder of its name; or lay a table"
    )
    assert message.endswith(
        "  - folders: png\n  - images: 2 (.png 2)\n  - tables: data.csv\n"
        "  - data.csv: has a column of the image (image_id), and none of labels that is known by its name; "
        "its columns are image_id, alter: write data.columns: {label: ...}, "
        "or --column label=NAME with `xraylab new` and `xraylab init`"
    )


SEEN = "  - folders: A, B\n  - images: 2 (.png 2)\n  - tables: none"


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("tbx11k", "imgs/ with the folders health, sick and tb, or images/ with the simplified data.csv"),
        ("covid-radiography", "class folders that hold images/ and masks/, or lie beside their .metadata.xlsx"),
        ("covidx", "the folders train and test, and train.txt and test.txt that list their images"),
        ("kermany", "the folders train and test, each with NORMAL and PNEUMONIA"),
        ("acse4", "train/ with a folder per class, and test/ with images and no folders"),
        ("nih", "Data_Entry_2017*.csv with the columns Image Index, Finding Labels and those of the patient"),
        ("shenzhen", "images named as CHNCXR_0001_0.png or MCUCXR_0001_0.png"),
        (
            "table",
            "a table with a column for the file (such as path, file, filename, image, imagepath, filepath) and one for "
            "the label (such as label, labels, class, target, finding); data.columns says what they are called",
        ),
    ],
)
def test_a_named_layout_that_does_not_fit_says_what_it_needs(name: str, needs: str, tmp_path: Path) -> None:
    touch(tmp_path, ["A/1.png", "B/1.png"])
    assert refusal(tmp_path, name, ["A", "B"]) == f"data.layout: {name} needs {needs}; the source has\n{SEEN}"


def test_a_named_layout_is_read_though_another_would_be_detected(tmp_path: Path) -> None:
    touch(tmp_path, ["train/NORMAL/IM-0001-0001.jpeg", "train/PNEUMONIA/person1_virus_1.jpeg"])
    touch(tmp_path, ["test/NORMAL/IM-0002-0001.jpeg", "test/PNEUMONIA/person2_virus_1.jpeg"])
    found = layouts.read(tmp_path, "class-folders", ["NORMAL", "PNEUMONIA"], None, None)
    assert (found.layout, found.why) == ("class-folders", "named by data.layout")
    assert found.patients == "file names of Kermany"
    assert auto(tmp_path).layout == "kermany"


def test_labels_of_the_data_become_classes_of_the_study(tmp_path: Path) -> None:
    touch(tmp_path, ["h/2.png", "s/1.png", "h/10.png", "t/1.png", "other/1.png"])
    found = auto(tmp_path, ["ill", "well"], {"well": ["h", "s"], "ill": ["t"]})
    assert list(found.table["id"]) == ["t/1.png", "h/2.png", "h/10.png", "s/1.png"]
    assert list(found.table["label"]) == ["ill", "well", "well", "well"]
    assert found.left_out == {"folder other": 1}


# --- class folders


def test_class_folders_are_found_below_a_chain_of_single_folders(tmp_path: Path) -> None:
    touch(tmp_path / "archive/data", ["B/2.png", "B/10.png", "B/deep/1.JPG", "A/1.png", "masks/1.png", "read.me"])
    found = auto(tmp_path, ["A", "B"])
    assert (found.layout, found.why) == ("class-folders", "images lie in folders named A, B")
    assert found.top == tmp_path / "archive/data"
    assert list(found.table["id"]) == ["A/1.png", "B/2.png", "B/10.png", "B/deep/1.JPG"]
    assert list(found.table["path"]) == [f"archive/data/{name}" for name in found.table["id"]]
    assert list(found.table["label"]) == ["A", "B", "B", "B"]
    assert found.left_out == {"folder masks": 1}


def test_missing_and_empty_class_folders_are_named_together(tmp_path: Path) -> None:
    touch(tmp_path, ["A/1.png", "Extra/1.png", "Extra/2.png", "B/notes.txt"])
    assert refusal(tmp_path, classes=["A", "B", "C"]) == (
        "data.classes names A, B, C; the source has A (1), Extra (2). Rename the folders, or set data.classes or "
        "data.labels:\n"
        "  - B/ holds no image (.png .jpg .jpeg .webp .tif .tiff .bmp .dcm .dicom)\n"
        "  - C/ does not exist\n"
        '  - or paste below data: in params.yaml: labels: {"A": ["A"], "B": ["LABEL"], "C": ["LABEL"]}'
    )
    assert refusal(tmp_path, classes=["x", "y"], labels={"x": ["A"], "y": ["C", "B"]}).endswith(
        "  - y: C/ does not exist, B/ holds no image (.png .jpg .jpeg .webp .tif .tiff .bmp .dcm .dicom)\n"
        "  - y: did you mean Extra?\n"
        '  - or paste below data: in params.yaml: labels: {"x": ["A"], "y": ["Extra"]}'
    )


def test_sides_are_folders_above_or_below_the_class(tmp_path: Path) -> None:
    names = ["Training/A/1.png", "val/A/images/1.png", "TEST/B/1.png", "B/testing/2.png", "B/3.png"]
    touch(tmp_path, names)
    splits = ["train", "valid", "test", "test", ""]
    assert column(auto(tmp_path, ["A", "B"]), "split") == dict(zip(names, splits, strict=True))
    assert column(auto(tmp_path), "split") == dict(zip(names, splits, strict=True))
    assert column(auto(tmp_path), "label") == dict(zip(names, "AABBB", strict=True))


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    found = auto(touch(tmp_path, ["test/1.png", "other/train/1.png"]), ["test", "other"])
    assert column(found, "split") == {"test/1.png": "", "other/train/1.png": "train"}


def test_folder_names_match_labels_exactly_and_the_nearest_counts(tmp_path: Path) -> None:
    found = auto(touch(tmp_path, ["A/1.png", "a/1.png", "A/B/1.png", "loose.png"]), ["A", "B"])
    assert column(found, "label") == {"A/1.png": "A", "A/B/1.png": "B"}
    assert found.left_out == {"folder a": 1, "not in a folder": 1}


def test_masks_above_or_below_a_class_folder_are_no_images_of_it(tmp_path: Path) -> None:
    touch(tmp_path / "with_masks", ["A/1.png", "A/lungMask/1.png", "B/1.png", "masks/B/1.png"])
    for classes in (["A", "B"], None):
        found = auto(tmp_path, classes)
        assert list(found.table["id"]) == ["A/1.png", "B/1.png"]
        assert found.left_out == {"masks": 2}


def test_a_wanted_class_may_be_called_a_mask(tmp_path: Path) -> None:
    assert len(auto(touch(tmp_path, ["masked/1.png", "B/1.png"]), ["masked", "B"]).table) == 2


def test_without_classes_every_label_is_read(tmp_path: Path) -> None:
    found = auto(touch(tmp_path, ["x/B10/1.png", "x/B9/images/1.png", "masks/1.png"]))
    assert found.why == "images lie in folders, and no other layout fits"
    assert column(found, "label") == {"x/B9/images/1.png": "B9", "x/B10/1.png": "B10"}
    assert list(found.table["label"]) == ["B9", "B10"]
    assert found.left_out == {"folder masks": 1}


@pytest.mark.parametrize("folder", ["", "png/", "images/deep/"])
def test_a_folder_of_images_alone_is_no_class(folder: str, tmp_path: Path) -> None:
    found = auto(touch(tmp_path / "dicom", [f"{folder}1.dcm", f"{folder}2.dcm"]))
    assert set(found.table["label"]) == {"unlabelled"}
    assert found.tables[-1].startswith("no classes found: put the images of each class into a folder of its name; or")


DEMO = ["Healthy/h1.png", "Healthy/h2.png", "Healthy/h3.png", "TB/tb1.png", "masks/tb1.png"]


@pytest.mark.parametrize("classes", [["Healthy", "TB"], None])
def test_the_demo_is_one_of_class_folders_whatever_its_tables_say(classes: list[str] | None, tmp_path: Path) -> None:
    touch(tmp_path, DEMO)
    write(tmp_path, "findings.csv", "image,finding,subtlety", "TB/tb1.png,cavity,0.5", "TB/tb1.png,nodule,0.2")
    people = ["Healthy/h1.png,p2,30,F", "Healthy/h2.png,p2,31,F", "Healthy/h3.png,p3,150,M", "TB/tb1.png,007,0,x"]
    write(tmp_path, "patients.csv", "image,patient,age,sex", *people)
    found = auto(tmp_path, classes)
    assert (found.layout, found.patients, found.left_out) == ("class-folders", "patients.csv", {"folder masks": 1})
    assert found.tables == ["findings.csv: where the masks' findings are, which explain reads"]
    rows = found.table[["id", "patient", "age", "sex"]].values.tolist()
    assert rows == [
        ["Healthy/h1.png", "p2", "30", "F"],
        ["Healthy/h2.png", "p2", "31", "F"],
        ["Healthy/h3.png", "p3", "", "M"],
        ["TB/tb1.png", "007", "0", ""],
    ]


# --- patients


def test_patients_come_from_a_pattern_a_file_or_nowhere(tmp_path: Path) -> None:
    touch(tmp_path, ["A/p1_0.png", "A/p1_1.png", "B/p2_0.png"])
    found = auto(tmp_path, ["A", "B"])
    assert (list(found.table["patient"]), found.patients) == (["", "", ""], "unknown")
    write(tmp_path, "patients.csv", "image,patient", "B/p2_0.png,z", "A/p1_0.png,007", "A/p1_1.png,007")
    found = auto(tmp_path, ["A", "B"])
    assert (list(found.table["patient"]), found.patients) == (["007", "007", "z"], "patients.csv")
    found = auto(tmp_path, ["A", "B"], patient=r"^(?P<patient>p\d+)_")
    assert (list(found.table["patient"]), found.patients) == (["p1", "p1", "p2"], "pattern")


def test_images_without_a_patient_are_named(tmp_path: Path) -> None:
    touch(tmp_path, ["A/1.png", "A/p2.png"])
    assert refusal(tmp_path, classes=["A"], patient=r"(?P<patient>p\d+)") == (
        r"data.patient: '(?P<patient>p\\d+)' finds no patient in the name of A/1.png"
    )
    assert list(auto(tmp_path, ["A"], patient=r"^(?P<patient>p\d+)?").table["patient"]) == ["", "p2"]
    write(tmp_path, "patients.csv", "image,patient", "A/1.png,x")
    assert refusal(tmp_path, classes=["A"]) == "patients.csv: says nothing about A/p2.png"
    write(tmp_path, "patients.csv", "image,patient", "A/1.png,x", "A/1.png,y", "A/p2.png,y")
    assert refusal(tmp_path, classes=["A"]) == "patients.csv: lists A/1.png twice"
    write(tmp_path, "patients.csv", "image,who", "A/1.png,x")
    assert refusal(tmp_path, classes=["A"]) == "patients.csv: needs the columns image and patient, has image, who"


def test_a_pattern_replaces_the_patients_that_a_layout_knows(tmp_path: Path) -> None:
    kermany(tmp_path / "chest_xray")
    found = auto(tmp_path, patient=r"(?P<patient>\d+|other)")
    assert found.patients == "pattern"
    assert column(found, "patient")["train/PNEUMONIA/person1_virus_6.jpeg"] == "1"


# --- TBX11K


def test_tbx11k_has_labels_by_folder_and_unlabelled_images(tmp_path: Path) -> None:
    imgs = ["health/h0001.png", "sick/s0001.png", "tb/tb0001.png", "test/test_0001.png", "extra/da+db/1.png"]
    touch(tmp_path / "TBX11K", [*(f"imgs/{name}" for name in imgs), "lists/all_train.txt", "other/1.png"])
    found = auto(tmp_path, ["health", "tb"])
    assert (found.layout, found.why) == ("tbx11k", "TBX11K/imgs/ holds the folders health, sick, tb")
    assert column(found, "label") == {"health/h0001.png": "health", "tb/tb0001.png": "tb"}
    assert found.left_out == {
        "unlabelled test": 1,
        "extra": 1,
        "folder TBX11K": 1,
        "label not in data.classes: sick": 1,
    }


TBX11K_HEADER = "fname,image_height,image_width,source,bbox,target,tb_type,image_type"


def test_tbx11k_simplified_has_a_row_per_box(tmp_path: Path) -> None:
    touch(tmp_path, ["images/h1.png", "images/t1.png", "images/s1.png", "images/x.png", "test/u.png"])
    box = "\"{'xmin': 1, 'ymin': 2, 'width': 3, 'height': 4}\""
    rows = [
        "h1.png,512,512,train,none,no_tb,none,healthy",
        f"t1.png,512,512,val,{box},tb,active_tb,tb",
        f"t1.png,512,512,val,{box},tb,latent_tb,tb",
        "s1.png,512,512,Shenzhen,none,no_tb,none,sick_but_no_tb",
        "gone.png,512,512,train,none,no_tb,none,healthy",
        "x.png,512,512,,none,,,",
    ]
    write(tmp_path, "data.csv", TBX11K_HEADER, *rows)
    found = auto(tmp_path, ["healthy", "tb"], {"healthy": ["healthy", "sick_but_no_tb"], "tb": ["tb"]})
    assert (found.layout, found.why) == ("tbx11k", "data.csv has the columns fname, image_type and tb_type")
    rows_read = found.table[["id", "label", "split", "source"]].values.tolist()
    assert rows_read == [
        ["images/h1.png", "healthy", "train", ""],
        ["images/s1.png", "healthy", "", "Shenzhen"],
        ["images/t1.png", "tb", "valid", ""],
    ]
    assert found.left_out == {"unlabelled": 1, "unlabelled test": 1}
    assert found.missing == ["gone.png"]


def test_tbx11k_rows_that_contradict_one_another_are_named(tmp_path: Path) -> None:
    touch(tmp_path, ["images/a.png"])
    write(
        tmp_path, "data.csv", TBX11K_HEADER, "a.png,1,1,train,none,tb,none,tb", "a.png,1,1,train,none,tb,none,healthy"
    )
    assert refusal(tmp_path) == (
        "data.csv: rows of one image contradict one another: images/a.png (label tb, then healthy)"
    )


def test_a_class_without_images_lists_the_labels_of_the_data(tmp_path: Path) -> None:
    touch(tmp_path, ["imgs/health/1.png", "imgs/health/2.png", "imgs/tb/1.png"])
    assert refusal(tmp_path, classes=["Healthy", "TB", "tb"]) == (
        "data.classes names Healthy, TB, tb; the source has health (2), tb (1). Set data.classes or data.labels:\n"
        "  - no image of Healthy\n"
        "  - no image of TB\n"
        "  - Healthy: did you mean health?\n"
        '  - or paste below data: in params.yaml: labels: {"Healthy": ["health"], "TB": ["LABEL"], "tb": ["tb"]}'
    )
    assert "  - no image of b, which is x, y in data.labels\n" in refusal(
        tmp_path, classes=["a", "b"], labels={"a": ["tb"], "b": ["x", "y"]}
    )


# --- COVID-19 Radiography Database


def radiography(folder: Path) -> None:
    names = ["COVID/images/COVID-1.png", "COVID/masks/COVID-1.png", "Viral Pneumonia/images/Viral Pneumonia-1.png"]
    touch(folder, [*names, "Normal/images/Normal-1.png", "Normal/images/Normal-2.png", "Normal/masks/Normal-1.png"])
    sheet = pd.DataFrame(
        {
            "FILE NAME": ["NORMAL-1", "NORMAL-3"],
            "FORMAT": ["PNG", "PNG"],
            "SIZE": ["256*256", "256*256"],
            "URL": ["https://a.example", "https://b.example"],
        }
    )
    sheet.to_excel(folder / "Normal.metadata.xlsx", index=False)


def test_covid_radiography_has_masks_and_sources(tmp_path: Path) -> None:
    radiography(tmp_path / "COVID-19_Radiography_Dataset")
    found = auto(tmp_path)
    assert found.layout == "covid-radiography"
    assert found.why == "COVID, Normal, Viral Pneumonia lie beside their .metadata.xlsx, or hold images and masks"
    assert found.table[["id", "label", "source"]].values.tolist() == [
        ["COVID/images/COVID-1.png", "COVID", ""],
        ["Normal/images/Normal-1.png", "Normal", "https://a.example"],
        ["Normal/images/Normal-2.png", "Normal", ""],
        ["Viral Pneumonia/images/Viral Pneumonia-1.png", "Viral Pneumonia", ""],
    ]
    assert found.left_out == {"masks": 2}
    assert found.missing == ["NORMAL-3"]


def test_a_metadata_sheet_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    radiography(tmp_path)
    pd.DataFrame({"FILE NAME": ["NORMAL-1", "normal-1"], "URL": ["x", "y"]}).to_excel(
        tmp_path / "Normal.metadata.xlsx", index=False
    )
    assert refusal(tmp_path) == "Normal.metadata.xlsx: rows of one image contradict one another: normal-1"
    pd.DataFrame({"NAME": ["x"]}).to_excel(tmp_path / "Normal.metadata.xlsx", index=False)
    assert refusal(tmp_path) == "Normal.metadata.xlsx: needs the columns FILE NAME and URL, has NAME"
    (tmp_path / "Normal.metadata.xlsx").write_text("no sheet")
    assert refusal(tmp_path).startswith("Normal.metadata.xlsx cannot be read: ")


def test_images_folders_without_masks_or_sheets_are_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, ["A/images/1.png", "B/images/1.png"])
    assert auto(tmp_path, ["A", "B"]).layout == "class-folders"
    touch(tmp_path, ["A/masks/1.png", "C/1.png"])
    assert auto(tmp_path, ["A", "B", "C"]).layout == "class-folders"


# --- COVIDx


def test_covidx_lists_patients_files_labels_and_sources(tmp_path: Path) -> None:
    touch(tmp_path / "data", ["train/a.png", "train/COVID (1).png", "train/c.jpg", "train/left.png", "test/a.png"])
    touch(tmp_path / "data", ["val/v.png"])
    write(tmp_path, "data/train_COVIDx9A.txt", "12 a.png COVID-19 cohen", "SIRM patient 3 COVID (1).png COVID-19 sirm")
    write(tmp_path, "data/train.txt", "12 a.png COVID-19 cohen", "p9 c.jpg normal", "", "p8 gone.png normal rsna")
    write(tmp_path, "data/test.txt", "13 a.png normal fig1")
    write(tmp_path, "data/val_COVIDx9A.txt", "14 v.png normal fig1")
    found = auto(tmp_path)
    assert (found.layout, found.patients) == ("covidx", "label files (COVIDx)")
    assert found.why == (
        "data/test.txt, data/train.txt, data/train_COVIDx9A.txt, data/val_COVIDx9A.txt list the images of folders"
    )
    assert found.table[["id", "label", "patient", "split", "source"]].values.tolist() == [
        ["train/COVID (1).png", "COVID-19", "SIRM patient 3", "train", "sirm"],
        ["train/a.png", "COVID-19", "12", "train", "cohen"],
        ["test/a.png", "normal", "13", "test", "fig1"],
        ["train/c.jpg", "normal", "p9", "train", ""],
        ["val/v.png", "normal", "14", "valid", "fig1"],
    ]
    assert found.left_out == {"no row in a label file": 1}
    assert found.missing == ["gone.png"]


def test_covidx_lines_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    touch(tmp_path, ["train/1.png", "train/a 1.png", "test/b.png"])
    write(tmp_path, "train.txt", "p 1.png normal", "a.png normal", "", "p a 1.png normal x", "p 1.png normal x y")
    write(tmp_path, "test.txt", "p b.png normal")
    assert refusal(tmp_path) == (
        "label files: a line is `patient file label` or `patient file label source`:\n"
        "  - train.txt, line 2: 'a.png normal'\n"
        "  - train.txt, line 4: 'p a 1.png normal x' names 1.png or a 1.png\n"
        "  - train.txt, line 5: 'p 1.png normal x y'"
    )


def test_covidx_releases_that_contradict_one_another_are_named(tmp_path: Path) -> None:
    touch(tmp_path, ["train/1.png"])
    write(tmp_path, "train_COVIDx9A.txt", "p 1.png COVID-19 x")
    write(tmp_path, "train_COVIDx9B.txt", "p 1.png positive x")
    assert refusal(tmp_path) == (
        "train_COVIDx9A.txt, train_COVIDx9B.txt: rows of one image contradict one another: "
        "train/1.png (label COVID-19, then positive)"
    )


def test_lists_of_class_folders_are_not_covidx(tmp_path: Path) -> None:
    touch(tmp_path, ["train/A/1.png", "train/B/1.png", "test/A/1.png"])
    write(tmp_path, "train.txt", "p 1.png A")
    assert auto(tmp_path, ["A", "B"]).layout == "class-folders"


# --- Kermany


def kermany(folder: Path) -> None:
    names = ["NORMAL/IM-0115-0001.jpeg", "NORMAL/NORMAL2-IM-0927-0001.jpeg", "PNEUMONIA/person1_bacteria_2.jpeg"]
    touch(folder, [f"train/{name}" for name in [*names, "PNEUMONIA/person1_virus_6.jpeg", ".DS_Store"]])
    touch(folder, ["val/NORMAL/other.jpeg", "val/PNEUMONIA/person9_virus_1.jpeg"])
    touch(folder, ["test/NORMAL/IM-0001-0001-0002.jpeg", "test/PNEUMONIA/person1_bacteria_7.jpeg"])


PATIENTS = {
    "train/NORMAL/IM-0115-0001.jpeg": "IM-0115",
    "train/NORMAL/NORMAL2-IM-0927-0001.jpeg": "NORMAL2-IM-0927",
    "train/PNEUMONIA/person1_bacteria_2.jpeg": "person1_bacteria",
    "train/PNEUMONIA/person1_virus_6.jpeg": "person1_virus",
    "val/NORMAL/other.jpeg": "",
    "val/PNEUMONIA/person9_virus_1.jpeg": "person9_virus",
    "test/NORMAL/IM-0001-0001-0002.jpeg": "IM-0001",
    "test/PNEUMONIA/person1_bacteria_7.jpeg": "person1_bacteria",
}


@pytest.mark.parametrize("classes", [["NORMAL", "PNEUMONIA"], None])
def test_kermany_names_tell_patients(classes: list[str] | None, tmp_path: Path) -> None:
    kermany(tmp_path / "chest_xray")
    found = auto(tmp_path, classes)
    assert (found.layout, found.patients, found.left_out) == ("kermany", "file names (Kermany)", {})
    assert found.why == (
        "chest_xray/train and test hold NORMAL and PNEUMONIA, with files named as those of Kermany et al."
    )
    assert column(found, "patient") == PATIENTS
    assert column(found, "split") == {
        name: {"val": "valid"}.get(name.split("/")[0], name.split("/")[0]) for name in PATIENTS
    }
    assert list(found.table["label"]) == ["NORMAL"] * 4 + ["PNEUMONIA"] * 4


def test_the_second_copy_in_kermanys_download_is_left_out(tmp_path: Path) -> None:
    kermany(tmp_path / "chest_xray")
    kermany(tmp_path / "chest_xray/chest_xray")
    touch(tmp_path, ["chest_xray/__MACOSX/._x.jpeg", "chest_xray/more/1.jpeg"])
    found = auto(tmp_path)
    assert found.top == tmp_path / "chest_xray"
    assert column(found, "patient") == PATIENTS
    assert found.left_out == {"second copy of the tree": 8, "folder more": 1}


def test_kermanys_folders_with_other_files_are_class_folders(tmp_path: Path) -> None:
    touch(
        tmp_path, [f"{split}/{label}/{split}1.png" for split in ("train", "test") for label in ("NORMAL", "PNEUMONIA")]
    )
    assert auto(tmp_path, ["NORMAL", "PNEUMONIA"]).layout == "class-folders"


# --- ACSE-4


def test_acse4_has_an_unlabelled_test_split(tmp_path: Path) -> None:
    touch(tmp_path / "xray-data/xray-data", ["train/covid/1.jpg", "train/normal/1.jpg", "test/t1.jpg", "test/t2.jpg"])
    found = auto(tmp_path, ["covid", "normal"])
    assert (found.layout, found.patients) == ("acse4", "unknown")
    assert found.why == "xray-data/xray-data/train holds class folders, and test images without any"
    assert column(found, "split") == {"train/covid/1.jpg": "train", "train/normal/1.jpg": "train"}
    assert found.left_out == {"unlabelled": 2}
    touch(tmp_path / "xray-data/xray-data", ["test/covid/1.jpg"])
    assert auto(tmp_path, ["covid", "normal"]).layout == "class-folders"


# --- NIH


NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)


def nih(folder: Path) -> None:
    touch(folder, ["images_001/images/00000001_000.png", "images_001/images/00000001_001.png"])
    touch(folder, ["images_002/images/00000002_000.png", "images_002/images/00000003_000.png", "images_002/x.png"])
    write(
        folder,
        "Data_Entry_2017.csv",
        NIH_HEADER,
        "00000001_000.png,Cardiomegaly,0,1,058Y,M,PA,2682,2749,0.143,0.143,",
        "00000001_001.png,Cardiomegaly|Effusion,1,1,58,M,PA,2894,2729,0.143,0.143",
        "00000002_000.png,No Finding,0,2,411,F,AP,2500,2048,0.168,0.168,",
        "00000003_000.png,Hernia|Mass,0,3,006M,F,PA,2500,2048,0.168,0.168,",
        "00000004_000.png,Hernia,0,4,6,F,PA,2500,2048,0.168,0.168,",
    )
    write(folder, "train_val_list.txt", "00000001_000.png", "00000001_001.png")
    write(folder, "test_list.txt", "00000002_000.png")


def test_nih_has_findings_patients_and_splits(tmp_path: Path) -> None:
    nih(tmp_path / "archive")
    found = auto(tmp_path)
    assert (found.layout, found.patients) == ("nih", "file names (NIH)")
    assert found.why == "archive/Data_Entry_2017.csv has the columns Image Index and Finding Labels"
    columns = ["label", "patient", "split", "sex", "age", "view"]
    assert found.table[columns].values.tolist() == [
        ["Cardiomegaly", "00000001", "train", "M", "58", "PA"],
        ["Cardiomegaly|Effusion", "00000001", "train", "M", "58", "PA"],
        ["Hernia|Mass", "00000003", "", "F", "0", "PA"],
        ["No Finding", "00000002", "test", "F", "", "AP"],
    ]
    assert found.table["id"][0] == "images_001/images/00000001_000.png"
    assert found.left_out == {"no row in Data_Entry_2017.csv": 1}
    assert found.missing == ["00000004_000.png"]


def test_findings_become_one_class_or_none(tmp_path: Path) -> None:
    nih(tmp_path)
    found = auto(tmp_path, ["heart", "none"], {"heart": ["Cardiomegaly", "Effusion"], "none": ["No Finding"]})
    assert list(found.table["label"]) == ["heart", "heart", "none"]
    assert found.left_out == {"no row in Data_Entry_2017.csv": 1, "no finding of data.labels": 1}
    found = auto(
        tmp_path, ["Cardiomegaly", "Effusion"], {"Cardiomegaly": ["Cardiomegaly"], "Effusion": ["Effusion", "Mass"]}
    )
    assert list(found.table["label"]) == ["Cardiomegaly", "Effusion"]
    assert found.left_out == {
        "no row in Data_Entry_2017.csv": 1,
        "findings of more than one class": 1,
        "label not in data.classes: No Finding": 1,
    }


def test_nih_tables_that_are_broken_or_two_are_named(tmp_path: Path) -> None:
    nih(tmp_path)
    write(tmp_path, "Data_Entry_2017_v2020.csv", NIH_HEADER, "00000001_000.png,Mass")
    assert refusal(tmp_path) == (
        "data.layout: nih: Data_Entry_2017.csv, Data_Entry_2017_v2020.csv all list images and findings: "
        "keep one of them"
    )
    (tmp_path / "Data_Entry_2017.csv").unlink()
    assert refusal(tmp_path) == "Data_Entry_2017_v2020.csv, line 2: 2 cells, the header has 12"


def test_images_of_nih_that_someone_sorted_by_class_stay_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, ["Mass/00000001_000.png", "Hernia/00000002_000.png"])
    write(tmp_path, "Data_Entry_2017.csv", NIH_HEADER, "00000001_000.png,Mass,0,1,058Y,M,PA,1,1,1,1,")
    assert auto(tmp_path, ["Mass", "Hernia"]).layout == "class-folders"


# --- Shenzhen and Montgomery


def test_shenzhen_and_montgomery_have_labels_in_their_names(tmp_path: Path) -> None:
    images = ["China/CXR_png/CHNCXR_0001_0.png", "China/CXR_png/CHNCXR_0400_1.png", "Mont/CXR_png/MCUCXR_0001_0.png"]
    masks = ["China/mask/CHNCXR_0400_1.png", "Mont/ManualMask/leftMask/MCUCXR_0001_0.png"]
    touch(tmp_path, [*images, *masks, "Mont/other.png"])
    write(tmp_path, "China/ClinicalReadings/CHNCXR_0001_0.txt", "Female24yrs", "normal")
    write(tmp_path, "China/ClinicalReadings/CHNCXR_0400_1.txt", "male, 16 months", "PTB")
    reading = ["Patient's Sex: F", "Patient's Age: 026Y", "normal"]
    write(tmp_path, "Mont/ClinicalReadings/MCUCXR_0001_0.txt", *reading)
    found = auto(tmp_path)
    assert (found.layout, found.patients) == ("shenzhen", "unknown")
    assert found.why == "3 of 4 images are named as CHNCXR_0001_0.png, with the label as the last digit"
    assert found.table[["id", "label", "source", "sex", "age", "patient"]].values.tolist() == [
        [images[0], "normal", "Shenzhen", "F", "24", ""],
        [images[2], "normal", "Montgomery", "F", "26", ""],
        [images[1], "tb", "Shenzhen", "M", "1", ""],
    ]
    assert found.left_out == {"masks": 2, "other file names": 1}


def test_an_archive_named_after_its_masks_is_not_all_masks(tmp_path: Path) -> None:
    touch(tmp_path / "chest-xray-masks-and-labels", ["CXR_png/CHNCXR_0001_0.png", "masks/CHNCXR_0001_0.png"])
    found = auto(tmp_path)
    assert list(found.table["id"]) == ["CXR_png/CHNCXR_0001_0.png"]
    assert found.left_out == {"masks": 1}


# --- tables


def test_a_table_tells_all_that_its_columns_hold(tmp_path: Path) -> None:
    touch(tmp_path / "set", ["images/1.png", "images/2.png", "images/3.png", "masks/1.png", "LICENSE"])
    write(
        tmp_path / "set",
        "labels.csv",
        "\ufeffFilename;Class;Patient ID;Split;Source;Gender;Age;View Position;score",
        "images/1.png;ill;007;training;X;male;45yrs;pa;1",
        "images/1.png;ill;007;training;X;male;45yrs;pa;2",
        "2.png;ill|worse;8;val;;F;6M;;3",
        "images\\3.png;;8;test;;;;;4",
        "gone.png;ill;9;;;;;;5",
    )
    write(tmp_path / "set", "patients.csv", "image,patient,label", "images/1.png,x,y")
    found = auto(tmp_path)
    assert (found.layout, found.patients) == ("table", "column patient_id")
    assert found.why == "labels.csv names files in the column filename and labels in class"
    assert found.table.drop(columns="path").values.tolist() == [
        ["images/1.png", "ill", "007", "train", "X", "M", "45", "PA"],
        ["images/2.png", "ill|worse", "8", "valid", "", "F", "0", ""],
    ]
    assert found.left_out == {"no row in labels.csv": 1, "unlabelled": 1}
    assert found.missing == ["gone.png"]


def test_a_table_finds_dicom_files_by_path_name_or_stem(tmp_path: Path) -> None:
    touch(tmp_path, ["a/IM1", "a/1.2.840.113", "b/x.dcm", "b/y.dicom", "notes.txt"])
    write(tmp_path, "list.tsv", "image_id\ttarget", "a/IM1\t0", "1.2.840.113\t1", "x.dcm\t1", "y\t0")
    found = auto(tmp_path, ["no", "yes"], {"no": ["0"], "yes": ["1"]})
    assert column(found, "label") == {"a/IM1": "no", "b/y.dicom": "no", "a/1.2.840.113": "yes", "b/x.dcm": "yes"}
    assert (found.missing, found.left_out) == ([], {})


def test_a_table_without_a_column_of_splits_has_those_of_its_folders(tmp_path: Path) -> None:
    touch(tmp_path, ["train/1.png", "test/2.png"])
    write(tmp_path, "labels.csv", "image,label", "1.png,a", "2.png,b")
    assert column(auto(tmp_path), "split") == {"train/1.png": "train", "test/2.png": "test"}


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (
            "image,label 1.png,x",
            ": names that fit more than one file: 1.png (a/1.png, b/1.png): write their whole paths",
        ),
        (
            "image,label a/1.png,x ./a/1.png,y",
            ": rows of one image contradict one another: a/1.png (label x, then y)",
        ),
        ("image,label a/1.png,x  b/1.png", ", line 4: 1 cells, the header has 2"),
        ("image,label a/1.png,x,y", ", line 2: 3 cells, the header has 2"),
        ("image,label ,x", ": no file is named in line 2"),
        ("image,label,split a/1.png,x,dev", ", line 2: split is 'dev', not train, valid or test"),
        ("image,label,label a/1.png,x,y", ", line 2: the column label is there twice, with 'x' and 'y'"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(lines: str, problem: str, tmp_path: Path) -> None:
    touch(tmp_path, ["a/1.png", "b/1.png"])
    write(tmp_path, "labels.csv", *lines.split(" "))
    assert refusal(tmp_path, "table") == f"labels.csv{problem}"


def test_two_tables_of_labels_are_read_as_one(tmp_path: Path) -> None:
    touch(tmp_path, ["1.png", "2.png", "3.png"])
    write(tmp_path, "a.csv", "image,label,sex", "1.png,x,F", "2.png,y,")
    write(tmp_path, "b.csv", "file,class", "2.png,y", "3.png,y")
    found = auto(tmp_path)
    assert found.why == ("a.csv names files in the column image and labels in label, and so does b.csv")
    assert column(found, "label") == {"1.png": "x", "2.png": "y", "3.png": "y"}
    write(tmp_path, "b.csv", "file,class", "2.png,x", "3.png,y")
    assert refusal(tmp_path) == ("a.csv and b.csv: rows of one image contradict one another: 2.png (label y, then x)")


def test_a_table_of_a_few_images_does_not_make_the_layout_but_can_be_named(tmp_path: Path) -> None:
    touch(tmp_path, ["A/1.png", "A/2.png", "B/1.png", "B/3.png"])
    write(tmp_path, "boxes.csv", "image,label", "A/1.png,box")
    assert auto(tmp_path).layout == "class-folders"
    found = layouts.read(tmp_path, "table", ["box"], None, None)
    assert (len(found.table), found.left_out) == (1, {"no row in boxes.csv": 3})


def test_class_folders_named_by_the_study_come_before_a_table(tmp_path: Path) -> None:
    touch(tmp_path, ["A/1.png", "B/2.png"])
    write(tmp_path, "labels.csv", "image,label", "1.png,x", "2.png,y")
    assert auto(tmp_path, ["A", "B"]).layout == "class-folders"
    assert auto(tmp_path, ["x", "y"]).layout == "table"
    assert auto(tmp_path).layout == "table"


# --- values


@pytest.mark.parametrize(
    ("text", "years"),
    [("058Y", "58"), ("45yrs", "45"), (" 45 years", "45"), ("45.0", "45"), ("7", "7"), ("6M", "0"), ("18 months", "1"),
     ("3W", "0"), ("400D", "1"), ("120", "120"), ("411", ""), ("", ""), ("old", ""), ("5x", ""), ("-3", "")],
)  # fmt: skip
def test_ages_are_whole_years(text: str, years: str) -> None:
    assert records.parse_age(text) == years


def test_sexes_and_views_have_one_spelling() -> None:
    assert [records.parse_sex(text) for text in ("male", "M", "Female", "f", "O", "")] == ["M", "M", "F", "F", "", ""]
    assert [records.parse_view(text) for text in ("pa", " AP ", "")] == ["PA", "AP", ""]


def test_thirty_thousand_files_are_listed_and_read_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = walk(touch(tmp_path, ["x/1.png"]))
    listing.files["x"] = [f"{number:08}_000.png" for number in range(30_000)]
    write(
        tmp_path,
        "Data_Entry_2017.csv",
        NIH_HEADER,
        *(f"{name},Mass,0,1,5,M,PA,1,1,1,1," for name in listing.files["x"]),
    )
    listing.files[""] = ["Data_Entry_2017.csv"]
    monkeypatch.setattr(layouts, "walk", lambda raw: listing)
    assert len(auto(tmp_path).table) == 30_000


# --- real radiographs


@pytest.mark.real
def test_the_real_kermany_set_shares_no_patient_between_its_splits(real_data: Path) -> None:
    found = auto(real_data / "kermany", ["NORMAL", "PNEUMONIA"])
    assert (found.layout, found.left_out) == ("kermany", {})
    counts = found.table.groupby(["split", "label"]).size()
    assert counts.to_dict() == {
        ("test", "NORMAL"): 234,
        ("test", "PNEUMONIA"): 390,
        ("train", "NORMAL"): 1341,
        ("train", "PNEUMONIA"): 3875,
    }
    known = found.table[found.table["patient"] != ""]
    assert len(known) == len(found.table)
    assert (known.groupby("patient")["split"].nunique() > 1).sum() == 0


@pytest.mark.real
def test_the_real_tb_set_is_one_of_class_folders(real_data: Path) -> None:
    found = auto(real_data / "tb", ["Normal", "TB"])
    assert (found.layout, found.patients, found.left_out) == ("class-folders", "unknown", {})
    assert found.table["label"].value_counts().to_dict() == {"Normal": 1900, "TB": 400}
    numbers = [int(name[len("Normal/Normal-") : -len(".jpg")]) for name in found.table["id"][:1900]]
    assert numbers == sorted(numbers)


@pytest.mark.real
def test_the_real_covid3_set_needs_a_pattern_for_all_of_its_names(real_data: Path) -> None:
    classes = ["Covid-19", "No_findings", "Pneumonia"]
    found = auto(real_data / "covid3", classes, patient=r"^(?:(?P<patient>\d{8})_\d{3}\.)?")
    assert found.table["label"].value_counts().to_dict() == {"No_findings": 500, "Pneumonia": 500, "Covid-19": 124}
    known = found.table[found.table["patient"] != ""]
    assert known["label"].value_counts().to_dict() == {"No_findings": 500, "Pneumonia": 500}
    assert (known.groupby("patient")["label"].nunique() > 1).sum() == 21
    problem = refusal(real_data / "covid3", classes=classes, patient=r"^(?P<patient>\d+)_")
    assert problem.startswith("data.patient: '^(?P<patient>\\\\d+)_' finds no patient in the name of Covid-19/")
    assert problem.endswith(" more")


def test_names_of_published_data_sets_tell_source_and_patient_wherever_they_lie(tmp_path: Path) -> None:
    names = ["A/00000013_005.png", "A/CHNCXR_0001_0.png", "B/00000013_006.png", "B/mine.png"]
    touch(tmp_path, names)
    found = layouts.read(tmp_path, "auto", ["A", "B"], None, None)
    rows = found.table.set_index("id")
    assert found.patients == "file names of NIH ChestX-ray14"
    assert list(rows["patient"]) == ["00000013", "", "00000013", ""]
    assert list(rows["source"]) == ["NIH ChestX-ray14", "Shenzhen", "NIH ChestX-ray14", ""]
    told = layouts.read(tmp_path, "auto", ["A", "B"], None, r"(?P<patient>.+)\.")
    assert told.patients == "pattern"
    assert list(told.table["patient"]) == ["00000013_005", "CHNCXR_0001_0", "00000013_006", "mine"]
