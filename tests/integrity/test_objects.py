"""DVC's cache: damaged objects are found, and mended where the right bytes are at hand."""

import os
import shutil
from pathlib import Path

import pytest
import recorded_study
from dvc.repo import Repo
from typer.testing import CliRunner

from xraylab import cli
from xraylab.doctor import dvc_cache
from xraylab.doctor.finding import Finding, Subject
from xraylab.errors import DataError
from xraylab.integrity import lock, objects
from xraylab.integrity.cache import Cache, config_files
from xraylab.integrity.check import require_outputs
from xraylab.integrity.lock import Output
from xraylab.paths import Paths

pytest_plugins = ["recorded_study"]


def output(recorded: Paths, path: str) -> Output:
    return next(out for out in lock.read(recorded, lock.stages_of(recorded)).outputs if out.path == path)


def object_of(recorded: Paths, path: str, name: str = "") -> Path:
    cache, md5 = Cache.of(recorded), output(recorded, path).md5
    listing = cache.listing(md5) or {}
    return cache.object(listing[name] if name else md5)


def checked(recorded: Paths) -> list[Finding]:
    return list(dvc_cache.check(Subject.at(recorded.root)))


def damage(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size // 2)
    path.chmod(0o444)


def test_a_whole_cache_is_called_whole(recorded: Paths) -> None:
    (finding,) = checked(recorded)
    assert finding.level == "ok"
    count = len(list((recorded.root / ".dvc/cache/files/md5").glob("??/*")))
    assert finding.text == f"{count} of {count} objects in {recorded.root / '.dvc/cache'} are whole"


@pytest.mark.parametrize(
    ("out", "name"), [("models/base/0", "best.safetensors"), ("models/base/0", ""), ("data/index.csv", "")]
)
def test_a_damaged_object_is_mended_with_the_same_bytes_of_the_workspace(recorded: Paths, out: str, name: str) -> None:
    path = object_of(recorded, out, name)
    before = path.read_bytes()
    damage(path)
    finding = checked(recorded)[1]
    assert finding.level == "warning"
    assert finding.text.startswith(f"{out}/{name}".rstrip("/") + ": object ")
    assert finding.text.endswith(" was damaged, and is mended with the same bytes from the workspace")
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o444
    assert [each.level for each in checked(recorded)] == ["ok"]


def test_what_was_checked_out_damaged_is_refused_mended_and_made_anew(recorded: Paths) -> None:
    """The whole way: half a file comes out of the cache, and dvc calls it up to date."""
    weights, stored = (
        recorded.model("base", 0) / "best.safetensors",
        object_of(recorded, "models/base/0", "best.safetensors"),
    )
    right = weights.read_bytes()
    with recorded_study.working_in(recorded.root), Repo() as repo:
        damage(stored)
        weights.unlink()
        repo.checkout()
        assert weights.read_bytes() == right[: len(right) // 2]
        assert repo.status() == {}
    with pytest.raises(DataError, match=r"^models/base/0/best.safetensors .* `xraylab doctor --deep` looks for"):
        require_outputs(recorded, [recorded.models])
    with recorded_study.working_in(recorded.root):
        result = CliRunner().invoke(cli.app, ["doctor", "--deep"])
    assert result.exit_code == 1
    assert "models/base/0/best.safetensors: object" in result.output
    assert not stored.exists()
    with recorded_study.working_in(recorded.root), Repo() as repo:
        assert [stage.addressing for stage in repo.reproduce(["train@base-0"])] == ["train@base-0"]
    assert weights.read_bytes() == right == stored.read_bytes()
    require_outputs(recorded, [recorded.models])


def test_a_remote_gives_back_what_was_moved_aside(recorded: Paths, tmp_path: Path) -> None:
    stored, index = object_of(recorded, "data/index.csv"), recorded.index
    right = index.read_bytes()
    with (recorded.root / ".dvc/config.local").open("a") as config:
        config.write(f"[core]\n    remote = far\n['remote \"far\"']\n    url = {tmp_path / 'far'}\n")
    with recorded_study.working_in(recorded.root), Repo() as repo:
        repo.push()
        recorded_study.flip(stored)
        recorded_study.flip(index)
        assert checked(recorded)[1].level == "error"
        repo.fetch()
        repo.checkout(force=True)
    assert index.read_bytes() == right == stored.read_bytes()
    assert [each.level for each in checked(recorded)] == ["ok"]


def test_an_object_of_another_study_is_moved_aside_too(recorded: Paths) -> None:
    foreign = recorded.root / ".dvc/cache/files/md5/00/11223344556677889900aabbccddee"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("anything")
    finding = checked(recorded)[1]
    assert (finding.level, finding.advice) == ("warning", "")
    assert finding.text.startswith("nothing that dvc.lock names: object 0011223344556677889900aabbccddee was damaged")
    assert (recorded.root / ".dvc/cache/damaged/0011223344556677889900aabbccddee").read_text() == "anything"


def test_absent_objects_are_named_and_parts_that_were_not_pulled_are_none(recorded: Paths) -> None:
    object_of(recorded, "data/index.csv").unlink()
    object_of(recorded, "data/split").unlink()
    shutil.rmtree(recorded.split)
    (_, uncached, elsewhere) = checked(recorded)
    assert (uncached.level, uncached.text) == ("warning", "data/index.csv: the cache does not hold it")
    assert elsewhere.level == "ok"
    assert elsewhere.text == "data/split: not on this machine, `dvc pull` brings it from a remote"


def test_an_object_that_may_not_be_moved_is_named(recorded: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(object_of(recorded, "data/index.csv"))
    recorded.index.unlink()
    monkeypatch.setattr(Path, "replace", lambda path, target: (_ for _ in ()).throw(PermissionError(1, "not yours")))
    finding = checked(recorded)[1]
    assert finding.level == "error"
    assert finding.text.endswith("and cannot be moved (not yours)")
    assert [each.problem for each in objects.scan(recorded).damaged] == ["not yours"]


@pytest.mark.parametrize("name", ["config.local", "config", "user", "system"])
def test_the_cache_is_where_dvc_puts_it(
    recorded: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "system"))
    file = dict(zip(("config.local", "config", "user", "system"), config_files(recorded.root), strict=True))[name]
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as config:
        config.write("[cache]\n    dir = ../elsewhere # shared\n    type = copy\n")
    with recorded_study.working_in(recorded.root), Repo() as repo:
        assert Cache.of(recorded).folder.resolve() == Path(repo.cache.local_cache_dir).resolve()
