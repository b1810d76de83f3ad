"""What must hold before a job is submitted; each refusal says what to type."""

from pathlib import Path
from typing import Any

from xraylab.errors import DataError, MissingError, XraylabError
from xraylab.jobs import snapshot
from xraylab.jobs.channel import Channel
from xraylab.paths import Paths

WITHOUT_RUN_CACHE = ("http://", "https://")
LISTED = 5


def written(paths: Paths) -> list[str]:
    """What DVC's stages write into the study and git keeps, which goes into the jobs' commit as it stands."""
    return [path.relative_to(paths.root).as_posix() for path in (paths.lock, paths.source, paths.given_splits)]


def check(paths: Paths, git_remote: str, commit: bool) -> None:
    """Errors: XraylabError where jobs could not clone the study or reach its data."""
    _check_git(paths, git_remote, commit)
    _check_remote(paths.root)


def _check_git(paths: Paths, remote: str, commit: bool) -> None:
    try:
        snapshot.git(paths.root, "rev-parse", "--verify", "HEAD")
    except XraylabError:
        raise MissingError(
            "jobs clone a commit, and there is none: git init && git add . && git commit -m study"
        ) from None
    if remote not in snapshot.git(paths.root, "remote").split():
        raise MissingError(
            f"jobs clone the study from a git remote, and there is none called {remote!r}: git remote add {remote} URL"
            " (an address or a folder that this machine and the nodes reach), or name another one with --git-remote"
        )
    if files := snapshot.changed(paths.root, written(paths)):
        if commit:
            snapshot.git(paths.root, "add", "--all")
            snapshot.git(paths.root, "commit", "--quiet", "--message", "Before xraylab repro --on")
            return
        more = [f"and {len(files) - LISTED} more"] if len(files) > LISTED else []
        headline = "jobs clone the last commit, and these files are not as it has them: commit them, or add --commit"
        raise DataError(headline, [*files[:LISTED], *more])


def _check_remote(root: Path) -> None:
    """The remote of DVC that nodes know: they have the commit, and not .dvc/config.local."""
    from dvc.config_schema import RelPath  # type: ignore[import-untyped] # noqa: PLC0415 - slow to import

    shared = _config(root, "repo").get("remote", {})
    name = _config(root, None)["core"].get("remote")
    if name is None:
        raise MissingError(
            "jobs bring data and results by DVC's remote, and there is none: dvc remote add --default NAME URL"
        )
    url = shared.get(name, {}).get("url")
    if url is None or _config(root, "repo").get("core", {}).get("remote") != name:
        raise MissingError(
            f"the default remote {name!r} is not in .dvc/config, which alone the nodes see:"
            f" dvc remote add --default --force {name} URL, and commit .dvc/config (secrets stay in the environment)"
        )
    if url.startswith(WITHOUT_RUN_CACHE):
        raise DataError(f"{name} ({url}) holds no run cache, as HTTP remotes do not: use S3, SSH, or a shared folder")
    if isinstance(url, RelPath):
        path = Path(url).resolve()
        raise DataError(
            f"{name} is at a relative path, which means another folder in a job's clone:"
            f" dvc remote modify {name} url {path}"
        )
    try:
        channel = Channel.open(root, "check")
        channel.write("reached", "from-the-caller")
        channel.remove(["from-the-caller"])
    except Exception as error:  # file systems' errors have no class in common but this
        raise XraylabError(f"{name} ({url}) cannot be written from here: `dvc push` shows more", [str(error)]) from None


def _config(root: Path, level: str | None) -> dict[str, Any]:
    """DVC's configuration of one level (repo: .dvc/config), or of all."""
    from dvc.config import Config  # type: ignore[import-untyped] # noqa: PLC0415 - slow to import

    config = Config(dvc_dir=str(root / ".dvc"))
    return dict(config if level is None else config.read(level))
