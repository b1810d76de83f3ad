"""A folder of one's own becomes a study that runs: what is detected, and what params.yaml then says."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import small
from PIL import Image
from ruamel.yaml import YAML

from xraylab import template
from xraylab.errors import DataError, ParamsError
from xraylab.params import config
from xraylab.params.images import changing
from xraylab.studies import detect, recipes, scaffold
from xraylab.studies.presets import leaves


def folder_of(top: Path, names: list[str], size: int = 40) -> Path:
    """Gray pictures of `size` by twice `size`."""
    rng = np.random.default_rng(0)
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (size * 2, size), np.uint8)).save(top / name)
    return top


def values(folder: Path) -> dict[str, object]:
    return detect.folder(folder, str(folder)).values


@pytest.mark.parametrize(
    ("names", "classes", "positive", "normal"),
    [
        (["TB", "Normal"], ["Normal", "TB"], "TB", "Normal"),
        (["No_findings", "Covid-19", "Pneumonia"], ["No_findings", "Covid-19", "Pneumonia"], None, "No_findings"),
        (["viral", "bacterial"], ["bacterial", "viral"], "viral", None),
        (["NonTB", "TB"], ["NonTB", "TB"], "TB", "NonTB"),
        (["1", "0"], ["0", "1"], "1", "0"),
        (
            ["covid_positive", "covid_negative"],
            ["covid_negative", "covid_positive"],
            "covid_positive",
            "covid_negative",
        ),
        (["c", "b", "a"], ["a", "b", "c"], None, None),
    ],
)
def test_classes_come_from_the_data_with_the_normal_one_first(
    names: list[str], classes: list[str], positive: str | None, normal: str | None, tmp_path: Path
) -> None:
    found = values(folder_of(tmp_path, [f"{name}/{n}.png" for name in names for n in range(2)]))
    assert (found["data.classes"], found["data.positive"], found["evaluate.negative_class"]) == (
        classes,
        positive,
        normal,
    )
    assert found["data.labels"] is None


def test_a_label_that_cannot_name_a_class_stays_a_label(tmp_path: Path) -> None:
    found = values(folder_of(tmp_path, ["COVID+/1.png", "ok/1.png"]))
    assert found["data.classes"] == ["COVID", "ok"]
    assert found["data.labels"] == {"COVID": ["COVID+"], "ok": ["ok"]}


@pytest.mark.parametrize(("size", "fits"), [(300, 224), (224, 224), (140, 128), (50, 32), (20, 32)])
def test_sizes_follow_the_shorter_side_of_the_images(size: int, fits: int, tmp_path: Path) -> None:
    found = values(folder_of(tmp_path, ["a/1.png", "b/1.png"], size))
    assert (found["images.size"], found["model.img_size"]) == (fits, fits)


@pytest.mark.parametrize(
    ("names", "patients"),
    [
        (["a/patient12_1.png", "a/patient12_2.png", "b/Patient3_1.png"], 2),
        (["a/00012_001.png", "a/00012_002.png", "b/00013_001.png"], 2),
        (["a/patient1_1.png", "a/patient1_2.png", "b/x.png"], 0),
        (["a/patient1_1.png", "a/patient2_2.png", "b/patient3_1.png"], 0),
    ],
)
def test_names_tell_patients_where_all_do_and_some_share_one(names: list[str], patients: int, tmp_path: Path) -> None:
    detected = detect.folder(folder_of(tmp_path, names), "here")
    assert (detected.values["data.patient"] is not None) == (patients > 0)
    told = f"    patients: {patients}, told by pattern" if patients else "    patients: unknown, so each image counts"
    assert any(line.startswith(told) for line in detected.lines)


def test_one_class_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^no classes found: put the images of each class into a folder"):
        values(folder_of(tmp_path, ["a/1.png", "a/2.png"]))


def test_a_new_study_fits_its_folder(tmp_path: Path) -> None:
    raw = folder_of(tmp_path / "raw", [f"{name}/{n}.png" for name in ("sick", "Normal", "worse") for n in range(3)])
    lines = scaffold.new(tmp_path / "s", None, [str(raw)], published=False)
    given = config.read(tmp_path / "s/params.yaml")
    assert (given.data.source, given.data.classes) == (str(raw), ["Normal", "sick", "worse"])
    assert (given.data.positive, given.evaluate.negative_class, given.split.strategy) == (None, "Normal", "random")
    assert (given.images.size, given.model.img_size, given.data.layout) == (32, 32, "auto")
    assert lines[:2] == [
        f"{raw}: 9 images; layout class-folders (images lie in folders, and no other layout fits)",
        "    Normal: 3 images",
    ]
    assert lines[-4:] == [
        f"{tmp_path / 's'} is a study. Next:",
        f"    cd {tmp_path / 's'}",
        "    git add --all && git commit -m 'A new study'",
        "    dvc repro",
    ]


def test_a_new_study_of_a_folder_that_is_not_there_or_cannot_be_used_is_not_begun(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        scaffold.new(tmp_path / "s", None, [str(tmp_path / "none")], published=False)
    where = tmp_path / "none"
    assert str(caught.value) == f"--data {where}: {where} is not there: name a folder, an archive, an address, or demo"
    with pytest.raises(DataError, match=r"^no classes found"):
        scaffold.new(tmp_path / "s", None, [str(folder_of(tmp_path / "raw", ["a/1.png"]))], published=False)
    assert not (tmp_path / "s").exists()


def test_an_archive_is_looked_into_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "UNPACKED", 10)
    names = [f"{label}/{n:03}.png" for label in ("normal", "ill") for n in range(30)]
    folder = folder_of(tmp_path / "films", names, size=100)
    packed = Path(shutil.make_archive(str(tmp_path / "films"), "zip", folder))
    lines = scaffold.new(tmp_path / "s", None, [str(packed)], published=False)
    assert lines[:2] == [
        f"{packed}: 60 images; layout class-folders (images lie in folders, and no other layout fits)",
        "    normal: 30 images",
    ]
    assert "    dvc repro fetch" not in lines
    cfg = config.read(tmp_path / "s/params.yaml")
    assert (cfg.data.source, cfg.data.classes, cfg.images.size) == (str(packed), ["normal", "ill"], 96)
    small.edit(tmp_path / "s", lambda tree: tree["data"].update(classes=["x", "y"], positive="y"))
    scaffold.init(tmp_path / "s", [])
    assert config.read(tmp_path / "s/params.yaml").data.classes == ["normal", "ill"]


def test_an_address_is_looked_at_once_it_is_fetched(tmp_path: Path) -> None:
    lines = scaffold.new(tmp_path / "s", None, ["kaggle:someone/films"], published=False)
    assert lines[-4:-2] == ["    dvc repro fetch", "    xraylab init"]
    with pytest.raises(DataError, match="bring it here with `dvc repro fetch` first"):
        scaffold.init(tmp_path / "s", [])
    folder_of(tmp_path / "s/data/raw", ["A/1.png", "B/1.png"])
    scaffold.init(tmp_path / "s", [])
    data = config.read(tmp_path / "s/params.yaml").data
    assert (data.source, data.classes) == ("kaggle:someone/films", ["A", "B"])


def test_init_changes_what_the_data_say_and_nothing_else(tmp_path: Path) -> None:
    raw = folder_of(tmp_path / "raw", ["ill/1.png", "healthy/1.png"], size=300)
    text = template.file("params.yaml").read_text().replace("title: Tuberculosis on chest", "title: Mine on chest")
    text = text.replace("strategy: sorted-id  ", "strategy: hash       ").replace("epochs: 6", "epochs: 7")
    (tmp_path / "params.yaml").write_text(text)
    lines = scaffold.init(tmp_path, [str(raw)])
    after = (tmp_path / "params.yaml").read_text()
    read = [dict(leaves(YAML(typ="safe").load(each))) for each in (text, after)]  # a long path has a line of its own
    assert {key: value for key, value in read[1].items() if value != read[0][key]} == {
        "data.source": str(raw),
        "data.classes": ["healthy", "ill"],
        "data.positive": "ill",
        "images.size": 224,
        "model.img_size": 224,
        "evaluate.negative_class": "healthy",
    }
    assert [line.partition("#")[2] for line in after.splitlines() if "#" in line] == [
        line.partition("#")[2] for line in text.splitlines() if "#" in line
    ]
    assert lines[-6:] == [
        f"    data.source: {raw}",
        "    data.classes: ['healthy', 'ill']",
        "    data.positive: ill",
        "    images.size: 224",
        "    model.img_size: 224",
        "    evaluate.negative_class: healthy",
    ]
    assert scaffold.init(tmp_path, [])[-1] == "params.yaml says so already"


def test_init_leaves_params_yaml_alone_where_the_result_could_not_be_used(tmp_path: Path) -> None:
    text = template.file("params.yaml").read_text().replace("prevalence:     ", "prevalence: [0.5, 0.5]")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(Exception, match=r"params.yaml cannot be used:\n  - evaluate.prevalence: 2 shares for the"):
        scaffold.init(tmp_path, [str(folder_of(tmp_path / "raw", ["a/1.png", "b/1.png", "c/1.png"]))])
    assert (tmp_path / "params.yaml").read_text() == text
    with pytest.raises(DataError, match=r"data\.source is demo"):
        scaffold.init(tmp_path, [])


def test_columns_that_are_not_known_by_name_can_be_named(tmp_path: Path) -> None:
    raw = folder_of(tmp_path / "raw", ["films/1.png", "films/2.png", "films/3.png"])
    (raw / "list.csv").write_text("Bild;Befund;Pat-Nr\n1;gesund;x\n2;krank;y\n3;krank;y\n")
    with pytest.raises(DataError, match=r"list\.csv: has a column of the image \(bild\), and none of labels that is"):
        scaffold.new(tmp_path / "s", None, [str(raw)], published=False)
    lines = scaffold.new(tmp_path / "s", None, [str(raw)], False, ["label=Befund", "patient=Pat-Nr"])
    data = config.read(tmp_path / "s/params.yaml").data
    assert (data.columns, data.classes) == ({"label": "Befund", "patient": "Pat-Nr"}, ["gesund", "krank"])
    assert "    patients: 2, told by column pat_nr" in lines
    assert scaffold.init(tmp_path / "s", [])[-1] == "params.yaml says so already"
    with pytest.raises(DataError) as caught:
        scaffold.init(tmp_path / "s", [], ["who=Pat-Nr"])
    assert str(caught.value).startswith(
        "--column 'who=Pat-Nr': write WHAT=NAME, WHAT being one of file, label, patient"
    )


def test_a_recipe_is_laid_over_what_is_detected_and_resolves(tmp_path: Path) -> None:
    """A new study compares it with one experiment that augments nothing; an existing one keeps its experiments."""
    raw = folder_of(tmp_path / "raw", ["ill/1.png", "healthy/1.png"], size=300)
    scaffold.new(tmp_path / "new", None, [str(raw)], published=False, recipe="robust")
    (tmp_path / "old").mkdir()
    (tmp_path / "old/params.yaml").write_text(template.file("params.yaml").read_text())
    lines = scaffold.init(tmp_path / "old", [str(raw)], recipe="robust")
    assert "    experiments: baseline, l2, dropout, sharpness, contrast, robust" in lines
    for name in ("new", "old"):
        given = config.read(tmp_path / name / "params.yaml")
        assert (given.data.classes, given.images.size) == (["healthy", "ill"], 224)
        assert (given.images.crop_lungs, given.study.baseline) == (True, "baseline")
        assert len(given.experiments) == {"new": 2, "old": 6}[name]
        assert not changing(given.experiment("baseline").augment)
        augment, wanted = given.experiment("robust").augment.model_dump(), recipes.ROBUST_EXPERIMENT["augment"]
        assert {key: augment[key] for key in wanted} == wanted
    assert scaffold.init(tmp_path / "old", [], recipe="robust")[-1] == "params.yaml says so already"


def test_a_recipe_that_is_none_or_for_a_published_study_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ParamsError) as caught:
        scaffold.new(tmp_path / "s", None, [], published=False, recipe="robst")
    assert str(caught.value) == "there is no recipe 'robst'; did you mean robust?"
    with pytest.raises(ParamsError) as caught:
        scaffold.new(tmp_path / "s", "tb", [], published=False, recipe="robust")
    assert str(caught.value) == "--recipe robust is for images of your own: leave --study tb out, or --recipe"
    assert not (tmp_path / "s").exists()
