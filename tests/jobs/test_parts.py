"""Parts as jobs: on an engine that is made of processes of this machine."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from xraylab import cli
from xraylab.errors import DataError, MissingError, XraylabError
from xraylab.jobs import parts
from xraylab.jobs.engines.engine import Command, Resources, State, Status
from xraylab.paths import Paths


class Processes:
    """An engine whose jobs are processes; `cancelled` are those that it was told to end."""

    def __init__(self) -> None:
        self.jobs: dict[str, subprocess.Popen[bytes]] = {}
        self.cancelled: list[str] = []

    def check(self, resources: Resources) -> None:
        if resources.cores > 2:
            raise DataError("no node has so many cores")

    def submit(self, commands: Sequence[Command], resources: Resources, folder: Path) -> list[str]:
        folder.mkdir(parents=True, exist_ok=True)
        for each in commands:
            with (folder / each.name).open("wb") as log:
                self.jobs[f"id-{each.name}"] = subprocess.Popen(each.arguments, stdout=log, stderr=subprocess.STDOUT)
        return [f"id-{each.name}" for each in commands]

    def status(self, ids: Sequence[str]) -> dict[str, Status]:
        return {id_: self._status(self.jobs[id_].poll()) for id_ in ids}

    def _status(self, code: int | None) -> Status:
        if code is None:
            return Status(State.RUNNING, "here")
        return Status(State.FAILED, "here", f"exit code {code}") if code else Status(State.DONE, "here")

    def cancel(self, ids: Sequence[str]) -> None:
        for id_ in ids:
            self.jobs[id_].kill()
            self.jobs[id_].wait()
        self.cancelled += ids

    def log(self, id_: str, folder: Path) -> str:
        return (folder / id_.removeprefix("id-")).read_text()


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "EVERY", 0.02)


def shell(**scripts: str) -> list[Command]:
    return [Command(name, ("sh", "-c", script)) for name, script in scripts.items()]


def test_each_part_runs_in_the_studys_folder(tmp_path: Path) -> None:
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path)
    first, second = parts.commands(Paths(tmp_path / "link"), "index", 2)
    assert (first.name, second.name) == ("index-1-of-2", "index-2-of-2")
    assert second.arguments[0] == sys.executable, "engines know it, and may put the nodes' own in its place"
    assert second.arguments[3:] == (str(tmp_path.resolve()), "-m", "xraylab", "index", "--part", "2/2")
    (tmp_path / "src/xraylab").mkdir(parents=True)
    (tmp_path / "src/__main__.py").write_text("import os, sys; print(os.getcwd(), *sys.argv)")
    (own,) = parts.commands(Paths(tmp_path), "index", 1)
    printed = subprocess.run(own.arguments, cwd="/", capture_output=True, text=True, check=True).stdout
    assert printed == f"{tmp_path.resolve()} src index --part 1/1\n"


def test_what_cannot_run_in_parts_yet_says_what_is_missing(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    with pytest.raises(DataError, match=r"^split has no shards: write index or cache$"):
        parts.commands(paths, "split", 2)
    with pytest.raises(MissingError) as caught:
        parts.commands(paths, "index", 2)
    assert str(caught.value) == f"{paths.raw} does not exist: `dvc repro fetch` makes it"
    paths.raw.mkdir(parents=True)
    with pytest.raises(MissingError) as caught:
        parts.commands(paths, "cache", 2)
    assert str(caught.value) == f"{paths.index} does not exist: `dvc repro index` makes it"


def test_parts_run_until_all_are_done(tmp_path: Path) -> None:
    engine, told = Processes(), list[str]()
    jobs = shell(a=f"until [ -e {tmp_path}/b ]; do sleep 0.02; done", b=f"touch {tmp_path}/b")
    parts.run(jobs, engine, Resources(cpus=2), tmp_path / "logs", told.append)
    assert sorted(told) == ["a: done on here", "b: done on here"]
    assert engine.cancelled == []


def test_a_part_that_fails_is_named_with_the_end_of_its_log_and_the_others_go_on(tmp_path: Path) -> None:
    jobs = shell(bad="seq 1 30; exit 3", good=f"sleep 0.2; touch {tmp_path}/done")
    with pytest.raises(XraylabError) as caught:
        parts.run(jobs, Processes(), Resources(), tmp_path / "logs", lambda line: None)
    assert (tmp_path / "done").exists()
    assert caught.value.headline == (
        "1 of 2 parts are not finished; finished shards are kept, and the same command goes on. "
        f"The logs are in {tmp_path / 'logs'}:"
    )
    assert caught.value.problems == ("bad\n" + "\n".join(map(str, range(21, 31))),)


def test_an_engine_that_has_no_such_node_gets_no_job(tmp_path: Path) -> None:
    engine = Processes()
    with pytest.raises(DataError, match="no node has so many cores"):
        parts.run(shell(a="true"), engine, Resources(cpus=9), tmp_path, lambda line: None)
    assert engine.jobs == {}


def test_an_interrupt_cancels_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    engine: Processes = Processes()
    monkeypatch.setattr(parts.time, "sleep", interrupt)
    with pytest.raises(XraylabError, match=r"^cancelled: finished shards are kept, and the same command goes on$"):
        parts.run(shell(a="sleep 60", b="sleep 60"), engine, Resources(), tmp_path, lambda line: None)
    assert engine.cancelled == ["id-a", "id-b"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["index", "--on", "cloud", "--parts", "2"], "--on cloud is no engine: write "),
        (["index", "--on", "ray", "--parts", "2", "--option", "x"], "--option x: write --option KEY=VALUE"),
        (["split", "--on", "ray", "--parts", "2"], "split has no shards: write index or cache"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(
    arguments: list[str],
    message: str,
    study_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(study_folder)
    monkeypatch.setattr(sys, "argv", ["xraylab", "shards", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"error: {message}")


@pytest.fixture
def study_folder(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").touch()
    return tmp_path
