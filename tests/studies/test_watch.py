"""DVC watches what params.yaml names on this machine, and a stage says so where it does not."""

from pathlib import Path

import pytest
import small
from conftest import load

from xraylab import files
from xraylab.errors import MissingError
from xraylab.params import config
from xraylab.stages import source
from xraylab.studies import scaffold, watch


def deps(root: Path) -> list[str]:
    found: list[str] = files.read_yaml(root / "dvc.yaml")["stages"]["source"]["deps"]
    return found


def test_the_shipped_dvc_yaml_is_as_it_would_be_written(tmp_path: Path) -> None:
    study = small.study(tmp_path)
    shipped = (study / "dvc.yaml").read_text()
    assert watch.write(config.read(study / "params.yaml"), study) == []
    small.edit(study, lambda tree: tree["data"].update(source=str(tmp_path)))
    assert watch.write(config.read(study / "params.yaml"), study) == ["${data.source}"]
    written = (study / "dvc.yaml").read_text()
    assert written == shipped.replace("- code/source.txt\n", "- code/source.txt\n      - ${data.source}\n")
    small.edit(study, lambda tree: tree["data"].update(source="demo"))
    watch.write(config.read(study / "params.yaml"), study)
    assert (study / "dvc.yaml").read_text() == shipped


def test_a_study_of_a_folder_watches_it(tmp_path: Path) -> None:
    images = small.two_classes(tmp_path / "images", healthy=4, tb=4)
    scaffold.new(tmp_path / "new", None, [str(images)], published=False)
    assert deps(tmp_path / "new") == ["code/source.txt", "${data.source}"]
    study = small.study(tmp_path / "study")
    scaffold.init(study, [str(images)])
    assert deps(study) == ["code/source.txt", "${data.source}"]


@pytest.mark.parametrize(
    ("name", "watched"),
    [
        ("demo", []),
        ("s3://bucket/films", []),
        ("images", ["${data.source}"]),
        ("films.zip", ["${data.source}"]),
        ("~/films", [str(Path("~/films").expanduser())]),
        ("file:///films", ["/films"]),
    ],
)
def test_what_is_on_this_machine_is_watched(name: str, watched: list[str], tmp_path: Path) -> None:
    given, _ = load(small.study(tmp_path, lambda tree: tree["data"].update(source=name)))
    assert watch.dependencies(given, tmp_path) == watched


def test_of_a_table_its_images_are_watched_too_and_of_a_split_its_lists(tmp_path: Path) -> None:
    small.write_images(tmp_path / "images", ["a/1.png", "b/2.png"])
    (tmp_path / "images.csv").write_text("path,label\nimages/a/1.png,ill\nimages/b/2.png,healthy\n")

    def change(tree: small.Tree) -> None:
        tree["data"]["source"] = str(tmp_path / "images.csv")
        tree["split"].update(strategy="given", files="lists", test_pct=None, valid_pct=0.15)

    given, _ = load(small.study(tmp_path / "study", change))
    watched = ["${data.source}", str(tmp_path / "images"), "${split.files}"]
    assert watch.dependencies(given, tmp_path / "study") == watched
    (tmp_path / "c.png").write_bytes((tmp_path / "images/a/1.png").read_bytes())
    with (tmp_path / "images.csv").open("a") as table:
        table.write("c.png,ill\n")  # now the folder of them all holds the study
    assert watch.dependencies(given, tmp_path / "study") == ["${data.source}", "${split.files}"]


def test_without_a_dvc_yaml_nothing_can_be_watched(tmp_path: Path) -> None:
    given, paths = load(small.study(tmp_path))
    (tmp_path / "dvc.yaml").unlink()
    with pytest.raises(MissingError) as caught:
        watch.write(given, paths.root)
    assert str(caught.value) == f"no dvc.yaml in {tmp_path}: run this command in the top folder of a study"


def test_the_source_says_that_it_is_not_watched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = small.two_classes(tmp_path / "images", healthy=4, tb=4)
    given, paths = load(small.study(tmp_path / "study", small.use(images, ["Healthy", "TB"], "TB")))
    source.run(given, paths)
    assert capsys.readouterr().out == (
        "warning: DVC does not watch ${data.source} of params.yaml: run `xraylab track-source`, or a change goes "
        "unnoticed\n"
    )
    watch.write(given, paths.root)
    source.run(given, paths)
    assert capsys.readouterr().out == ""
