"""The index holds what each file holds, and names what cannot be read."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small
from conftest import load
from PIL import Image

from xraylab import files, tables
from xraylab.data import index, layouts, names
from xraylab.errors import DataError
from xraylab.stages import fetch, source
from xraylab.stages import index as stage


def measured(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    table, unreadable, thumbnails = index.measure(folder, layouts.read(folder, "auto", None, None, None).table)
    assert len(thumbnails) == len(table)
    return table, unreadable


def test_names_sort_as_numbers() -> None:
    unsorted = ["h10", "h2", "h1", "h02", "tb1", "h2b10", "h2b9", "10", "9"]
    assert sorted(unsorted, key=names.natural) == ["9", "10", "h1", "h02", "h2", "h2b9", "h2b10", "h10", "tb1"]


def test_a_row_says_what_the_file_holds(tmp_path: Path) -> None:
    picture = np.zeros((40, 60), np.uint8)
    picture[:, 20:] = np.random.default_rng(0).integers(0, 256, (40, 40))
    (tmp_path / "A").mkdir()
    Image.fromarray(picture).convert("RGB").save(tmp_path / "A/1.png")
    table, unreadable = measured(tmp_path)
    row = table.iloc[0]
    data = (tmp_path / "A/1.png").read_bytes()
    assert unreadable == []
    assert (row["width"], row["height"], row["mode"], row["format"]) == (60, 40, "RGB", "PNG")
    assert (row["bytes"], row["file_hash"]) == (len(data), sha256(data).hexdigest())
    assert row["brightness"] == round(picture.mean() / 255, 4)
    assert row["contrast"] == round(picture.std() / 255, 4)
    assert row["border"] == pytest.approx(1 / 3, abs=0.02)
    assert len(bytes.fromhex(row["perceptual_hash"])) * 8 == 256


def test_every_unreadable_image_is_named(tmp_path: Path) -> None:
    small.write_images(tmp_path, ["A/good.png", "A/cut.png"])
    (tmp_path / "A/cut.png").write_bytes((tmp_path / "A/cut.png").read_bytes()[:200])
    (tmp_path / "A/text.png").write_text("no picture")
    (tmp_path / "A/empty.png").touch()
    table, unreadable = measured(tmp_path)
    assert list(table["id"]) == ["A/good.png"]
    assert unreadable == [
        f"{tmp_path}/A/cut.png: image file is truncated",
        f"{tmp_path}/A/empty.png: cannot identify image file",
        f"{tmp_path}/A/text.png: cannot identify image file",
    ]


def a_study_with_a_bad_file(folder: Path, on_bad_image: str) -> tuple[object, object]:
    images = small.two_classes(folder / "images")
    (images / "TB/tb0007.png").write_text("no picture")
    study = small.study(folder / "study", small.use(images, ["Healthy", "TB"], "TB"))
    small.edit(study, lambda tree: tree["data"].update(on_bad_image=on_bad_image))
    loaded = load(study)
    for part in (source, fetch):
        part.run(*loaded)
    return loaded


def test_a_bad_file_stops_the_study(tmp_path: Path) -> None:
    given, paths = a_study_with_a_bad_file(tmp_path, "fail")
    with pytest.raises(DataError) as caught:
        stage.run(given, paths)
    assert str(caught.value) == (
        "1 of 60 images cannot be read; mend or remove them in the source, or set data.on_bad_image to skip:\n"
        f"  - {paths.raw}/TB/tb0007.png: cannot identify image file"
    )
    assert not paths.index.exists()


def test_or_a_bad_file_is_left_out_and_counted(tmp_path: Path) -> None:
    given, paths = a_study_with_a_bad_file(tmp_path, "skip")
    stage.run(given, paths)
    index_ = tables.read(paths.index)
    assert len(index_) == 59
    assert "TB/tb0007.png" not in set(index_["id"])
    found = {each["kind"]: each for each in files.read_json(paths.audit)["findings"]}
    assert (found["unreadable"]["severity"], found["unreadable"]["count"]) == ("warning", 1)
