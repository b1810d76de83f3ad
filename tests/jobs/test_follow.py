"""`xraylab watch`: what runs, what is up to date, and what it says when nothing runs."""

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import under_dvc
from dvc.repo import Repo
from rich.console import Console

from xraylab import files, pipeline, running
from xraylab.errors import XraylabError
from xraylab.jobs import follow
from xraylab.jobs.follow import Follower
from xraylab.jobs.stages import Study
from xraylab.paths import Paths
from xraylab.running import Running

REPOSITORY = Path(__file__).parents[2]
DVC_YAML = """
stages:
  data:
    cmd: make data
    deps: [raw.csv]
    params: [data.size]
    outs: [data]
  train:
    matrix: {experiment: "${experiments}", repeat: "${study.repeats}"}
    cmd: train ${item.experiment} ${item.repeat}
    deps: [data/split.csv]
    outs: ["models/${item.experiment}/${item.repeat}"]
  report:
    cmd: report
    deps: [models]
    outs: [report.html]
"""
PARAMS: dict[str, Any] = {"data": {"size": 32}, "experiments": {"baseline": {}, "l2": {}}, "study": {"repeats": [0]}}
NAMES = ["data", "train@baseline-0", "train@l2-0", "report"]
SPLIT = "id\nh1\n"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A study that is up to date, as its dvc.lock has it."""
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    files.write_yaml(PARAMS, tmp_path / "params.yaml")
    (tmp_path / "raw.csv").write_text("id\n")
    files.write_text(SPLIT, tmp_path / "data/split.csv")
    split_md5 = hashlib.md5(SPLIT.encode(), usedforsecurity=False).hexdigest()
    for name in ("baseline", "l2"):
        (tmp_path / f"models/{name}/0").mkdir(parents=True)
    (tmp_path / "report.html").write_text("")
    models = {name: f"models/{name}/0" for name in ("baseline", "l2")}
    lock: dict[str, Any] = {
        "data": _entry("make data", {"raw.csv": "1"}, {"data": "2.dir"}, {"data.size": 32}),
        **{
            f"train@{name}-0": _entry(f"train {name} 0", {"data/split.csv": split_md5}, {path: f"{name}.dir"})
            for name, path in models.items()
        },
        "report": _entry("report", {"models": "3.dir"}, {"report.html": "4"}),
    }
    files.write_yaml({"schema": "2.0", "stages": lock}, tmp_path / "dvc.lock")
    return Paths(tmp_path)


def _entry(cmd: str, deps: dict[str, str], outs: dict[str, str], params: dict[str, Any] | None = None) -> Any:
    hashed = {
        kind: [{"path": path, "md5": _md5(md5)} for path, md5 in each.items()]
        for kind, each in (("deps", deps), ("outs", outs))
    }
    return {"cmd": cmd, **hashed} | ({"params": {"params.yaml": params}} if params else {})


def _md5(name: str) -> str:
    """One as DVC writes it, of any word and of a word with .dir."""
    word, dot, kind = name.partition(".")
    return (word if len(word) == 32 else word.encode().hex().rjust(32, "0")[:32]) + dot + kind


def test_stages_are_dvc_s_own() -> None:
    ours = pipeline.parse(files.read_yaml(REPOSITORY / "dvc.yaml"), files.read_yaml(REPOSITORY / "params.yaml"))
    index = Repo(str(REPOSITORY)).index
    theirs = {stage.addressing: stage for stage in index.stages}
    assert {stage.name for stage in ours} == set(theirs)
    for stage in ours:
        other = theirs[stage.name]
        assert stage.cmd == other.cmd
        own = {"params.yaml"}  # which parameters of it a stage reads is another list
        assert set(stage.deps) - own == {Path(dep.def_path).as_posix() for dep in other.deps} - own
        assert set(stage.outs) == {Path(out.def_path).as_posix() for out in other.outs}


def _edit_lock(change: Callable[[Any], object]) -> Callable[[Paths], None]:
    def edit(paths: Paths) -> None:
        lock = files.read_yaml(paths.lock)
        change(lock["stages"])
        files.write_yaml(lock, paths.lock)

    return edit


@pytest.mark.parametrize(
    ("edit", "finished"),
    [
        (lambda paths: None, NAMES),
        (_edit_lock(lambda lock: lock.pop("train@l2-0")), ["data", "train@baseline-0"]),
        (_edit_lock(lambda lock: lock["train@l2-0"].update(cmd="train l2 0 --fast")), ["data", "train@baseline-0"]),
        (lambda paths: files.write_yaml(PARAMS | {"data": {"size": 64}}, paths.params), []),
        (lambda paths: files.write_text("id\nh2\n", paths.root / "data/split.csv"), ["data"]),
        (lambda paths: (paths.root / "report.html").unlink(), NAMES[:-1]),
        (lambda paths: paths.lock.unlink(), []),
    ],
    ids=[
        "nothing",
        "never run",
        "another command",
        "another parameter",
        "another file",
        "an output is gone",
        "no lock",
    ],
)
def test_a_stage_is_finished_where_nothing_that_it_reads_has_changed_since(
    edit: Callable[[Paths], object], finished: list[str], paths: Paths
) -> None:
    edit(paths)
    assert Study(paths).finished() == finished


def _follower(paths: Paths, now: float = 100.0) -> tuple[Follower, io.StringIO]:
    text = io.StringIO()
    return Follower(paths, Console(file=text, width=120), lambda: now), text


def _record(paths: Paths, stage: str, **facts: Any) -> None:
    alive = running.psutil.Process()
    record = Running(stage, os.getpid(), alive.create_time(), running.platform.node(), 40.0)
    paths.running.mkdir(parents=True, exist_ok=True)
    running._write(paths.running / f"{stage}.json", running.replace(record, **facts))


def test_each_change_is_a_line_without_a_terminal(paths: Paths) -> None:
    _edit_lock(lambda lock: lock.pop("train@l2-0"))(paths)
    follower, text = _follower(paths)
    facts = {"monitor": "valid_f1", "epochs": 5}
    _record(paths, "train@l2-0", **facts)
    assert follower.look()
    metrics = {"train_loss": 0.61234, "valid_loss": 0.7, "valid_f1": 0.5}
    _record(paths, "train@l2-0", **facts, epoch=2, metrics=metrics, seconds_left=75.0)
    assert follower.look()
    assert follower.look()
    assert text.getvalue() == "[train@l2-0] epoch 0/5\n[train@l2-0] epoch 2/5, train_loss 0.6123, valid_f1 0.5000\n"
    assert follower.cells(follower.view.at_work[0]) == (
        "train@l2-0", "1:00", "epoch 2/5", "train_loss 0.6123", "valid_f1 0.5000", "1:15 left",
    )  # fmt: skip
    assert follower.summary() == "2/4 stages finished; pending: report"


def test_nothing_runs(paths: Paths) -> None:
    _edit_lock(lambda lock: lock.pop("train@l2-0"))(paths)
    text = io.StringIO()
    with pytest.raises(XraylabError) as caught:
        follow.run(paths, Console(file=text))
    assert str(caught.value) == (
        "nothing runs here: 2/4 stages finished; pending: train@l2-0, report. `dvc repro` runs them"
    )


def test_a_finished_study_says_so(paths: Paths) -> None:
    text = io.StringIO()
    follow.run(paths, Console(file=text))
    assert text.getvalue() == "the study is finished: 4 stages are up to date\n"


def test_a_failed_stage_is_an_error_that_says_why(paths: Paths) -> None:
    _edit_lock(lambda lock: lock.pop("train@l2-0"))(paths)
    with pytest.raises(ValueError, match="broke"), running.recorded(paths.running, "train@l2-0"):
        raise ValueError("the network broke\nmore of it")
    text = io.StringIO()
    with pytest.raises(XraylabError) as caught:
        follow.run(paths, Console(file=text))
    assert caught.value.problems == ("train@l2-0: the network broke",)
    assert text.getvalue() == "[train@l2-0] failed: the network broke\n"


def test_a_stage_whose_process_was_killed_has_failed(paths: Paths) -> None:
    _edit_lock(lambda lock: lock.pop("train@l2-0"))(paths)
    _record(paths, "train@l2-0", created=1.0)
    follower, _ = _follower(paths)
    assert not follower.look()
    assert follower.view.failed == {"train@l2-0": "its process was killed"}


def test_a_failure_before_a_success_is_forgotten(paths: Paths) -> None:
    _record(paths, "train@l2-0", problem="the disk was full")
    assert not _follower(paths)[0].look()
    follow.run(paths, Console(file=io.StringIO()))
    with running.recorded(paths.running, "train@l2-0"):
        (record,) = running.read(paths.running)
        assert record.problem == ""
    assert running.read(paths.running) == []


def test_ctrl_c_ends_the_watching_alone(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    _record(paths, "report")

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(follow.time, "sleep", interrupt)
    text = io.StringIO()
    follow.run(paths, Console(file=text))
    assert text.getvalue() == "[report] runs\nno longer watched; the study goes on\n"


def test_a_training_says_how_far_it_is_and_keeps_its_metrics_within_an_epoch(tmp_path: Path) -> None:
    running.epoch(1, 5, {}, "valid_f1", None)  # outside a stage: nothing
    with running.recorded(tmp_path, "train@l2-0"):
        running.epoch(1, 5, {"valid_f1": 0.5}, "valid_f1", None)
        running.epoch(1, 5, {}, "valid_f1", 12.5)
        (record,) = running.read(tmp_path)
    assert (record.epoch, record.epochs, record.metrics, record.seconds_left) == (1, 5, {"valid_f1": 0.5}, 12.5)
    assert running.FILE not in os.environ


def test_a_folder_that_cannot_be_written_stops_no_stage(tmp_path: Path) -> None:
    (tmp_path / "running").write_text("a file where the folder should be")
    with running.recorded(tmp_path / "running", "fetch"):
        running.epoch(1, 5, {}, "valid_f1", None)


def test_a_dvc_that_runs_stages_here_is_seen(tmp_path: Path) -> None:
    script = tmp_path / "dvc"
    script.write_text("import sys; print(flush=True); sys.stdin.read()")
    with subprocess.Popen(
        [sys.executable, str(script), "repro"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert follow.commands_in(tmp_path)
        assert not follow.commands_in(tmp_path.parent)
        process.communicate()
    under_dvc.wait_for(lambda: not follow.commands_in(tmp_path), 10)
