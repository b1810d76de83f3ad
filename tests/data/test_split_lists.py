"""Sides that were given: by the data set, or by lists of one's own."""

from pathlib import Path

import pandas as pd
import pytest
import small
from conftest import load

from xraylab import files, tables
from xraylab.data.split import lists as split_lists
from xraylab.data.split import strategies
from xraylab.errors import DataError, MissingError
from xraylab.paths import Paths
from xraylab.stages import source
from xraylab.stages import split as split_stage

GIVEN = {"strategy": "given", "test_pct": None}
INDEX = pd.DataFrame(
    [
        {
            "id": f"{label}/{split}{number}.png",
            "label": label,
            "patient": f"{split}{number // 2}",
            "split": split,
            "source": "",
        }
        for label in ("Healthy", "TB")
        for split, count in (("train", 12), ("valid", 4), ("test", 6))
        for number in range(count)
    ]
).assign(path=lambda table: "top/" + table["id"], pixel_hash=lambda table: table["id"])


def test_null_keeps_the_splits_of_the_data() -> None:
    (split,) = strategies.as_given(INDEX, valid=None, seed=0)
    assert list(split) == list(INDEX["split"])


@pytest.mark.parametrize("seed", range(3))
def test_a_fraction_draws_validation_anew_from_both_by_whole_patients(seed: int) -> None:
    (split,) = strategies.as_given(INDEX, valid=0.25, seed=seed)
    assert (split == "test").equals(INDEX["split"] == "test")
    rest = split[split != "test"]
    assert (rest == "valid").mean() == pytest.approx(0.25)
    assert rest.groupby(INDEX["patient"]).nunique().max() == 1
    assert set(INDEX["split"][split == "valid"]) | {"valid"} == {"train", "valid"}


def test_images_without_a_given_split_are_named() -> None:
    with pytest.raises(DataError) as caught:
        strategies.as_given(INDEX.assign(split=INDEX["split"].replace("valid", "")), valid=0.2, seed=0)
    assert str(caught.value) == (
        "split.strategy given: the data give no split for Healthy/valid0.png, Healthy/valid1.png, Healthy/valid2.png, "
        "Healthy/valid3.png, TB/valid0.png and 3 more; name a folder with your own lists in split.files, "
        "or take another strategy"
    )


def test_a_class_without_a_given_split_is_named() -> None:
    healthy = INDEX["label"] == "Healthy"
    split = INDEX["split"].mask(healthy & (INDEX["split"] == "test"), "train").replace("valid", "train")
    with pytest.raises(DataError) as caught:
        strategies.as_given(INDEX.assign(split=split), valid=None, seed=0)
    assert str(caught.value) == (
        "a class has no image in a split of the data (split.valid_pct: null); "
        "add images there, sample validation with a fraction in split.valid_pct, or take another strategy:\n"
        "  - Healthy: 22 images leave valid and test without one\n"
        "  - TB: 22 images leave valid without one"
    )


def write_lists(folder: Path, column: str, names: dict[str, list[str]]) -> Path:
    folder.mkdir(exist_ok=True)
    for split, listed_ in names.items():
        (folder / f"{split}_data.csv").write_text(
            "\n".join([f"{column},note", *(f"{name},x" for name in listed_)]) + "\n"
        )
    return folder


def names(column: str, leave_out: int = 0) -> dict[str, list[str]]:
    """The images of INDEX, without the first `leave_out` training images of each class, by column."""
    kept = INDEX[~((INDEX["split"] == "train") & (INDEX.groupby(["label", "split"]).cumcount() < leave_out))]
    return {split: list(kept[column][kept["split"] == split]) for split in ("train", "valid", "test")}


def study(folder: Path, lists: Path | str, valid: float | None = None, index: pd.DataFrame = INDEX) -> Paths:
    paths = Paths(small.study(folder, lambda tree: tree["split"].update(GIVEN, files=str(lists), valid_pct=valid)))
    tables.write(index, paths.index)
    tables.write(pd.DataFrame(columns=["id", "other", "change", "bits"]), paths.near_duplicates)
    return paths


def run(paths: Paths) -> None:
    for stage in (source, split_stage):
        stage.run(*load(paths.root))


@pytest.mark.parametrize("column", ["id", "path", "image"])
def test_lists_name_images_by_id_path_or_file_name_and_the_unlisted_are_unused(
    column: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = INDEX.assign(path=lambda t: t["path"].str.replace(r"(Healthy|TB)/", r"\1/\1-", regex=True))
    index["image"] = index["path"].str.rpartition("/")[2]
    listed_ = {
        split: [index.set_index("id")[column].get(name, name) if column != "id" else name for name in several]
        for split, several in names("id", leave_out=2).items()
    }
    paths = study(
        tmp_path / "study", write_lists(tmp_path / "lists", column, listed_), index=index.drop(columns="image")
    )
    run(paths)
    for split, several in names("id", leave_out=2).items():
        assert list(tables.read(paths.split / f"{split}_data.csv")["id"]) == several
    assert files.read_json(paths.split / "summary.json")["unused"] == {"Healthy": 2, "TB": 2}
    assert "unused Healthy               2\nunused TB                    2\n" in capsys.readouterr().out


def test_the_splits_own_tables_serve_as_lists(tmp_path: Path) -> None:
    first = study(tmp_path / "first", write_lists(tmp_path / "lists", "id", names("id")), valid=0.3)
    run(first)
    first.split.rename(tmp_path / "frozen")
    again = study(tmp_path / "again", tmp_path / "frozen")
    run(again)
    for name in split_lists.FILES.values():
        assert (again.split / name).read_bytes() == (tmp_path / "frozen" / name).read_bytes()


def test_validation_may_be_left_to_chance(tmp_path: Path) -> None:
    lists = write_lists(tmp_path / "lists", "id", names("id"))
    (lists / "valid_data.csv").unlink()
    paths = study(tmp_path / "study", lists, valid=0.35)
    run(paths)
    summary = files.read_json(paths.split / "summary.json")
    assert {split: part["TB"]["images"] for split, part in summary["splits"].items()} == {
        "train": 8, "valid": 4, "test": 6,
    }  # fmt: skip
    assert summary["unused"] == {"Healthy": 4, "TB": 4}


def test_what_a_spreadsheet_writes_is_read(tmp_path: Path) -> None:
    for split, several in names("id").items():
        text = "\r\n".join(["ID;class", *(f'"{name}";x' for name in several), ";"])
        (tmp_path / f"{split}_data.csv").write_text(text, encoding="utf-8-sig", newline="")
    assert split_lists.read(tmp_path) == (
        "id",
        [(name, split) for split, several in names("id").items() for name in several],
    )


def test_everything_wrong_with_the_names_is_said_at_once(tmp_path: Path) -> None:
    listed_ = names("id")
    listed_["train"] += ["TB/train3.png", "TB/nobody.png"]
    listed_["test"] += ["Healthy/train1.png", "Healthy/nobody.png"]
    paths = study(tmp_path / "study", write_lists(tmp_path / "lists", "id", listed_))
    with pytest.raises(DataError) as caught:
        run(paths)
    assert str(caught.value) == (
        "split.files: the lists do not fit the images (column id):\n"
        "  - not an image of the index: TB/nobody.png, Healthy/nobody.png\n"
        "  - listed twice: Healthy/train1.png (train_data.csv and test_data.csv), "
        "TB/train3.png (train_data.csv and train_data.csv)"
    )


def test_a_file_name_of_several_images_says_nothing() -> None:
    rows = [("train0.png", "train"), ("other.png", "test")]
    with pytest.raises(DataError) as caught:
        split_lists.assign("image", rows, ["a/train0.png", "b/train0.png"], ["a/train0.png", "b/train0.png"], "unused")
    assert str(caught.value) == (
        "split.files: the lists do not fit the images (column image):\n"
        "  - not an image of the index: other.png\n"
        "  - the file name of several images: list ids or paths: train0.png"
    )


def test_missing_lists_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        split_lists.read(tmp_path)
    assert str(caught.value) == (
        "split.files: the folder needs train_data.csv and test_data.csv; there is no\n"
        f"  - {tmp_path}/train_data.csv\n"
        f"  - {tmp_path}/test_data.csv"
    )


def test_lists_without_a_common_column_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train_data.csv").write_text("id,path\n1,2\n")
    (tmp_path / "test_data.csv").write_text("image\n1\n")
    with pytest.raises(DataError) as caught:
        split_lists.read(tmp_path)
    assert str(caught.value) == (
        "split.files: the lists need one common column out of id, path, image, which names the images:\n"
        f"  - {tmp_path}/train_data.csv has id, path\n"
        f"  - {tmp_path}/test_data.csv has image"
    )


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("id,class\n1,a\n,b\n", "split.files: {}/train_data.csv: row 2 below the header names no image"),
        ("id\n", "split.files: the lists in {} name no image"),
        (f'id\n"{"x" * 200_000}"\n', "train_data.csv, line 2: field larger than field limit (131072)"),
    ],
)
def test_a_list_that_names_nothing_is_refused(train: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "train_data.csv").write_text(train)
    (tmp_path / "test_data.csv").write_text("id\n")
    with pytest.raises(DataError) as caught:
        split_lists.read(tmp_path)
    assert str(caught.value) == message.format(tmp_path)


def test_a_changed_list_behind_an_unchanged_name_is_noticed(tmp_path: Path) -> None:
    lists = write_lists(tmp_path / "lists", "id", names("id"))
    paths = study(tmp_path / "study", lists)
    source.run(*load(paths.root))
    before = paths.given_splits.read_text()
    assert before.splitlines()[:2] == ["id,split,files", "Healthy/train0.png,train,lists"]
    source.run(*load(paths.root))
    assert paths.given_splits.read_text() == before
    write_lists(lists, "id", names("id", leave_out=1))
    source.run(*load(paths.root))
    assert set(before.splitlines()) - set(paths.given_splits.read_text().splitlines()) == {
        "Healthy/train0.png,train,lists",
        "TB/train0.png,train,lists",
    }


def test_where_the_lists_are_absent_the_recorded_ones_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = write_lists(tmp_path / "lists", "id", names("id"))
    paths = study(tmp_path / "study", lists)
    source.run(*load(paths.root))
    recorded = paths.given_splits.read_bytes()
    lists.rename(tmp_path / "gone")
    run(paths)
    assert paths.given_splits.read_bytes() == recorded
    assert (
        f"warning: {lists} is not on this machine; going on with the lists in given_splits.csv"
        in capsys.readouterr().out
    )
    small.edit(paths.root, lambda tree: tree["split"].update(files=str(tmp_path / "others")))
    with pytest.raises(MissingError) as missing:
        split_stage.run(*load(paths.root))
    assert str(missing.value) == (
        f"{paths.given_splits} was not made from the lists in split.files (others): `dvc repro` makes it anew"
    )
    with pytest.raises(DataError, match=r"the folder needs train_data\.csv and test_data\.csv"):
        source.run(*load(paths.root))


def test_without_lists_the_header_alone_is_noted(tmp_path: Path) -> None:
    paths = Paths(small.study(tmp_path / "study"))
    source.run(*load(paths.root))
    assert paths.given_splits.read_text() == "id,split,files\n"


@pytest.mark.parametrize("place", ["data/split", "data/split/inner", "."])
def test_lists_that_the_study_itself_writes_are_refused(place: str, tmp_path: Path) -> None:
    paths = study(tmp_path / "study", place)
    write_lists(paths.split, "id", names("id"))
    with pytest.raises(
        DataError, match=r"^split.files: .* lie one in the other: keep the lists in a folder of their own"
    ):
        source.run(*load(paths.root))
