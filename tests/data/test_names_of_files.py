"""Every name of a file is refused, and shown with escapes, or is the same in every table."""

import json
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
import small
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from xraylab import tables, text
from xraylab.data import layouts, sources
from xraylab.data.sources import members
from xraylab.errors import DataError
from xraylab.predict import image_files, writers
from xraylab.report.gallery import page


def same_anywhere(name: str) -> str:
    """What one file is called on all disks."""
    return unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode()).casefold()


visible = strategies.file_names.filter(lambda name: not name.startswith((".", "__MACOSX")))
names = st.lists(visible, min_size=1, max_size=3, unique_by=same_anywhere)


def copied(films: Path, raw: Path) -> DataError | None:
    raw.mkdir()
    try:
        sources.copy(films, raw, raw.parent)
    except DataError as error:
        return error
    return None


@settings(max_examples=25)
@given(names)
def test_a_name_is_refused_in_one_line_or_the_same_in_every_table(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("names")
    films = {f"{label}/{name}.png" for label in "AB" for name in names}
    (folder / "films/A").mkdir(parents=True)
    (folder / "films/B").mkdir()
    for film in films:
        (folder / "films" / film).write_bytes(b"film")
    hostile = {film for film in films if members.CONTROL.search(film) or not is_text(film)}
    error = copied(folder / "films", folder / "raw")
    assert (error is not None) == bool(hostile)
    if error:
        assert text.printable(str(error)) == str(error)
        assert set(error.problems) <= {members.printable(film) for film in hostile}
        return
    table = layouts.read(folder / "raw", "auto", None, None, None).table
    assert set(table["path"]) == films
    for columns in (["id", "path", "label"], ["id", "label"], ["path"]):  # index, splits, predictions
        try:
            tables.write(table[columns], folder / "table.csv")
        except DataError:
            assert any(cell.startswith(tables.FORMULA_STARTS) for column in columns for cell in table[column])
            return
        pd.testing.assert_frame_equal(tables.read(folder / "table.csv"), table[columns].reset_index(drop=True))
    assert json.loads(page._json(table["id"].tolist())) == table["id"].tolist()


def is_text(name: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in name)


@settings(max_examples=25)
@given(names)
def test_ids_of_predictions_are_one_line_each_in_every_format(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("names")
    films = folder / "films"
    films.mkdir()
    for name in names:
        (films / f"a{name}.png").write_bytes(b"film")
    (found,) = image_files.find([str(films)])
    ids = [file.id for file in found.files()]
    assert len(set(ids)) == len(names)
    assert all(len(each.splitlines()) == 1 for each in ids)
    rows = pd.DataFrame({"id": ids, "probability": 0.25})
    for suffix in writers.FORMATS:
        target = folder / f"table{suffix}"
        with writers.open_table(str(target)) as write:
            write(rows)
        match suffix:
            case ".csv":
                read = tables.read(target)
                assert len(target.read_text(encoding="utf-8").splitlines()) == 1 + len(ids)
            case ".jsonl":
                read = pd.DataFrame([json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()])
            case _:
                read = pd.read_parquet(target)
        assert read["id"].tolist() == ids


@pytest.mark.parametrize("name", ["a" * 251 + ".png", "é" * 125 + ".png", "-x.png", "CON.png", "a b  .png", "a\\b.png"])
def test_odd_names_that_are_kept_are_copied_as_they_are(name: str, tmp_path: Path) -> None:
    small.write_images(tmp_path / "films/A", [name])
    assert copied(tmp_path / "films", tmp_path / "raw") is None
    assert [path.name for path in (tmp_path / "raw/A").iterdir()] == [name]
