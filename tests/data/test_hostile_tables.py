"""Tables as people, spreadsheets and attackers send them: read as they are meant, or refused in a sentence."""

import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import small
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_text, csv_bytes

from xraylab import tables
from xraylab.data import layouts
from xraylab.data.layouts import TableConfig, sheets
from xraylab.data.split import lists
from xraylab.errors import DataError, XraylabError
from xraylab.predict import writers

COLUMNS = ("image", "patient", "label", "split", "age", "sex")
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two class folders of two images each."""
    folder = tmp_path_factory.mktemp("raw")
    for name in ("A/x1.png", "A/x2.png", "B/x3.png", "B/x4.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


def test_any_table_beside_images_is_used_passed_over_or_refused(raw: Path) -> None:
    @given(csv_bytes(COLUMNS), st.sampled_from(["meta.csv", "patients.csv"]))
    def holds(content: bytes, name: str) -> None:
        (raw / name).write_bytes(content)
        with suppress(XraylabError):
            layouts.read(raw, "auto", ["A", "B"], None, None, TableConfig.of(None, {}))
        (raw / name).unlink()

    holds()


def test_any_list_of_splits_is_used_or_refused(tmp_path: Path) -> None:
    @given(csv_bytes(("id", "path")), csv_bytes(("id", "path")))
    def holds(train: bytes, test: bytes) -> None:
        (tmp_path / "train_data.csv").write_bytes(train)
        (tmp_path / "test_data.csv").write_bytes(test)
        with suppress(XraylabError):
            lists.assign(*lists.read(tmp_path), ["A/x1.png"], ["A/x1.png"], "")

    holds()


def test_any_text_comes_back_from_a_table_or_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"

    @given(st.lists(st.tuples(any_text, any_text), min_size=1, max_size=5))
    def holds(rows: list[tuple[str, str]]) -> None:
        readable = [row for row in rows if not any("\ud800" <= char <= "\udfff" for text in row for char in text)]
        table = pd.DataFrame(readable, columns=["id", "label"], dtype="str")
        if any(text.startswith(tables.FORMULA_STARTS) for row in readable for text in row):
            with pytest.raises(DataError, match="would run as a formula"):
                tables.write(table, path)
            return
        tables.write(table, path)
        assert tables.read(path).to_numpy().tolist() == [list(row) for row in readable]

    holds()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", "\n=", "＝"])
def test_a_cell_that_a_spreadsheet_would_run_is_not_written(start: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"table\.csv: .* in column id would run as a formula in a spreadsheet"):
        tables.write(pd.DataFrame({"id": ["a", f"{start}1+1"], "n": [1, 2]}), tmp_path / "table.csv")
    assert not (tmp_path / "table.csv").exists()


@pytest.mark.parametrize("start", tables.FORMULA_STARTS)
def test_nor_is_a_column_or_a_listed_name(start: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"table\.csv: the column .* would run as a formula"):
        tables.write(pd.DataFrame({f"{start}1+1": [1]}), tmp_path / "table.csv")
    with pytest.raises(DataError, match=r"given\.csv: .* in column id would run as a formula"):
        lists.write_record("id", [(f"{start}1", "test")], "lists", tmp_path / "given.csv")
    refused = pytest.raises(DataError, match=r"rows\.csv: .* in column id would run as a formula")
    with refused, writers.open_table(str(tmp_path / "rows.csv")) as write:
        write(pd.DataFrame({"id": [f"{start}1"]}))
    assert list(tmp_path.iterdir()) == []


def test_every_csv_is_written_in_one_place() -> None:
    """Which refuses formulas and quotes what would be another row."""
    source = small.REPOSITORY / "src/xraylab"
    writes = re.compile(r"\.to_csv\(|csv\.(Dict)?[wW]riter\(")
    writing = [path for path in source.rglob("*.py") if writes.search(path.read_text(encoding="utf-8"))]
    assert writing == [source / "tables.py"]


def test_names_of_own_lists_come_back(tmp_path: Path) -> None:
    names = ['a"b.png', "a,b.png", "a;b\tc.png", "a b.png", "007", "NA", "肺/é.png", "a\rb.png", "<b>.png", "a=1.png"]
    lists.write_record("id", [(name, "test") for name in names], "lists", tmp_path / "given.csv")
    assert lists.read_record(tmp_path / "given.csv", "lists") == ("id", [(name, "test") for name in names])
    lists.write_record("id", [], "", tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text() == "id,split,files\n"


@pytest.mark.parametrize("name", ["a\rb", "a,b", 'a"b', " a ", "007", "NA", "<script>", "a=1", "'=1"])
def test_names_in_predictions_come_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with writers.open_table(str(path)) as write:
        write(pd.DataFrame({"id": [name], "p": [0.1]}))
        write(pd.DataFrame({"id": ["other"], "p": [0.2]}))
    assert tables.read(path).to_dict("list") == {"id": [name, "other"], "p": [0.1, 0.2]}


def test_a_carriage_return_in_a_cell_makes_no_row(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    table = pd.DataFrame({"id": ["a\rb", "c"], "value": [0.1, 2.0]})
    tables.write(table, path)
    pd.testing.assert_frame_equal(tables.read(path), table)
    assert len(sheets.read_csv(path)) == 2


def test_a_row_with_more_cells_than_the_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("id,label\na,b,c\n")
    with pytest.raises(DataError, match=r"table\.csv cannot be read: a row has more cells than the header"):
        tables.read(tmp_path / "table.csv")


REFUSED = {
    "cell": (lambda: b"image,note\nx1," + b"x" * 10 * MEGABYTE, "line 2: field larger than field limit"),
    "header": (lambda: b"image," + b"x" * 10 * MEGABYTE, "line 1: a header of more than 1,000,000 characters is none"),
    "name": (lambda: b"image," + b"x" * 200_000, "line 1: field larger than field limit"),
    "columns": (lambda: b"image" + b",x" * 100_000 + b"\nx1\n", "has 100,001 columns, and may have 10,000"),
    "UTF-16": (lambda: "image,label\nx1,a\n".encode("utf-16"), "cannot be read: 'utf-8' codec can't decode byte 0xff"),
    "cp1252": (lambda: "image,label\nx1,Lungenentzündung\n".encode("cp1252"), "can't decode byte 0xfc"),
    "twice": (
        lambda: b"image,label,Label\nx1,a,a\nx2,a,b\n",
        "line 3: the column label is there twice, with 'a' and 'b'",
    ),
}


@pytest.mark.parametrize(("content", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_table_that_cannot_be_meant_is_refused(content: Callable[[], bytes], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content())
    with pytest.raises(DataError, match=rf"labels\.csv.*{reason}"):
        sheets.read(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_table_is_read_alike_whoever_saved_it(separator: str, end: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    lines = [["Image ID", "label"], ['"x 1.png"', "Größe"], ["x2.png", '"say ""a"""'], []]
    path.write_bytes(end.join(separator.join(cells) for cells in lines).encode(encoding))
    assert [row.cells for row in sheets.read(path).rows] == [
        {"image_id": "x 1.png", "label": "Größe"},
        {"image_id": "x2.png", "label": 'say "a"'},
    ]


def test_columns_of_one_name_that_agree_are_one(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("image,label,label,,\nx1,a,a,,\n")
    assert sheets.read(path).rows[0].cells["label"] == "a"


@pytest.mark.parametrize("part", ["xl/workbook.xml", "xl/worksheets/sheet1.xml", "[Content_Types].xml"])
@pytest.mark.parametrize("content", [b"", b"<", b"<a/>", b"\xff"])
def test_a_damaged_workbook_is_named(part: str, content: bytes, tmp_path: Path) -> None:
    path, damaged = tmp_path / "labels.xlsx", tmp_path / "damaged.xlsx"
    pd.DataFrame({"image": ["x1"], "label": ["a"]}).to_excel(path, index=False)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(damaged, "w") as target:
        for name in source.namelist():
            target.writestr(name, content if name == part else source.read(name))
    with suppress(DataError):
        assert sheets.read(damaged).rows == [], "nothing of it is read"


def test_a_workbook_that_unpacks_to_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as workbook:
        workbook.writestr("xl/worksheets/sheet1.xml", b" " * (3 * MEGABYTE))
    monkeypatch.setattr(sheets, "MOST_BYTES", 2 * MEGABYTE)
    with pytest.raises(DataError, match=r"labels\.xlsx unpacks to 3 MB, and may to 2: save it as CSV"):
        sheets.read(path)
