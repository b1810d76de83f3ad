"""What killed processes leave: temporaries of dead owners, and DVC's list of locks."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import small
from under_dvc import dvc, environment
from zc import lockfile

from xraylab import files, leftovers, locks, processes
from xraylab.errors import TrainingError, XraylabError

KILLED = """
import os, signal, sys
from pathlib import Path
from xraylab import files, leftovers
with files.replacing_folder(Path(sys.argv[1]) / "data/raw") as folder, files.replacing(Path(sys.argv[1]) / "a.csv"):
    with leftovers.temporary_folder() as other:
        (folder / "film.png").touch()
        print(other, flush=True)
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))
        import time; time.sleep(60)
"""
BEGIN = "from xraylab import processes; processes.begin()\n"


@pytest.fixture(autouse=True)
def _own_place_for_temporaries(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests kill processes too."""
    folder = str(tmp_path_factory.mktemp("system"))
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)


def killed(root: Path, number: str, begin: str = "") -> Path:
    """Where the temporary folder of a process lies that was killed while it wrote."""
    command = [sys.executable, "-c", begin + KILLED, root, number]
    return Path(subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip())


def test_what_a_killed_process_leaves_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    other = killed(tmp_path, "SIGKILL")
    names = sorted(path.name.split("-")[0] for path in [*tmp_path.iterdir(), *(tmp_path / "data").iterdir()])
    assert names == [".a.csv.xraylab", ".raw.xraylab", "data"]
    assert other.is_dir()
    with files.replacing(tmp_path / "b.csv") as living, leftovers.temporary_folder() as mine:
        removed = leftovers.sweep(tmp_path)
        assert living.is_file()
        assert mine.is_dir()
    assert len(removed) == 3
    assert not other.exists()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b.csv", "data"]


def test_sigterm_removes_temporaries(tmp_path: Path) -> None:
    other = killed(tmp_path, "SIGTERM", BEGIN)
    assert other.name.startswith("xraylab-")
    assert not other.exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["data"]


def test_temporaries_of_other_machines_and_of_other_programs_stay(tmp_path: Path) -> None:
    me = processes.me()
    foreign = tmp_path / f".raw.xraylab-00000000-{me.pid:x}-{me.started + 1:x}-abcdefgh"
    for path in (foreign, tmp_path / ".raw.abcdefgh", tmp_path / "xraylab-notes-of-mine"):
        path.touch()
    assert leftovers.sweep(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 3


def test_a_long_name_has_a_temporary(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 120 + ".csv")
    files.write_text("x", path)
    assert path.read_text() == "x"
    assert list(tmp_path.iterdir()) == [path]


def test_git_and_dvc_ignore_temporaries(tmp_path: Path) -> None:
    study = small.study(tmp_path)
    small.commit(study)
    killed(study, "SIGKILL")
    status = subprocess.run(
        ["git", "status", "--short", "--untracked-files=all"], cwd=study, capture_output=True, text=True, check=True
    )
    assert status.stdout == ""
    assert ".*.xraylab-*" in (study / ".dvcignore").read_text().splitlines()


@pytest.fixture
def rwlock(tmp_path: Path) -> Path:
    path = tmp_path / ".dvc/tmp/rwlock"
    path.parent.mkdir(parents=True)
    return path


def test_a_torn_list_of_locks_is_removed_and_a_whole_one_stays(tmp_path: Path, rwlock: Path) -> None:
    assert leftovers.mend_rwlock(tmp_path) == []
    whole = json.dumps({"read": {"a": [{"pid": os.getpid(), "cmd": "dvc repro"}]}})
    rwlock.write_text(whole)
    assert leftovers.mend_rwlock(tmp_path) == []
    assert rwlock.read_text() == whole
    for torn in ("", whole[:-5], "[]", '{"read": {"a": 1}}'):
        rwlock.write_text(torn)
        (sentence,) = leftovers.mend_rwlock(tmp_path)
        assert sentence == f"removed {rwlock}, which a killed dvc had left half-written: every dvc command failed"
        assert not rwlock.exists()


def test_a_list_that_a_dvc_writes_at_this_moment_stays(
    tmp_path: Path, rwlock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "PAUSE", 0.01)
    rwlock.write_text("")
    writing = lockfile.LockFile(str(rwlock.with_name("rwlock.lock")))
    assert leftovers.mend_rwlock(tmp_path) == []
    assert rwlock.exists()
    writing.close()
    assert leftovers.mend_rwlock(tmp_path)


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_locks_of_an_id_that_another_process_has_now_are_removed(
    tmp_path: Path, rwlock: Path, sleeper: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "AFTER", 0)
    mine, other = (psutil.Process(pid).create_time() for pid in (os.getpid(), sleeper.pid))
    reused, living = {"pid": sleeper.pid, "cmd": "dvc repro"}, {"pid": os.getpid(), "cmd": "dvc status"}
    rwlock.write_text(json.dumps({"write": {"/m": reused, "/n": living}, "read": {"/d": [reused], "/e": [living]}}))
    assert leftovers.mend_rwlock(tmp_path) == []  # written after the process began: it may be the one
    os.utime(rwlock, ((mine + other) / 2,) * 2)
    (sentence,) = leftovers.mend_rwlock(tmp_path)
    assert sentence == f"removed the locks of `dvc repro` from {rwlock}: process {sleeper.pid} is another one now"
    assert json.loads(rwlock.read_text()) == {"write": {"/n": living}, "read": {"/e": [living]}}


def refused(path: Path, error: type[XraylabError] = XraylabError) -> str:
    """What another one who wants the lock is told."""
    with pytest.raises(error) as caught, locks.held(path, "another process trains", "wait", error=error):
        pass
    return str(caught.value)


def test_a_lock_names_its_holder_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "runs/a.lock"
    with locks.held(path, "another process trains", "wait"):
        pattern = rf"another process trains: process {os.getpid()} on \S+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d; wait"
        assert re.fullmatch(pattern, refused(path, TrainingError))
        assert locks.remove_free(path.parent) == []
        path.write_text("")
        assert refused(path) == "another process trains; wait"
    assert list(path.parent.iterdir()) == []
    path.touch()  # as a killed process leaves it
    assert locks.remove_free(path.parent) == [path]
    assert list(path.parent.iterdir()) == []


@pytest.mark.slow
def test_dvc_fails_with_a_torn_list_until_a_stage_or_a_doctor_has_mended_it(tmp_path: Path) -> None:
    study = small.study(tmp_path)
    small.commit(study)
    torn = study / ".dvc/tmp/rwlock"
    torn.parent.mkdir(parents=True, exist_ok=True)
    torn.write_text("")
    failed = dvc(study, "repro", "source")
    assert "Unable to read RWLock-file" in failed.stderr
    stage = [sys.executable, str(study / "src"), "code"]
    done = subprocess.run(stage, cwd=study, env=environment(), capture_output=True, text=True, check=True)
    assert "which a killed dvc had left half-written" in done.stderr
    assert dvc(study, "repro", "source").returncode == 0
