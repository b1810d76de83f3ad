"""Each check of `xraylab doctor` on a study or machine where something is wrong, and on one where nothing is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import small

from xraylab import files, locks
from xraylab.doctor import devices, repository, resources, study
from xraylab.doctor.finding import Check, Finding, Subject
from xraylab.train import generations


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A study without git."""
    return small.study(tmp_path / "study")


def findings(check: Check, folder: Path) -> list[Finding]:
    return list(check(Subject.at(folder)))


def levels(check: Check, folder: Path) -> list[str]:
    return [finding.level for finding in findings(check, folder)]


@pytest.mark.parametrize(("free", "level"), [(1e11, "ok"), (4e9, "warning"), (1e8, "error")])
def test_little_space_is_a_warning_and_none_an_error(
    free: float, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free, total=2e11))
    first = findings(resources.check_space, tmp_path)[0]
    assert first.level == level
    assert f"{free / 1e9:,.1f} GB of 200.0 GB are free" in first.text


def test_a_disk_without_inodes_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_files=10**6, f_favail=0))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e11, total=2e11))
    assert "error" in levels(resources.check_space, tmp_path)


def test_a_study_is_looked_at_with_its_cache_and_each_disk_once(top: Path) -> None:
    text = " ".join(finding.text for finding in findings(resources.check_space, top))
    assert all(what in text for what in ("the study", "temporary files", "DVC's cache", "xraylab's state"))


def test_few_open_files_and_little_shared_memory_are_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 4096))
    monkeypatch.setattr(resources, "SHARED", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**20))
    assert findings(resources.check_limits, tmp_path) == [
        Finding("limits", "warning", "256 files open at once", "ulimit -n 1024"),
        Finding(
            "limits", "warning", f"1 MiB of shared memory are free ({tmp_path})",
            "in a container: docker run --shm-size=1g, or remove old files there",
        ),
    ]  # fmt: skip


def test_params_that_cannot_be_read_are_an_error(top: Path) -> None:
    assert findings(study.check_params, top)[0].level == "ok"
    small.edit(top, lambda tree: tree["train"].update(lrr=1))
    (finding,) = findings(study.check_params, top)
    assert finding.level == "error"
    assert "train.lrr" in finding.text


def test_outside_of_a_study_the_machine_alone_is_examined(tmp_path: Path) -> None:
    assert (
        findings(study.check_params, tmp_path)[0].text
        == f"no params.yaml in {tmp_path}: the machine alone was examined"
    )
    for check in (repository.check, repository.check_folders, study.check_states):
        assert findings(check, tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named(top: Path) -> None:
    assert levels(repository.check_folders, top) == ["ok"]
    shutil.rmtree(top / "models", ignore_errors=True)
    (top / "models").write_text("a file")  # where a folder is needed; root may write into any folder
    (finding,) = findings(repository.check_folders, top)
    assert (finding.level, str(top / "models") in finding.text) == ("error", True)


def test_git_and_dvc_are_described(top: Path) -> None:
    first = findings(repository.check, top)[0]
    assert (first.level, first.advice) in (("warning", "git init"), ("ok", ""))
    small.commit(top)
    texts = [finding.text for finding in findings(repository.check, top)]
    assert texts == [
        "git: nothing changed since the last commit", "DVC has no remote: outputs are on this disk alone",
    ]  # fmt: skip
    (top / ".dvc/config").write_text(
        "[core]\nno_scm = True\nhardlink_lock = true\nautostage = true\n['remote \"store\"']\nurl = /x\n"
    )
    (top / ".git/index.lock").touch()
    found = findings(repository.check, top)
    assert [finding.level for finding in found] == ["ok", "error", "warning", "warning", "ok", "warning"]
    assert found[1].advice == f"if no git runs: rm {top}/.git/index.lock"
    assert found[2].text == "DVC's remotes: store; default: none"
    assert found[2].advice == "dvc remote default store"
    shutil.rmtree(top / ".dvc")
    assert findings(repository.check, top)[-1].advice == "dvc init"


@pytest.fixture
def state(top: Path) -> Path:
    """The saved state of a run after its third epoch."""
    folder = top / ".xraylab/runs/baseline-0-abc"
    files.write_text("weights", folder / "state-002.pt")
    generations.commit(folder, 2, ["state-002.pt"])
    return folder


def test_saved_states_that_are_damaged_are_named(top: Path, state: Path) -> None:
    assert findings(study.check_states, top) == [Finding("saved states", "ok", "baseline-0-abc: goes on after epoch 3")]
    (state / "state-002.pt").write_text("weighst")
    assert levels(study.check_states, top) == ["ok"]
    assert findings(study.check_states_deep, top)[0].text == "baseline-0-abc: state-002.pt is damaged"
    (state / "state-002.pt").unlink()
    assert findings(study.check_states, top)[0].text == "baseline-0-abc: state-002.pt is absent"
    (state / generations.MANIFEST).write_text("{")
    assert levels(study.check_states, top) == ["warning"]
    with locks.held(state.with_suffix(".lock"), "busy", "wait"):
        assert f"trains now: process {os.getpid()} on " in findings(study.check_states, top)[0].text


def test_what_is_dead_is_removed_and_what_may_live_is_named(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert levels(study.check_left, top) == ["ok"]
    foreign = top / "data/.raw.xraylab-00000000-1-1-abcdefgh"
    foreign.mkdir(parents=True)
    (top / ".xraylab/runs").mkdir(parents=True)
    (top / ".xraylab/runs/old.lock").touch()
    (top / ".dvc/tmp").mkdir()
    (top / ".dvc/tmp/rwlock").touch()
    found = findings(study.check_left, top)
    assert [finding.level for finding in found] == ["ok", "ok", "warning"]
    assert found[0].text.startswith(f"removed {top}/.dvc/tmp/rwlock, ")
    assert found[1].text == f"removed {top}/.xraylab/runs/old.lock, a lock that nobody held"
    assert found[2].advice == f"if it does not: rm -r {foreign}"


def answer(monkeypatch: pytest.MonkeyPatch, code: str) -> list[Finding]:
    monkeypatch.setattr(devices, "ASK", code)
    return list(devices.ask(5))


def test_the_device_is_what_a_training_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "print('auto: CPU with AVX2, float32, 2 threads'); print('warning: there is a GPU')"
    assert [(each.level, each.text) for each in answer(monkeypatch, code)] == [
        ("ok", "a training takes CPU with AVX2, float32, 2 threads"),
        ("warning", "there is a GPU"),
    ]
    (broken,) = answer(monkeypatch, "raise ImportError('libcudart.so.13: no such file')")
    assert (broken.level, broken.text) == ("error", "torch fails: ImportError: libcudart.so.13: no such file")
    monkeypatch.setattr(devices, "ASK", "import time; time.sleep(9)")
    (slow,) = devices.ask(0.1)
    assert (slow.level, slow.advice) == ("ok", "xraylab doctor --deep waits for it")


def test_the_question_about_the_device_is_one_that_torch_answers() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", devices.ASK], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("auto: ")
