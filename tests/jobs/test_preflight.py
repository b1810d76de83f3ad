"""What must hold before jobs are submitted, and the commit that they clone."""

import subprocess
from pathlib import Path

import pytest
import small

from xraylab.errors import XraylabError
from xraylab.jobs import environment, preflight, snapshot
from xraylab.paths import Paths


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a dvc.lock, a git remote and a remote of DVC; no more of a study is needed."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "t")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "t@example.org")
    study = tmp_path / "study"
    (study / ".dvc").mkdir(parents=True)
    use_remote(study, str(tmp_path / "store"))
    (study / "dvc.lock").write_text("a: 1\n")
    (study / "params.yaml").write_text("a: 1\n")
    small.commit(study)
    small.git(study, "init", "--quiet", "--bare", str(tmp_path / "origin.git"))
    small.git(study, "remote", "add", "origin", str(tmp_path / "origin.git"))
    return study


def use_remote(study: Path, url: str, file: str = "config") -> None:
    (study / ".dvc" / file).write_text(f"[core]\n    remote = store\n['remote \"store\"']\n    url = {url}\n")


def git(folder: Path, *arguments: str) -> str:
    return subprocess.check_output(["git", *arguments], cwd=folder, text=True).strip()


def refusal(study: Path) -> str:
    with pytest.raises(XraylabError) as refused:
        preflight.check(Paths(study), "origin", commit=False)
    return str(refused.value)


def test_what_stages_write_need_not_be_committed_and_all_else_must_be(study: Path) -> None:
    (study / "dvc.lock").write_text("a: 2\n")
    preflight.check(Paths(study), "origin", commit=False)
    (study / "params.yaml").write_text("a: 2\n")
    (study / "new.py").write_text("")
    assert refusal(study) == (
        "jobs clone the last commit, and these files are not as it has them: commit them, or add --commit"
        "\n  - params.yaml\n  - new.py"
    )
    preflight.check(Paths(study), "origin", commit=True)
    assert snapshot.changed(study, []) == []
    assert git(study, "show", "HEAD:params.yaml") == "a: 2"


def test_a_remote_that_was_reached_has_nothing_new(study: Path) -> None:
    preflight.check(Paths(study), "origin", commit=False)
    assert not [path for path in (study.parent / "store").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://example.org/store", "store (https://example.org/store) holds no run cache, as HTTP remotes do not"),
        ("../../store", "store is at a relative path, which means another folder in a job's clone: dvc remote modify"),
        ("/proc/store", "store (/proc/store) cannot be written from here: `dvc push` shows more"),
    ],
)
def test_a_remote_that_jobs_cannot_use_is_refused(url: str, message: str, study: Path) -> None:
    use_remote(study, url)
    small.commit(study)
    assert refusal(study).startswith(message)


def test_a_remote_that_only_this_machine_knows_is_refused(study: Path) -> None:
    (study / ".dvc/config").write_text("")
    (study / ".dvc/.gitignore").write_text("config.local\n")
    small.commit(study)
    assert refusal(study).startswith("jobs bring data and results by DVC's remote, and there is none: dvc remote add")
    use_remote(study, str(study.parent / "store"), "config.local")
    assert refusal(study).startswith("the default remote 'store' is not in .dvc/config, which alone the nodes see: dvc")


def test_without_a_commit_or_a_git_remote_there_is_nothing_to_clone(study: Path, tmp_path: Path) -> None:
    small.git(study, "remote", "remove", "origin")
    assert refusal(study).startswith("jobs clone the study from a git remote, and there is none called 'origin': git")
    (tmp_path / "bare").mkdir()
    small.git(tmp_path / "bare", "init", "--quiet")
    assert refusal(tmp_path / "bare").startswith("jobs clone a commit, and there is none: git init && git add .")


def test_the_commit_of_jobs_has_the_lock_of_now_and_leaves_branch_and_index_alone(study: Path) -> None:
    (study / "dvc.lock").write_text("a: 2\n")
    (study / "params.yaml").write_text("a: 2\n")
    small.git(study, "add", "params.yaml")
    before = [git(study, "rev-parse", "HEAD"), git(study, "status", "--porcelain"), git(study, "write-tree")]
    pushed = snapshot.push(study, "origin", "session", ["dvc.lock", "data/source.json"])
    assert [git(study, "rev-parse", "HEAD"), git(study, "status", "--porcelain"), git(study, "write-tree")] == before
    origin = study.parent / "origin.git"
    assert pushed.repository == str(origin)
    assert git(origin, "rev-parse", "refs/xraylab/jobs/session") == pushed.commit
    assert git(origin, "show", f"{pushed.commit}:dvc.lock") == "a: 2"
    assert git(origin, "show", f"{pushed.commit}:params.yaml") == "a: 1"
    assert git(origin, "rev-parse", f"{pushed.commit}^") == before[0]
    assert snapshot.is_of(study, pushed.commit, ["dvc.lock"])
    (study / "dvc.lock").write_text("a: 3\n")
    assert not snapshot.is_of(study, pushed.commit, ["dvc.lock"])
    snapshot.remove(study, "origin", pushed.ref)
    assert git(origin, "for-each-ref") == ""


def test_another_version_on_a_node_is_named(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("numpy==1.0\nnot-installed-at-all==2.0\n")
    here = environment.versions(tmp_path / "constraints.txt")
    assert set(here) == {"python", "numpy"}
    environment.refuse_others(here, here, "n1")
    environment.refuse_others({"python": here["python"]}, here, "n1")  # a node may lack tools
    with pytest.raises(XraylabError) as refused:
        environment.refuse_others(here | {"numpy": "0.9"}, here, "n1")
    assert str(refused.value) == (
        "n1 has other versions than the caller; install the same on both: pip install --constraint constraints.txt"
        f" xraylab\n  - numpy: {here['numpy']} at the caller, 0.9 on n1"
    )
    assert environment.versions(tmp_path / "none.txt") == {"python": here["python"]}
