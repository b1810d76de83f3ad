"""`xraylab verify`: what of a study does not follow from what."""

import json
import os
import shutil
from collections.abc import Callable

import pytest
import recorded_study
import small
from typer.testing import CliRunner

from xraylab import cli, dvc_lock, files
from xraylab.integrity import verify
from xraylab.paths import Paths

pytest_plugins = ["recorded_study"]

Change = Callable[[Paths], object]


def replace(recorded: Paths, name: str, before: str, after: str) -> None:
    path = recorded.root / name
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def found(recorded: Paths) -> list[tuple[str, str, str]]:
    return [(each.stage, each.path, each.state) for each in verify.verify(recorded) if each.state != "ok"]


def test_of_a_study_that_was_just_run_everything_follows(recorded: Paths) -> None:
    verdicts = verify.verify(recorded)
    assert {each.state for each in verdicts} == {"ok"}
    assert [each.stage for each in verdicts][-3:] == ["predict@base-0", "predict@l2-0", "evaluate"]


CASES: dict[str, tuple[Change, list[tuple[str, str, str]]]] = {
    "a flipped bit": (
        lambda recorded: recorded_study.flip(recorded.model("l2", 0) / "best.safetensors"),
        [("train@l2-0", "models/l2/0/best.safetensors", "changed")],
    ),
    "an edited table": (
        lambda recorded: replace(recorded, "data/index.csv", "a.png", "A.png"),
        [("index", "data/index.csv", "changed")],
    ),
    "a file that is gone": (
        lambda recorded: (recorded.split / "test_data.csv").unlink(),
        [("split", "data/split/test_data.csv", "changed")],
    ),
    "a part that was not pulled": (lambda recorded: shutil.rmtree(recorded.raw), [("fetch", "data/raw", "absent")]),
    "another parameter": (
        lambda recorded: replace(recorded, "params.yaml", "seed: 0", "seed: 1"),
        [("split", "params.yaml", "other params")],
    ),
    "other source code": (
        lambda recorded: (recorded.root / "made.txt").write_text("2"),
        [("code", "made.txt", "other inputs")],
    ),
    "another command": (
        lambda recorded: replace(recorded, "dvc.yaml", "ls data/raw >", "ls -1 data/raw >"),
        [("index", "", "other command")],
    ),
    "a new experiment": (
        lambda recorded: replace(recorded, "params.yaml", "l2: {}}", "l2: {}, new: {}}"),
        [
            ("configure", "params.yaml", "other params"),
            ("train@new-0", "", "not run"),
            ("predict@new-0", "", "not run"),
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_follow_is_named_and_nothing_else(recorded: Paths, case: str) -> None:
    change, expected = CASES[case]
    change(recorded)
    assert found(recorded) == expected


def test_a_stage_that_ran_with_another_version_of_its_input_is_named(recorded: Paths) -> None:
    """As when dvc.lock was merged from two branches."""
    lock = files.read_yaml(recorded.lock)
    dep = next(dep for dep in lock["stages"]["split"]["deps"] if dep["path"] == "data/index.csv")
    dep["md5"] = "0" * 32
    files.write_yaml(lock, recorded.lock)
    assert found(recorded) == [("split", "data/index.csv", "other inputs")]


def test_only_what_is_wrong_fails(recorded: Paths) -> None:
    shutil.rmtree(recorded.raw)
    with recorded_study.working_in(recorded.root):
        result = CliRunner().invoke(cli.app, ["verify"])
        assert (result.exit_code, "everything that is here follows from its inputs" in result.output) == (0, True)
        os.truncate(recorded.comparison, 2)
        result = CliRunner().invoke(cli.app, ["verify", "--json"])
    assert result.exit_code == 1
    wrong = [row for row in json.loads(result.output) if row["level"] == "error"]
    assert wrong == [
        {
            "stage": "evaluate", "path": "reports/comparison.csv", "state": "changed", "level": "error",
            "text": "damaged or edited since the stage wrote reports/comparison.csv",
        }
    ]  # fmt: skip


def test_a_source_that_changed_is_named(recorded: Paths) -> None:
    shutil.copyfile(small.REPOSITORY / "params.yaml", recorded.params)
    described = files.read_yaml(recorded.params)["data"]["demo"]
    files.write_json(
        {"kind": "demo"} | {key: each for key, each in described.items() if key != "task"}, recorded.source
    )
    assert ("source", "data.source", "source changed") not in found(recorded)
    files.write_json({"kind": "demo", "seed": 7}, recorded.source)
    assert ("source", "data.source", "source changed") in found(recorded)


def test_another_program_gets_a_line_for_each_finding_with_whole_names(recorded: Paths) -> None:
    name = "é" + "long" * 50
    path = recorded.raw / name / name / f"{name}.png"
    path.parent.mkdir(parents=True)
    path.touch()
    with recorded_study.working_in(recorded.root):
        lines = CliRunner().invoke(cli.app, ["verify"]).output.splitlines()
        rows = json.loads(CliRunner().invoke(cli.app, ["verify", "--json"]).output)
    shown = path.relative_to(recorded.root).as_posix()
    assert [line.split("\t")[1] for line in lines if name in line] == [shown]
    assert [row["path"] for row in rows if name in row["path"]] == [shown]


DAMAGED = {
    "dvc.lock": ("dvc.lock", "stages: [", "dvc.lock cannot be read"),
    "rows of dvc.lock": ("dvc.lock", "stages: {split: {outs: [1]}}", "dvc.lock cannot be read"),
    "dvc.yaml": ("dvc.yaml", "stages: {split: 1}", "dvc.yaml: the stage split is not as DVC takes it"),
    "params.yaml": ("params.yaml", "a: [", "params.yaml cannot be read"),
    ".dvcignore": (".dvcignore", "\udcff", ".dvcignore holds other values than xraylab writes"),
}


@pytest.mark.parametrize(("name", "content", "text"), DAMAGED.values(), ids=DAMAGED)
def test_of_a_damaged_study_json_stays_json(
    recorded: Paths, name: str, content: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc_lock, "PAUSE", 0.0)
    (recorded.root / name).write_text(content, encoding="utf-8", errors="surrogateescape")
    with recorded_study.working_in(recorded.root):
        result = CliRunner().invoke(cli.app, ["verify", "--json"])
    (row,) = json.loads(result.output)
    assert (result.exit_code, row["state"], row["level"]) == (1, "unreadable", "error")
    assert text in row["text"]
