"""Several folders become one study: what is detected together, and what params.yaml then says."""

import shutil
from pathlib import Path

import pytest
from conftest import load, run
from test_detect import folder_of

from xraylab import tables
from xraylab.data.layouts import multi_source
from xraylab.errors import XraylabError
from xraylab.params import config
from xraylab.stages import fetch, index, source, split
from xraylab.studies import scaffold


def three(top: Path) -> list[str]:
    """A folder of each, whose labels agree in nothing but that one of them is normal; the last knows patients."""
    folder_of(top / "tb", [f"{label}/{n}.png" for label in ("Normal", "TB") for n in range(8)], 40)
    folder_of(top / "kids", [f"{label}/{n}.png" for label in ("NORMAL", "PNEUMONIA") for n in range(8)], 70)
    names = [f"{label}/patient{n // 2}_{n}.png" for label in ("No_findings", "Covid-19", "Pneumonia") for n in range(8)]
    folder_of(top / "covid 3", names, 140)
    return [str(top / name) for name in ("tb", "kids", "covid 3")]


@pytest.mark.parametrize(
    ("places", "names"),
    [
        (["/a/tb", "/b/TB/", "C:\\x\\tb"], ["tb", "TB-2", "tb-3"]),
        (["https://x.org/nih.tar.gz", "kaggle:who/films", "/a/Röntgen 2"], ["nih", "films", "R_ntgen_2"]),
        (["/a/..", "/b/ä"], ["source", "source-2"]),
    ],
)
def test_sources_are_called_by_their_last_part_and_told_apart(places: list[str], names: list[str]) -> None:
    assert multi_source.source_names(places) == names


def test_sources_without_classes_in_common_become_normal_and_abnormal(tmp_path: Path) -> None:
    data = three(tmp_path)
    lines = scaffold.new(tmp_path / "s", None, data, published=False)
    given = config.read(tmp_path / "s/params.yaml")
    assert (given.data.classes, given.data.positive, given.evaluate.negative_class) == (
        ["Normal", "Abnormal"],
        "Abnormal",
        "Normal",
    )
    assert [(each.name, each.path, each.labels) for each in given.data.sources.values()] == [
        ("tb", data[0], {"Normal": ["Normal"], "Abnormal": ["TB"]}),
        ("kids", data[1], {"Normal": ["NORMAL"], "Abnormal": ["PNEUMONIA"]}),
        ("covid_3", data[2], {"Normal": ["No_findings"], "Abnormal": ["Covid-19", "Pneumonia"]}),
    ]
    assert [bool(each.patient) for each in given.data.sources.values()] == [False, False, True]
    assert (given.images.size, given.model.img_size) == (32, 32)  # what the smallest images fill
    assert (
        "no two sources have the same classes, so a class would tell its source: what is not Normal is Abnormal"
        in lines
    )
    paths = run(load(tmp_path / "s"), source, fetch, index, split)[1]
    assert tables.read(paths.index).groupby(["source", "label"]).size().to_dict() == {
        ("tb", "Normal"): 8, ("tb", "Abnormal"): 8, ("kids", "Normal"): 8, ("kids", "Abnormal"): 8,
        ("covid_3", "Normal"): 8, ("covid_3", "Abnormal"): 16,
    }  # fmt: skip


def test_an_archive_is_looked_into_beside_a_folder(tmp_path: Path) -> None:
    folder, other, _ = three(tmp_path)
    archive = shutil.make_archive(other, "zip", other)
    shutil.rmtree(other)
    lines = scaffold.new(tmp_path / "s", None, [folder, archive], published=False)
    given = config.read(tmp_path / "s/params.yaml")
    assert [(each.name, each.labels) for each in given.data.sources.values()] == [
        ("tb", {"Normal": ["Normal"], "Abnormal": ["TB"]}),
        ("kids", {"Normal": ["NORMAL"], "Abnormal": ["PNEUMONIA"]}),
    ]
    assert "    xraylab init" not in lines
    run(load(tmp_path / "s"), source, fetch, index)


def test_sources_of_the_same_classes_keep_them_however_they_are_spelt(tmp_path: Path) -> None:
    for name, labels in (
        ("one", ("Normal", "TB", "Old TB")),
        ("two", ("healthy", "tb", "old_tb")),
        ("sick", ("TB", "old tb")),
    ):
        folder_of(tmp_path / name, [f"{label}/{n}.png" for label in labels for n in range(3)])
    lines = scaffold.new(
        tmp_path / "s", None, [str(tmp_path / name) for name in ("one", "two", "sick")], published=False
    )
    given = config.read(tmp_path / "s/params.yaml")
    assert given.data.classes == ["Normal", "Old TB", "TB"]
    assert [each.labels for each in given.data.sources.values()] == [
        {"Normal": ["Normal"], "Old TB": ["Old TB"], "TB": ["TB"]},
        {"Normal": ["healthy"], "Old TB": ["old_tb"], "TB": ["tb"]},
        {"Old TB": ["old tb"], "TB": ["TB"]},
    ]
    assert "    no Normal: it serves training alone with split.strategy leave-one-source-out" in lines
    run(load(tmp_path / "s"), source, fetch, index)


def test_a_list_is_detected_anew(tmp_path: Path) -> None:
    data = three(tmp_path)
    scaffold.new(tmp_path / "s", None, data, published=False)
    assert scaffold.init(tmp_path / "s", [])[-1] == "params.yaml says so already"
    folder_of(tmp_path / "kids", ["VIRAL/1.png"])
    changed = scaffold.init(tmp_path / "s", [])
    assert any("VIRAL" in line for line in changed)
    assert config.read(tmp_path / "s/params.yaml").data.sources["data.source.1 (kids)"].labels == {
        "Normal": ["NORMAL"],
        "Abnormal": ["PNEUMONIA", "VIRAL"],
    }


def test_what_can_only_be_seen_once_it_is_fetched_is_listed_without_labels(tmp_path: Path) -> None:
    data = [*three(tmp_path)[:2], "kaggle:someone/films"]
    lines = scaffold.new(tmp_path / "s", None, data, published=False)
    assert "    xraylab init" in lines
    listed = config.read(tmp_path / "s/params.yaml").data
    assert [bool(each.labels) for each in listed.sources.values()] == [True, True, False]
    assert listed.classes == ["Normal", "Abnormal"]  # so that the stages before `init` refuse nothing
    with pytest.raises(XraylabError, match=r"data.source lists what is no folder of this machine") as caught:
        scaffold.init(tmp_path / "s", [*data[:2], "kaggle:someone/other"])
    assert caught.value.problems == ("other: kaggle:someone/other",)
    folder_of(tmp_path / "s/data/raw/films", ["Normal/1.png", "TB/1.png"])
    scaffold.init(tmp_path / "s", [])
    assert config.read(tmp_path / "s/params.yaml").data.sources["data.source.2 (films)"].labels == {
        "Normal": ["Normal"],
        "Abnormal": ["TB"],
    }


@pytest.mark.parametrize(
    ("study", "columns", "message"),
    [
        ("tb", [], "--data: the study tb has one source: begin it with one, and write data.source as a list"),
        (None, ["label=x"], "--column: with several sources, write columns below each source in data.source that"),
    ],
)
def test_options_of_one_source_are_refused_with_several(
    study: str | None, columns: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(XraylabError) as caught:
        scaffold.new(tmp_path / "s", study, three(tmp_path), False, columns)
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "s").exists()


def test_a_folder_without_labels_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path / "flat", ["1.png", "2.png"])
    with pytest.raises(XraylabError) as caught:
        scaffold.new(tmp_path / "s", None, [three(tmp_path)[0], str(tmp_path / "flat")], published=False)
    assert str(caught.value).startswith(f"{tmp_path / 'flat'}: no classes found")
