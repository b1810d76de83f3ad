"""data.source as a list: several sources, each with its own labels, read as one study."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import small
from conftest import load, run
from refused import problems
from test_headers import film

from xraylab import files, tables
from xraylab.data.audit.audit import audit_folders
from xraylab.errors import XraylabError
from xraylab.paths import Paths
from xraylab.stages import fetch, index, source
from xraylab.stages import split as split_stage
from xraylab.studies import watch

Sources = list[dict[str, Any]] | str


def write(top: Path, counts: dict[str, int], seed: int) -> Path:
    """A folder with a folder of noise images for each label."""
    names = [f"{label}/{number}.png" for label, count in counts.items() for number in range(count)]
    small.write_images(top, names, seed=seed)
    return top


def two(top: Path) -> Sources:
    """A source of folders, and one whose labels and patients stand in a table; both call an image 0.png."""
    write(top / "one", {"Healthy": 12, "TB": 12}, seed=1)
    small.write_images(top / "two", [f"images/{number}.png" for number in range(24)], seed=2)
    table = pd.DataFrame({"image": [f"{n}.png" for n in range(24)], "finding": ["ok", "tuberculosis"] * 12})
    tables.write(table.assign(patient_id=[str(n // 2) for n in range(24)]), top / "two/list.csv")
    return [
        {"name": "one", "path": str(top / "one"), "patient": r"^(?P<patient>\d+)\."},
        {"name": "two", "path": str(top / "two"), "labels": {"Healthy": ["OK"], "TB": ["tuberculosis"]}},
    ]


def study(root: Path, sources: Sources, **more: Any) -> tuple[Any, Paths]:
    """A study of these sources, whose parameters have been read; `more` are sections with changed values."""

    def change(tree: small.Tree) -> None:
        tree["data"]["source"] = sources
        tree["split"]["strategy"] = "random"
        for section, values in more.items():
            tree[section].update(values)

    return load(small.study(root / "study", change))


def made(root: Path, sources: Sources, *stages: Any, **more: Any) -> Paths:
    return run(study(root, sources, **more), source, *stages)[1]


def test_each_source_is_read_by_itself_and_its_images_and_patients_stay_its_own(tmp_path: Path) -> None:
    paths = made(tmp_path, two(tmp_path), fetch, index)
    table = tables.read(paths.index)
    assert table.groupby(["source", "label"]).size().to_dict() == {
        (name, label): 12 for name in ("one", "two") for label in ("Healthy", "TB")
    }
    assert set(table["path"]) == {path.relative_to(paths.raw).as_posix() for path in paths.raw.rglob("*.png")}
    assert (table["path"].str.split("/").str[0] == table["source"]).all()
    assert table["id"].is_unique
    assert "two/0.png" in set(table["id"]) or "two/images/0.png" in set(table["id"])
    assert set(table["patient"][table["source"] == "one"]) == {f"one/{n}" for n in range(12)}
    assert set(table["patient"][table["source"] == "two"]) == {f"two/{n}" for n in range(12)}
    record = files.read_json(paths.audit)
    assert record["layout"] == "one: class-folders; two: table"
    assert record["patients"] == "one: pattern; two: column patient_id"


def test_a_changed_file_of_one_source_is_noted_below_its_name(tmp_path: Path) -> None:
    sources = two(tmp_path)
    before = files.read_json(made(tmp_path, sources).source)
    small.write_images(tmp_path / "two", ["images/0.png"], seed=9)
    loaded = load(tmp_path / "study")
    after = files.read_json(run(loaded, source)[1].source)
    assert after["kind"] == "several"
    assert list(after["sources"]) == ["one", "two"]
    assert after["sources"]["one"] == before["sources"]["one"]
    assert after["sources"]["two"]["sha256"] != before["sources"]["two"]["sha256"]


def test_a_source_that_is_not_here_stays_as_it_was_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files.read_json(made(tmp_path, two(tmp_path)).source)
    (tmp_path / "two").rename(tmp_path / "gone")
    assert files.read_json(run(load(tmp_path / "study"), source)[1].source) == before
    assert f"warning: {tmp_path / 'two'} is not on this machine; going on" in capsys.readouterr().out


def test_the_demo_and_an_archive_stand_in_a_list_too(tmp_path: Path) -> None:
    write(tmp_path / "films", {"healthy": 4, "tb": 4}, seed=3)
    archive = shutil.make_archive(str(tmp_path / "films"), "zip", tmp_path / "films")
    sources = [{"name": "drawn", "path": "demo"}, {"name": "packed", "path": archive}]
    paths = made(
        tmp_path,
        sources,
        fetch,
        index,
        data={"demo": {"n_healthy": 6, "n_tb": 4, "size": 32, "seed": 0, "task": "single-label"}},
    )
    found = tables.read(paths.index).groupby(["source", "label"]).size().to_dict()
    assert found == {("drawn", "Healthy"): 6, ("drawn", "TB"): 4, ("packed", "Healthy"): 4, ("packed", "TB"): 4}


def test_a_source_may_lack_a_class_but_not_all_sources(tmp_path: Path) -> None:
    write(tmp_path / "one", {"Healthy": 8, "TB": 8}, seed=1)
    write(tmp_path / "well", {"Healthy": 4}, seed=2)
    sources = [{"name": name, "path": str(tmp_path / name)} for name in ("one", "well")]
    paths = made(tmp_path, sources, fetch, index)
    assert tables.read(paths.index)["source"].value_counts().to_dict() == {"one": 16, "well": 4}
    refusal_of = study(tmp_path / "other", sources[1:])
    with pytest.raises(XraylabError) as caught:
        run(refusal_of, source)
    assert str(caught.value) == (
        "data.source: no source has an image of TB: set data.classes, or the labels of a source:\n"
        "  - well has Healthy (4)"
    )


def test_labels_in_no_class_are_refused_before_anything_is_copied(tmp_path: Path) -> None:
    write(tmp_path / "one", {"Healthy": 2, "TB": 2, "COVID": 3, "Tb old": 1}, seed=1)
    sources: Sources = [{"name": "one", "path": str(tmp_path / "one")}]
    with pytest.raises(XraylabError) as caught:
        made(tmp_path, sources)
    assert str(caught.value) == (
        "data.source.0 (one): labels that are in no class: COVID (3), Tb old (1). Say below it in data.source to which "
        "class they belong, or that they are to be left out:\n"
        "  - Tb old: did you mean TB?\n"
        '  - labels: {"Healthy": ["Healthy"], "TB": ["TB", "COVID", "Tb old"]}\n'
        '  - or ignore: ["COVID", "Tb old"]'
    )


@pytest.mark.parametrize("ignore", ["others", ["covid", "Tb old"]])
def test_labels_that_are_ignored_are_left_out_and_counted(ignore: Any, tmp_path: Path) -> None:
    write(tmp_path / "one", {"Healthy": 2, "TB": 2, "COVID": 3, "Tb old": 1}, seed=1)
    paths = made(tmp_path, [{"name": "one", "path": str(tmp_path / "one"), "ignore": ignore}], fetch, index)
    assert tables.read(paths.index)["label"].value_counts().to_dict() == {"Healthy": 2, "TB": 2}
    left = [each for each in files.read_json(paths.audit)["findings"] if each["kind"] == "left_out"]
    assert sum(each["count"] for each in left) == 4
    assert all("one: " in each["says"] for each in left)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"ignore": ["CVID"]},
            "data.source.0 (one): ignore names labels that no image left over has: CVID; there is COVID (3)\n"
            "  - CVID: did you mean COVID?",
        ),
        (
            {"labels": {"Healthy": ["Healthy"], "TB": ["Koch"]}, "ignore": "others"},
            "data.source.0 (one): labels: no image of TB is here, which has COVID (3), Healthy (2), TB (2)",
        ),
        (
            {"labels": {"Healthy": ["well"]}},
            "data.source.0 (one): none of the labels well is here, which has COVID (3), Healthy (2), TB (2): say below "
            "it in data.source which labels make up which class:\n"
            '  - labels: {"Healthy": ["COVID", "Healthy", "TB"]}',
        ),
        ({"patient": r"^x(?P<patient>\d)", "ignore": "others"}, "data.source.0 (one): data.patient: "),
        ({"table": "no.csv"}, "data.source.0 (one): data.table: no.csv is not in the source, which has no table"),
        ({"path": "http://example.org/x.zip"}, "data.source.0 (one): http://example.org/x.zip is refused, since http"),
        ({"path": "https://example.org/x.zip"}, "data.source.0 (one): https://example.org/x.zip is refused without"),
        ({"path": "/nowhere"}, "data.source.0 (one): /nowhere is not on this machine: name a folder"),
    ],
)
def test_what_is_wrong_with_one_source_is_said_of_it(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(tmp_path / "one", {"Healthy": 2, "TB": 2, "COVID": 3}, seed=1)
    with pytest.raises(XraylabError) as caught:
        made(tmp_path, [{"name": "one", "path": str(tmp_path / "one")} | more])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "data.source: list should have at least 1 item after validation, not 0, got []"),
        ([{"name": "a"}], "data.source.0.path: missing; it has no default outside params.yaml"),
        (
            [{"name": "a", "path": "x", "lables": {}}],
            "data.source.0.lables: unknown key; did you mean data.source.0.labels?",
        ),
        ([{"name": "a b", "path": "x"}], "data.source.0.name: a source's name is up to 64 letters, digits, - and _"),
        (
            [{"name": "a", "path": "x"}, {"name": "A", "path": "y"}],
            "data.source.1.name: A is the name of another source, in upper or lower case",
        ),
        (
            [{"name": "a", "path": "x", "labels": {"Tb": ["x"]}}],
            "data.source.0.labels: Tb is none of data.classes (Healthy, TB)",
        ),
        (
            [{"name": "a", "path": "x", "labels": {"TB": ["x"]}, "ignore": ["x"]}],
            "data.source.0: 'x' is listed twice",
        ),
        ([{"name": "a", "path": "x", "layout": "folders"}], "data.source.0.layout: should be 'auto', "),
        ([{"name": "a", "path": "x", "ignore": "rest"}], "data.source.0.ignore: "),
        (7, "data.source: input should be a valid string, got 7"),
    ],
)
def test_a_list_that_cannot_be_is_refused_with_its_dotted_path(sources: Any, message: str, tmp_path: Path) -> None:
    assert any(
        each.startswith(message) for each in problems(tmp_path, lambda tree: tree["data"].update(source=sources))
    )


def test_one_sha256_does_not_speak_of_several_sources(tmp_path: Path) -> None:
    found = problems(tmp_path, lambda tree: tree["data"].update(source=[{"name": "a", "path": "x"}], sha256="0" * 64))
    assert "data.sha256: of several sources each has its own, below its name: set it to null" in found


def test_copies_across_sources_are_found_and_leave(tmp_path: Path) -> None:
    sources = two(tmp_path)
    copied = (tmp_path / "one/TB/3.png").read_bytes()
    (tmp_path / "two/images/1.png").write_bytes(copied)
    paths = made(tmp_path, sources, fetch, index, split_stage)
    assert [each["count"] for each in files.read_json(paths.audit)["findings"] if each["kind"] == "duplicates"] == [1]
    splits = [set(tables.read(paths.split / f"{split}_data.csv")["path"]) for split in ("train", "valid", "test")]
    pair = {"one/TB/3.png", "two/images/1.png"}
    assert sorted(len(split & pair) for split in splits) == [0, 0, 2]


def test_given_splits_of_each_source_are_kept(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        for split in ("train", "val", "test"):
            write(
                tmp_path / name / split, {"Healthy": 4, "TB": 4}, seed=seed * 10 + ["train", "val", "test"].index(split)
            )
    sources = [{"name": name, "path": str(tmp_path / name)} for name in ("one", "two")]
    given = {"strategy": "given", "test_pct": None, "valid_pct": None}
    paths = made(tmp_path, sources, fetch, index, split_stage, split=given)
    for split, given_as in (("train", "train"), ("valid", "val"), ("test", "test")):
        listed = tables.read(paths.split / f"{split}_data.csv")
        assert set(listed["path"]) == {
            f"{name}/{given_as}/{label}/{n}.png"
            for name in ("one", "two")
            for label in ("Healthy", "TB")
            for n in range(4)
        }


def test_folders_are_audited_together(tmp_path: Path) -> None:
    """Copies in two of them are found, and every label counts, as it is duration."""
    write(tmp_path / "one/films", {"Healthy": 3, "TB": 3}, seed=1)
    write(tmp_path / "two/films", {"healthy": 3, "TB": 3}, seed=2)
    (tmp_path / "two/films/TB/0.png").write_bytes((tmp_path / "one/films/Healthy/2.png").read_bytes())
    found = audit_folders([tmp_path / "one/films", tmp_path / "two/films"], "auto", None)
    assert found.index.groupby(["source", "label"]).size().to_dict() == {
        ("films", "Healthy"): 3, ("films", "TB"): 3, ("films-2", "TB"): 3, ("films-2", "healthy"): 3,
    }  # fmt: skip
    conflict = [each.examples for each in found.record.findings if each.kind == "label_conflict"]
    assert conflict == [["films/Healthy/2.png = films-2/TB/0.png"]]
    with pytest.raises(XraylabError, match=r"none: .* is not a folder"):
        audit_folders([tmp_path / "one", tmp_path / "none"], "auto", None)


def test_what_dvc_watches_is_each_source_of_this_machine(tmp_path: Path) -> None:
    sources = [{"name": "drawn", "path": "demo"}, *two(tmp_path)]
    sources.append({"name": "far", "path": "kaggle:someone/films"})
    given, paths = study(tmp_path, sources)
    watch.write(given, paths.root)
    deps = files.read_yaml(paths.root / "dvc.yaml")["stages"]["source"]["deps"]
    assert deps == ["code/source.txt", "${data.source[1].path}", "${data.source[2].path}"]
    assert watch.missing(given, paths.root, paths.root) == []


def test_patients_and_sites_of_headers_are_told_apart_by_source(tmp_path: Path) -> None:
    """Two hospitals number their patients from 1; the list names the source, the header the site."""
    for name in ("one", "two"):
        for number in range(8):
            tags = {
                "PatientID": str(number // 2 + 1),
                "InstitutionName": f"Ward {number % 2}",
                "Manufacturer": "Siemens",
            }
            film(
                tmp_path / name / ("Healthy", "TB")[number % 2] / f"{number}.dcm", number + 9 * (name == "two"), **tags
            )
    sources = [{"name": name, "path": str(tmp_path / name)} for name in ("one", "two")]
    paths = made(tmp_path, sources, fetch, index)
    table = tables.read(paths.index)
    assert table.groupby("source")["patient"].nunique().to_dict() == {"one": 4, "two": 4}
    assert table["patient"].nunique() == 8
    assert all(
        patient.startswith(f"{name}/dicom-") for name, patient in zip(table["source"], table["patient"], strict=True)
    )
    assert set(table["source"]) == {"one", "two"}
    assert (table["site"].nunique(), set(table["manufacturer"])) == (2, {"Siemens"})
    assert files.read_json(paths.audit)["patients"] == "DICOM's PatientID"
    assert files.read_json(paths.audit)["shortcuts"]["cramers_v"]["site"] == 1.0
