"""Models with versions: dvc.yaml keeps its form, versions are commits, and what others get is what was registered."""

import contextlib
import io
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import small
from conftest import Loaded
from dvc.api import artifacts_show
from dvc.cli import main as dvc
from dvc.repo import Repo
from gto import api
from ruamel.yaml import YAML

from xraylab import files, template
from xraylab.cli import app
from xraylab.errors import DataError, MissingError
from xraylab.paths import Paths
from xraylab.stages import code
from xraylab.studies import artifacts, model_registry
from xraylab.studies.artifacts import Artifact

DVC_YAML = small.REPOSITORY / "dvc.yaml"
DOCS = (small.REPOSITORY / "docs/sharing.md").read_text(encoding="utf-8")
TB = Artifact("tb", "registry/tb.zip", "resnet18 of baseline/0", ["single-label", "resnet18"], "baseline/0")


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who commits."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "t")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "t@example.org")


@pytest.fixture
def repository(tmp_path: Path, identity: None) -> Path:
    """A git repository with a committed study of two files."""
    (tmp_path / "dvc.yaml").write_bytes(DVC_YAML.read_bytes())
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n")
    small.commit(tmp_path)
    return tmp_path


def test_an_artifact_adds_its_lines_to_dvc_yaml_and_changes_no_other(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_bytes(DVC_YAML.read_bytes())
    artifacts.write(tmp_path, TB)
    text = (tmp_path / "dvc.yaml").read_text(encoding="utf-8")
    assert text.startswith(DVC_YAML.read_text(encoding="utf-8"))
    added = text.removeprefix(DVC_YAML.read_text(encoding="utf-8"))
    assert added.startswith("\n# models with versions: `xraylab registry list`\nartifacts:\n  tb:\n")
    assert YAML(typ="safe").load(added) == {"artifacts": {"tb": TB.entry()}}
    artifacts.write(tmp_path, Artifact("other", "registry/other.zip", "", [], "l2/0"))
    artifacts.write(tmp_path, TB)
    assert files.read_yaml(tmp_path / "dvc.yaml")["stages"] == template.stages()
    assert artifacts.names_of_run(tmp_path, "l2/0") == ["other"]
    assert (tmp_path / "dvc.yaml").read_text(encoding="utf-8").startswith(text)


@pytest.mark.parametrize(("text", "full"), [("v3", "v3.0.0"), ("3.1", "v3.1.0"), ("v0.1.2", "v0.1.2")])
def test_a_version_is_written_in_full(text: str, full: str) -> None:
    assert model_registry._full(text) == full


@pytest.mark.parametrize("text", ["", "v", "new", "1.2.3.4", "v1 "])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="is no version: write v3, "):
        model_registry._full(text)


def test_without_a_repository_a_lock_or_with_changes_nothing_is_registered(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def refusal(root: Path) -> str:
        with pytest.raises(DataError) as caught:
            list(model_registry.register(Paths(root), "baseline/0", "tb"))
        return str(caught.value)

    alone = tmp_path_factory.mktemp("alone")
    assert refusal(alone) == f"{alone} is in no git repository: git init && git add --all && git commit"
    (repository / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    assert refusal(repository) == ("a version is a commit, without the changes in dvc.lock: git commit --all")
    small.git(repository, "rm", "--quiet", "--force", "dvc.lock")
    small.git(repository, "commit", "--quiet", "--message", "no lock")
    assert refusal(repository).endswith("none has dvc.lock: dvc repro && git add --all && git commit")
    assert not (repository / "registry").exists()


def test_versions_are_listed_newest_first_with_their_stages(repository: Path) -> None:
    assert list(model_registry.show(repository)) == ["no model is registered yet: xraylab registry register RUN"]
    for number, run in ((9, "a/0"), (10, "b/1")):
        small.git(repository, "commit", "--quiet", "--allow-empty", "--message", run)
        api.register(str(repository), "tb", "HEAD", f"v{number}.0.0", message=run)
    api.assign(str(repository), "tb", "production", "v9.0.0")
    rows = model_registry.versions(repository)
    assert [(row.version, row.stages, row.run) for row in rows] == [
        ("v10.0.0", [], "b/1"),
        ("v9.0.0", ["production"], "a/0"),
    ]
    assert [re.split(" {2,}", line)[:4] for line in model_registry.show(repository)] == [
        ["tb", "v10.0.0", "-", "b/1"],
        ["tb", "v9.0.0", "production", "a/0"],
    ]
    assert model_registry._next_version(repository, "tb", None) == "v11.0.0"
    with pytest.raises(DataError, match=r"tb has a version v9\.0\.0 already"):
        model_registry._next_version(repository, "tb", "v9")
    with pytest.raises(DataError, match=r"tb v9\.0\.0 is in production already"):
        list(model_registry.promote(repository, "tb", "production", "v9"))
    with pytest.raises(DataError, match=r"tb has no version v3\.0\.0; there is v10\.0\.0, v9\.0\.0"):
        list(model_registry.promote(repository, "tb", "production", "v3"))
    with pytest.raises(DataError, match="'my stage' cannot be a stage"):
        list(model_registry.promote(repository, "tb", "my stage"))
    with pytest.raises(MissingError, match="no model lung is registered, there is tb: xraylab registry register RUN"):
        list(model_registry.promote(repository, "lung", "production"))


def test_models_of_a_study_in_a_folder_of_the_repository_are_its_own(repository: Path) -> None:
    (repository / "studies/tb").mkdir(parents=True)
    api.register(str(repository), "studies/tb:model", "HEAD", "v1.0.0", message="baseline/0")
    api.register(str(repository), "elsewhere:model", "HEAD", "v1.0.0", message="baseline/0")
    (row,) = model_registry.versions(repository / "studies/tb")
    assert (row.name, row.version) == ("model", "v1.0.0")
    assert model_registry.Repository.of(repository / "studies/tb").prefix == "studies/tb:"


def test_promoting_says_what_of_it_the_git_remote_does_not_have(repository: Path, tmp_path: Path) -> None:
    def said(*arguments: str) -> list[str]:
        if arguments:
            small.git(repository, *arguments)
        return list(model_registry._how_to_share(repository, "tb@v1.0.0", "tb#production#1"))

    everything = "to share it: git push origin HEAD 'tb@v1.0.0' 'tb#production#1'"
    without = "the repository has no git remote, so nobody else sees it: git remote add origin ADDRESS"
    assert said() == [without, everything]
    origin = tmp_path / "origin.git"
    missing = "the tag tb@v1.0.0 was not found on the git remote origin: push it too"
    assert said("remote", "add", "origin", str(origin)) == [missing, everything]  # which cannot be asked
    subprocess.run(["git", "init", "--quiet", "--bare", str(origin)], check=True)
    api.register(str(repository), "tb", "HEAD", "v1.0.0", message="baseline/0")
    assert said() == [missing, everything]
    assert said("push", "--quiet", "origin", "tb@v1.0.0") == ["to share it: git push origin 'tb#production#1'"]


def commands(heading: str) -> list[str]:
    """The indented commands of a section of docs/sharing.md, in their order."""
    section = DOCS.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^    ((?:xraylab|dvc|git) .*)$", section, re.MULTILINE)


def sh(command: str) -> str:
    """What a command of the docs prints in the current folder, run in this process, where it starts at once."""
    program, *arguments = shlex.split(command)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if program == "git":
            status = subprocess.run(["git", *arguments], check=False).returncode
        elif program == "dvc":
            status = dvc(arguments)
        else:
            status = app(arguments, standalone_mode=False) or 0
    assert status == 0, command
    return printed.getvalue()


@pytest.mark.slow
def test_the_way_of_the_docs_leads_from_a_study_to_the_model_in_production(
    finished: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: None
) -> None:
    study, elsewhere, origin = tmp_path / "study", tmp_path / "elsewhere", tmp_path / "origin.git"
    shutil.copytree(finished[1].root, study)
    elsewhere.mkdir()
    subprocess.run(["git", "init", "--quiet", "--bare", str(origin)], check=True)
    small.git(study, "init", "--quiet")
    small.git(study, "remote", "add", "origin", str(origin))
    code.run(finished[0], Paths(study))
    monkeypatch.chdir(study)
    sh("dvc commit --quiet --force")
    for command in commands("A bundle"):
        assert "baseline/0" in sh(command)
    setup, (register, push, publish, promote, publish_stage), later, get = _parts(commands("Versions and stages"))
    for command in setup:
        sh(command.replace("/srv/dvc", str(tmp_path / "storage")))
    table = Paths(study).prediction("baseline", 0)
    text = table.read_bytes()
    table.write_bytes(text + b"\n")
    with pytest.raises(
        DataError, match=r"baseline/0 is not what dvc\.lock records \(predict@baseline-0 changed\): dvc"
    ):
        sh(register)
    table.write_bytes(text)
    assert sh(register).startswith("tb v1.0.0 is baseline/0: the tag tb@v1.0.0 of the commit ")
    with pytest.raises(DataError, match=r"tb v1\.0\.0 is not on the DVC remote, so nobody could get it: " + push):
        sh(promote)
    for command in (push, publish, promote, publish_stage):
        sh(command)
    small.git(study, "commit", "--quiet", "--allow-empty", "--message", "another training")
    lines = [sh(command) for command in later]
    assert "(baseline/0) is in production now; before it was v1.0.0\n" in lines[2]
    assert [re.split(" {2,}", line)[:4] for line in lines[-1].splitlines()] == [
        ["tb", "v3.0.0", "production", "baseline/0"],
        ["tb", "v1.0.0", "-", "baseline/0"],
    ]
    assert Repo(str(study)).status() == {}
    monkeypatch.chdir(elsewhere)
    for command in get:
        sh(command.replace("REPOSITORY", str(origin)))
    assert (elsewhere / "tb.zip").read_bytes() == (study / "registry/tb.zip").read_bytes()
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=study, capture_output=True, text=True, check=True)
    assert artifacts_show("tb", stage="production", repo=str(origin)) == {
        "rev": head.stdout.strip(),
        "path": "registry/tb.zip",
    }


def _parts(lines: list[str]) -> tuple[list[str], list[str], list[str], list[str]]:
    """Setting up, the first version, the third one, and getting it."""
    register = [number for number, line in enumerate(lines) if "register" in line]
    get = next(number for number, line in enumerate(lines) if "artifacts get" in line)
    return lines[: register[0]], lines[register[0] : register[1]], lines[register[1] : get], lines[get:]
