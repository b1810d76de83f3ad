"""dvc.lock, dvc.yaml and params.yaml as nobody should write them: each ends in a sentence, whoever reads them."""

import threading
from pathlib import Path
from typing import Any

import pytest
import small

from xraylab import dvc_lock, files, pipeline
from xraylab.errors import DataError, XraylabError
from xraylab.jobs import stages
from xraylab.params import config
from xraylab.paths import Paths
from xraylab.studies import artifacts, scaffold, watch

MD5 = "0123456789abcdef" * 2
WHOLE = f"""\
schema: '2.0'
stages:
  index:
    cmd: ls
    deps:
    - path: data/raw
      md5: {MD5}.dir
    outs:
    - path: data/index.csv
      md5: {MD5}
      size: 3
"""
DEEP = "[" * 100_000
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
NO_LOCKS = {
    "empty": "", "a list": "[]", "a number": "7", "no stages": "schema: '2.0'\n", "torn": WHOLE[:-30],
    "another schema": WHOLE.replace("2.0", "3.0"), "no schema": WHOLE.partition("\n")[2],
    "a list of stages": "schema: '2.0'\nstages: []\n", "a number for outs": WHOLE.replace("outs:", "outs: 3\n    x:"),
    "a number for a path": WHOLE.replace("data/raw", "3"), "a cut hash": WHOLE.replace(f"{MD5}\n", "0123\n"),
    "deep": DEEP, "aliases": LAUGHS,
}  # fmt: skip
NO_YAML = {"empty": "", "a list": "[]", "nothing": "null", "a number": "7", "deep": DEEP, "aliases": LAUGHS}


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dvc_lock, "PAUSE", 0.01)


def test_the_entries_of_a_lock_are_read(tmp_path: Path) -> None:
    path = tmp_path / "dvc.lock"
    assert dvc_lock.entries(path) == {}
    path.write_text("schema: '2.0'\ndatasets: []\n")  # as `dvc ds add` writes it before any stage has run
    assert dvc_lock.entries(path) == {}
    path.write_text(WHOLE)
    assert dvc_lock.entries(path)["index"]["outs"] == [{"path": "data/index.csv", "md5": MD5, "size": 3}]


@pytest.mark.parametrize("text", NO_LOCKS.values(), ids=NO_LOCKS)
def test_a_lock_that_dvc_did_not_write_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "dvc.lock"
    path.write_text(text)
    with pytest.raises(DataError, match=r"^dvc\.lock cannot be read \(.+\): bring it back by `git checkout dvc\.lock`"):
        dvc_lock.entries(path)


def test_a_lock_is_read_once_dvc_has_written_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dvc_lock, "PAUSE", 0.1)
    path = tmp_path / "dvc.lock"
    path.write_text(WHOLE[:-30])
    timer = threading.Timer(0.2, path.write_text, [WHOLE])
    timer.start()
    assert list(dvc_lock.entries(path)) == ["index"]
    timer.join()


@pytest.mark.parametrize("text", NO_LOCKS.values(), ids=NO_LOCKS)
def test_whoever_watches_a_study_goes_on_beside_such_a_lock(text: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("data: {}\n")
    (tmp_path / "dvc.yaml").write_text("stages: {index: {cmd: ls, outs: [data/index.csv]}}\n")
    (tmp_path / "dvc.lock").write_text(text)
    assert stages.Study(Paths(tmp_path)).finished() == []


@pytest.mark.parametrize(
    "entry",
    [3, None, [], {}, {"cmd": "x", "deps": 3}, {"cmd": "x", "outs": [3]}, {"cmd": "x", "matrix": {"m": "${none}"}}],
    ids=str,
)
def test_a_stage_that_dvc_would_not_take_is_named(entry: Any) -> None:
    with pytest.raises(DataError, match=r"^dvc\.yaml: the stage odd is not as DVC takes it"):
        pipeline.parse({"stages": {"odd": entry}}, {})


def test_a_stage_may_have_a_list_of_commands() -> None:
    (stage,) = pipeline.parse({"stages": {"own": {"cmd": ["one", "two"], "deps": None, "outs": [{}]}}}, {})
    assert stage.cmd == pipeline.command(["one", "two"]) == "one\ntwo"


@pytest.mark.parametrize("text", NO_YAML.values(), ids=NO_YAML)
def test_a_dvc_yaml_that_is_to_be_written_again_is_read_within_limits(text: str, tmp_path: Path) -> None:
    study = small.study(tmp_path)
    (study / "dvc.yaml").write_text(text)
    with pytest.raises(XraylabError, match=r"dvc\.yaml"):
        watch.write(config.read(study / "params.yaml"), study)
    with pytest.raises(XraylabError, match=r"dvc\.yaml"):
        artifacts.write(study, artifacts.Artifact("tb", "registry/tb.zip", "", [], "l2/0"))
    assert (study / "dvc.yaml").read_text() == text


@pytest.mark.parametrize("text", [*NO_YAML.values(), "data: {}\n"], ids=[*NO_YAML, "no sections"])
def test_a_params_yaml_that_is_to_be_written_again_is_read_within_limits(text: str, tmp_path: Path) -> None:
    study = small.study(tmp_path / "study")
    (study / "params.yaml").write_text(text)
    images = small.two_classes(tmp_path / "images", healthy=2, tb=2)
    for change in (
        lambda: scaffold.init(study, [str(images)]),
        lambda: scaffold.use(study, "robust", None, published=False, force=False),
    ):
        with pytest.raises(XraylabError, match=r"params\.yaml"):
            change()
    assert (study / "params.yaml").read_text() == text


def test_comments_stay_where_a_file_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "dvc.yaml"
    path.write_text("# a study\nstages:\n  source:\n    deps: []  # none yet\n")
    tree = files.read_yaml(path, watch.yaml())
    assert tree.ca.comment is not None
