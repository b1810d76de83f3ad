"""The used images as class folders: the files, their names, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small

from xraylab import tables, targets
from xraylab.data import export, layouts
from xraylab.errors import DataError, MissingError
from xraylab.paths import Paths
from xraylab.task import MULTI_LABEL

IMAGES = {
    "train": ["Healthy/a/1.png", "Healthy/b/1.PNG", "Healthy/2.png", "TB/1.png"],
    "valid": ["TB/a/1.png"],
    "test": ["Healthy/c/1.png", "TB/b/1.png"],
}


def split_at(root: Path, images: dict[str, list[str]], folder: str = "data/split") -> Paths:
    """A split of these ids, and their files below data/raw/top."""
    paths = Paths(root)
    for split in ("train", "valid", "test"):
        table = pd.DataFrame(
            {"id": images[split], "label": [name.split("/")[0] for name in images[split]], "patient": ""}
        )
        table["path"] = [f"top/{name}" for name in images[split]]
        tables.write(table[["id", "path", "label", "patient"]], root / folder / f"{split}_data.csv")
    small.write_images(paths.raw / "top", [name for names in images.values() for name in names])
    return paths


def found(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}


@pytest.mark.parametrize("link", [False, True])
def test_class_folders_hold_the_raw_bytes_under_names_that_do_not_collide(link: bool, tmp_path: Path) -> None:
    paths = split_at(tmp_path, IMAGES)
    assert export.write(tmp_path / "out", paths, link, fold=0) == {"train": 4, "valid": 1, "test": 2}
    names = {
        "train/Healthy/Healthy__a__1.png": "Healthy/a/1.png",
        "train/Healthy/Healthy__b__1.PNG": "Healthy/b/1.PNG",
        "train/Healthy/2.png": "Healthy/2.png",
        "train/TB/1.png": "TB/1.png",
        "valid/TB/1.png": "TB/a/1.png",
        "test/Healthy/1.png": "Healthy/c/1.png",
        "test/TB/1.png": "TB/b/1.png",
    }
    raw = paths.raw / "top"
    assert found(tmp_path / "out") == {name: (raw / image).read_bytes() for name, image in names.items()}
    for name, image in names.items():
        place = tmp_path / "out" / name
        assert place.is_symlink() == link
        assert place.resolve() == (raw / image if link else place)


def test_an_id_without_an_ending_gets_the_files(tmp_path: Path) -> None:
    paths = split_at(tmp_path, IMAGES)
    table = tables.read(paths.split / "train_data.csv")
    tables.write(table.assign(id=table["id"].str.removesuffix(".png")), paths.split / "train_data.csv")
    export.write(tmp_path / "out", paths, link=False, fold=0)
    assert (tmp_path / "out/train/Healthy/Healthy__a__1.png").is_file()


def test_a_fold_is_exported_by_its_number(tmp_path: Path) -> None:
    for number in range(3):
        images = {"train": [f"TB/{number}.png"], "valid": [], "test": [f"Healthy/{number}.png"]}
        paths = split_at(tmp_path, images, f"data/split/fold-{number}")
    export.write(tmp_path / "out", paths, link=False, fold=2)
    assert sorted(found(tmp_path / "out")) == ["test/Healthy/2.png", "train/TB/2.png"]
    with pytest.raises(DataError) as caught:
        export.write(tmp_path / "more", paths, link=False, fold=3)
    assert str(caught.value) == "there is no fold 3: the split has folds 0 to 2"


def test_a_fold_of_a_split_without_folds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        export.write(tmp_path / "out", split_at(tmp_path, IMAGES), link=False, fold=1)
    assert str(caught.value) == "there is no fold 1, since the split has no folds (split.strategy)"


def test_an_empty_folder_is_filled_and_any_other_is_left_alone(tmp_path: Path) -> None:
    paths = split_at(tmp_path, IMAGES)
    out = tmp_path / "out"
    out.mkdir()
    export.write(out, paths, link=False, fold=0)
    before = found(out)
    for place in (out, out / "train/TB/1.png"):
        with pytest.raises(DataError) as caught:
            export.write(place, paths, link=True, fold=0)
        assert str(caught.value) == f"{place} is not an empty folder: export to a new one"
    assert found(out) == before


def test_images_that_are_not_there_are_named_before_anything_is_written(tmp_path: Path) -> None:
    paths = split_at(tmp_path, IMAGES)
    for name in ("TB/1.png", "TB/b/1.png"):
        (paths.raw / "top" / name).unlink()
    with pytest.raises(MissingError) as caught:
        export.write(tmp_path / "out", paths, link=False, fold=0)
    assert str(caught.value) == (
        f"2 of 7 images are not in {paths.raw}: `dvc repro` brings them: top/TB/1.png, top/TB/b/1.png"
    )
    assert not (tmp_path / "out").exists()


def test_names_that_collide_even_so_are_refused(tmp_path: Path) -> None:
    images = {"train": ["TB/a/b__1.png", "TB/a__b/1.png", "TB/1.png", "TB/c/b__1.png"], "valid": [], "test": []}
    with pytest.raises(DataError) as caught:
        export.write(tmp_path / "out", split_at(tmp_path, images), link=False, fold=0)
    assert str(caught.value) == (
        "several images would be written to train/tb/tb__a__b__1.png: rename them in the source"
    )


def test_images_with_several_findings_have_a_table_that_reads_back(tmp_path: Path) -> None:
    names = {"train": ["a/1.png", "b/1.png"], "valid": ["2.png"], "test": ["3.png"]}
    paths = split_at(tmp_path, names)
    labels = np.array([[1, -1], [np.nan, 0], [0, 0], [1, 1]])
    number = 0
    for split, ids in names.items():
        path = paths.split / f"{split}_data.csv"
        columns = targets.to_columns(labels[number : number + len(ids)], ["Edema", "Mass"])
        number += len(ids)
        tables.write(pd.concat([tables.read(path).drop(columns="label"), columns], axis=1), path)
    export.write(tmp_path / "out", paths, link=False, fold=0)
    table = (tmp_path / "out/labels.csv").read_text().splitlines()
    assert table[:3] == ["image,patient,split,Edema,Mass", "train/a__1.png,,train,1,-1", "train/b__1.png,,train,,0"]
    assert set(found(tmp_path / "out")) == {
        "train/a__1.png", "train/b__1.png", "valid/2.png", "test/3.png", "labels.csv",
    }  # fmt: skip
    again = layouts.read(tmp_path / "out", "table", ["Edema", "Mass"], None, None, task=MULTI_LABEL)
    rows = again.table.set_index("path")
    assert targets.values(rows.loc[["train/a__1.png", "test/3.png"]], ["Edema", "Mass"]).tolist() == [[1, -1], [1, 1]]
    assert rows["split"].to_dict()["valid/2.png"] == "valid"
