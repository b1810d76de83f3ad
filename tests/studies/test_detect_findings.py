"""A folder whose images have several findings each becomes a multi-label study that runs without an edit."""

import shutil
from pathlib import Path

import findings
import pytest
import small
from conftest import BEFORE_CONFIGURE, load, run

from xraylab import files, tables, targets
from xraylab.errors import DataError
from xraylab.params import config
from xraylab.studies import detect, scaffold

NIH = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films with a column per finding."""
    return findings.images(tmp_path_factory.mktemp("wide") / "films", count=80)


def nih(folder: Path, labels: list[str]) -> Path:
    """NIH's table and lists: a fifth is tested."""
    names = [f"{number:08}_000.png" for number in range(len(labels))]
    small.write_images(folder, names, pixels=40)
    lines = [f"{name},{label},0,{n},058Y,M,PA" for n, (name, label) in enumerate(zip(names, labels, strict=True))]
    (folder / "Data_Entry_2017.csv").write_text("\n".join([NIH, *lines]) + "\n")
    (folder / "test_list.txt").write_text("\n".join(names[::5]))
    (folder / "train_val_list.txt").write_text("\n".join(name for name in names if name not in names[::5]))
    return folder


def test_a_table_with_a_column_per_finding_makes_a_study_whose_stages_run(wide: Path, tmp_path: Path) -> None:
    lines = scaffold.new(tmp_path / "s", None, [str(wide)], published=False)
    params, paths = loaded = load(tmp_path / "s")
    assert (params.data.task, params.data.classes, params.data.labels) == ("multi-label", findings.FINDINGS, None)
    assert (params.data.positive, params.evaluate.negative_class) == (None, None)
    assert (params.loss.name, params.train.monitor, params.split.strategy) == ("bce", "valid_auroc", "random")
    assert (params.data.blank, params.data.demo.task) == ("missing", "single-label")
    cells = tables.read(wide / "labels.csv", ("image",))["Edema"]
    counts = [f"{(cells.astype(str) == mark).sum()} {word}" for mark, word in (("1", "present"), ("0", "absent"))]
    assert any(line.startswith(f"    Edema: {counts[0]}, {counts[1]}, ") for line in lines)
    assert lines[0].startswith(f"{wide}: 80 images with several findings each; layout table (labels.csv names files")
    run(loaded, *BEFORE_CONFIGURE)
    assert targets.of_table(tables.read(paths.split / "test_data.csv")) == targets.columns(findings.FINDINGS)


def test_nih_s_table_makes_a_study_of_its_frequent_findings_and_its_split(tmp_path: Path) -> None:
    labels = ["Mass|Edema", "No Finding", "Edema", "Mass"] * 20
    labels[1], labels[3] = "Hernia", "Mass|No Finding"
    lines = scaffold.new(tmp_path / "s", None, [str(nih(tmp_path / "nih", labels))], published=False)
    params, paths = loaded = load(tmp_path / "s")
    assert (params.data.classes, params.split.strategy) == (["Edema", "Mass"], "given")
    assert "    not studied (stands for the absence of all findings): No Finding" in lines
    assert "    not studied (fewer than 3 images show it, or do not): Hernia" in lines
    run(loaded, *BEFORE_CONFIGURE)
    record = {each["kind"]: each for each in files.read_json(paths.audit)["findings"]}
    assert record["not_studied"]["examples"] == ["No Finding (20 images)", "Hernia (1 images)"]
    assert (record["finding_and_none"]["severity"], record["finding_and_none"]["examples"]) == (
        "warning", ["00000003_000.png"],
    )  # fmt: skip
    assert set(tables.read(paths.split / "test_data.csv")["id"]) == {f"{n:08}_000.png" for n in range(0, 80, 5)}


def test_one_finding_each_is_no_study_of_several(tmp_path: Path) -> None:
    folder = nih(tmp_path / "nih", ["Mass", "No Finding"] * 8)
    assert detect.folder(folder, "here").values["data.classes"] == ["No Finding", "Mass"]
    shutil.rmtree(folder)
    with pytest.raises(DataError) as caught:
        detect.folder(nih(tmp_path / "nih", ["Mass|Edema", "No Finding", "Edema", "Hernia"] * 2), "here")
    assert str(caught.value) == (
        "a study of several findings needs two or more that 3 images show and 3 do not, in each split that the data "
        "give; there is Edema (1), Hernia (0), Mass (1)"
    )


def test_folders_of_classes_stay_classes_beside_columns_that_are_no_findings(tmp_path: Path) -> None:
    small.write_images(tmp_path, [f"{label}/{n}.png" for label in ("ill", "normal") for n in range(6)], pixels=40)
    rows = [f"{label}/{n}.png,{n % 2},{n % 3 % 2}" for label in ("ill", "normal") for n in range(6)]
    (tmp_path / "list.csv").write_text("\n".join(["image,smoker,diabetic", *rows]))
    assert detect.folder(tmp_path, "here").values["data.classes"] == ["normal", "ill"]
    (tmp_path / "list.csv").write_text("\n".join(["image,Edema,Pleural Effusion", *rows]))
    assert detect.folder(tmp_path, "here").values["data.classes"] == ["Edema", "Pleural Effusion"]


def test_names_that_cannot_be_classes_stay_labels(tmp_path: Path) -> None:
    folder = nih(tmp_path / "nih", ["Nodule/Mass|Edema", "No Finding", "Edema|Nodule/Mass", "Hernia"] * 16)
    assert detect.folder(folder, "here").values["data.labels"] == {
        "Edema": ["Edema"], "Hernia": ["Hernia"], "Nodule_Mass": ["Nodule/Mass"],
    }  # fmt: skip


def test_init_goes_from_one_task_to_the_other_and_keeps_a_loss_that_fits(wide: Path, tmp_path: Path) -> None:
    small.two_classes(tmp_path / "two", healthy=6, tb=6)
    scaffold.new(tmp_path / "s", None, [str(wide)], published=False)
    small.edit(tmp_path / "s", lambda tree: tree["loss"].update(name="asymmetric", pos_weight="balanced"))
    scaffold.init(tmp_path / "s", [str(wide)])
    kept = config.read(tmp_path / "s/params.yaml")
    assert (kept.data.task, kept.loss.name, kept.loss.pos_weight) == ("multi-label", "asymmetric", "balanced")
    scaffold.init(tmp_path / "s", [str(tmp_path / "two")])
    params = config.read(tmp_path / "s/params.yaml")
    assert (params.data.task, params.data.classes, params.data.positive) == ("single-label", ["Healthy", "TB"], "TB")
    assert (params.loss.name, params.loss.pos_weight, params.train.monitor) == ("cross_entropy", "none", "valid_f1")


def test_several_sources_share_findings_under_their_synonyms(tmp_path: Path) -> None:
    one = nih(tmp_path / "nih", ["Effusion|Mass", "No Finding", "Effusion", "Mass"] * 8)
    other = tmp_path / "other"
    small.write_images(other, [f"{n:02}.png" for n in range(16)], pixels=40, seed=7)
    rows = [f"{n:02}.png,{n % 2},{n // 2 % 2}" for n in range(16)]
    (other / "list.csv").write_text("\n".join(["image,Pleural Effusion,Edema", *rows]))
    lines = scaffold.new(tmp_path / "s", None, [str(one), str(other)], published=False)
    params, paths = loaded = load(tmp_path / "s")
    assert (params.data.task, params.data.classes) == ("multi-label", ["Effusion", "Mass", "Edema"])
    assert [each.labels for each in params.data.source] == [
        {"Effusion": ["Effusion"], "Mass": ["Mass"]},
        {"Effusion": ["Pleural Effusion"], "Edema": ["Edema"]},
    ]
    assert "    no Mass: not labelled there" in lines
    run(loaded, *BEFORE_CONFIGURE[:3])
    table = tables.read(paths.index)
    known = targets.known(targets.values(table, params.data.classes))
    assert [known[table["source"] == name].all(axis=0).tolist() for name in ("nih", "other")] == [
        [True, True, False], [True, False, True],
    ]  # fmt: skip


def test_a_source_of_classes_beside_one_of_findings_makes_classes_of_both(tmp_path: Path) -> None:
    one = nih(tmp_path / "nih", ["Effusion|Mass", "No Finding", "Effusion", "Mass"] * 4)
    two = small.two_classes(tmp_path / "two", healthy=6, tb=6)
    scaffold.new(tmp_path / "s", None, [str(one), str(two)], published=False)
    params = config.read(tmp_path / "s/params.yaml")
    assert (params.data.task, params.data.classes) == ("single-label", ["Normal", "Abnormal"])
