"""Versions and stages of models: bundles that DVC tracks, and git tags that `gto` sets and reads.

A version is the tag NAME@v3.0.0 of a commit whose dvc.yaml names the model and whose .dvc file has the bundle's hash; a
stage is the tag NAME#production#1 of such a commit. `dvc artifacts get` and `dvc.api.artifacts_show` read the same.
"""

import io
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from xraylab import documents
from xraylab.errors import DataError, MissingError
from xraylab.paths import Paths, parse_run
from xraylab.studies import artifacts
from xraylab.studies.artifacts import Artifact

FOLDER = "registry"
"""Of the registered bundles, below a study's top folder."""
VERSION = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?")
ASKED = 10  # seconds for a git remote to answer


@dataclass(frozen=True)
class ModelVersion:
    """A registered version of a model."""

    name: str
    version: str
    stages: list[str]
    run: str
    """experiment/repeat."""
    date: str
    commit: str


@dataclass(frozen=True)
class Repository:
    """A study's git repository; the study may lie in a folder of it."""

    top: str
    """Its own top folder."""
    prefix: str
    """`folder:` of the names of its models in tags; empty in the repository's own top folder."""

    @classmethod
    def of(cls, root: Path) -> "Repository":
        """Errors: DataError where there is none."""
        try:
            top = Path(_git(root, "rev-parse", "--show-toplevel"))
        except DataError:
            raise DataError(f"{root} is in no git repository: git init && git add --all && git commit") from None
        folder = root.resolve().relative_to(top.resolve()).as_posix()
        return cls(str(top), "" if folder == "." else f"{folder}:")


def versions(root: Path) -> list[ModelVersion]:
    """All registered versions of the study, by name, the newest first. Errors: DataError outside a git repository."""
    from gto import api  # noqa: PLC0415 - takes time to import, as all of dvc

    repository = Repository.of(root)
    with _gto_errors():
        names = [name for name in sorted(api.show(repository.top)) if name.startswith(repository.prefix)]
        rows = [row for name in names for row in api.show(repository.top, name, registered_only=True)]
    each_version = [_version(row, repository) for row in rows]
    return sorted(each_version, key=lambda each: (each.name, [-part for part in _parts(each.version)]))


def _version(row: dict[str, Any], repository: Repository) -> ModelVersion:
    return ModelVersion(
        name=row["artifact"].removeprefix(repository.prefix),
        version=row["version"],
        stages=sorted({each["stage"] for each in row["stages"]}),
        run=str(row["message"]).strip(),
        date=f"{row['created_at']:%Y-%m-%d}",
        commit=row["commit_hexsha"],
    )


def show(root: Path) -> Iterator[str]:
    """One line per version: name, version, stages, run, date."""
    rows = versions(root)
    if not rows:
        yield "no model is registered yet: xraylab registry register RUN"
    width = max((len(each.name) for each in rows), default=0)
    for each in rows:
        yield f"{each.name:{width}}  {each.version:8}  {', '.join(each.stages) or '-':12}  {each.run}  {each.date}"


def register(paths: Paths, run: str, name: str | None = None, version: str | None = None) -> Iterator[str]:
    """Make a run's bundle the next version of a model: DVC tracks it, a commit names it, a tag numbers it.

    `name`: of the model, by default experiment-repeat. `version`: such as v3; by default the next whole number. Errors:
    DataError where the study is not committed, its run is not what dvc.lock records, or the version is there already.
    """
    from gto import api  # noqa: PLC0415 - as above

    repository = Repository.of(paths.root)
    _refuse_uncommitted(paths.root)
    experiment, repeat = parse_run(run)
    run = f"{experiment}/{repeat or 0}"
    name = _checked("name", name or run.replace("/", "-"))
    version = _next_version(paths.root, name, version)
    _refuse_stale(paths.root, run)
    tracked = _track(paths, run, name)
    _commit(paths.root, tracked, f"Register {name} {version}: {run}")
    with _gto_errors():
        api.register(repository.top, repository.prefix + name, "HEAD", version, message=run)
    tag = f"{_in_tag(repository.prefix)}{name}@{version}"
    yield f"{name} {version} is {run}: the tag {tag} of the commit {_git(paths.root, 'rev-parse', '--short', 'HEAD')}"
    yield f"to share it: dvc push {tracked[0]} && git push origin HEAD {tag}"


def promote(root: Path, source: str, stage: str, version: str | None = None) -> Iterator[str]:
    """Put a version of a model, by default the newest, into a stage such as production.

    `source` is the model's name, or the run that it was registered of. Errors: DataError where there is no such
    version, it is in that stage, or its bundle is not on the DVC remote; MissingError where there is no such model.
    """
    from gto import api  # noqa: PLC0415 - as above

    repository, stage = Repository.of(root), _checked("stage", stage)
    rows = _of_model(root, source)
    chosen = _choose(rows, version)
    before = [each for each in rows if stage in each.stages]
    if chosen in before:
        raise DataError(f"{chosen.name} {chosen.version} is in {stage} already")
    pushed = _is_pushed(root, chosen)
    if pushed is False:
        raise DataError(
            f"{chosen.name} {chosen.version} is not on the DVC remote, so nobody could get it: "
            f"dvc push {'' if chosen == rows[0] else '--all-tags '}{_dvc_file(chosen.name)}"
        )
    with _gto_errors():
        event = api.assign(repository.top, repository.prefix + chosen.name, stage, chosen.version)
    replaced = f"; before it was {before[0].version}" if before else ""
    yield f"{chosen.name} {chosen.version} ({chosen.run}) is in {stage} now{replaced}"
    if pushed is None:
        yield "the study has no DVC remote, so it can be had from here alone: dvc remote add --default NAME ADDRESS"
    yield from _how_to_share(root, f"{_in_tag(repository.prefix)}{chosen.name}@{chosen.version}", event.tag)
    yield f"to get it: dvc artifacts get REPOSITORY {repository.prefix}{chosen.name} --stage {stage}"


def _how_to_share(root: Path, version_tag: str, stage_tag: str) -> Iterator[str]:
    """What to type; with the version's commit and tag where the git remote does not have them, or cannot be asked."""
    remotes = _git(root, "remote").split()
    if not remotes:
        yield "the repository has no git remote, so nobody else sees it: git remote add origin ADDRESS"
    remote = "origin" if "origin" in remotes or not remotes else remotes[0]
    if not remotes or _has_tag(root, remote, version_tag):
        names = [stage_tag] if remotes else ["HEAD", version_tag, stage_tag]
    else:
        yield f"the tag {version_tag} was not found on the git remote {remote}: push it too"
        names = ["HEAD", version_tag, stage_tag]
    yield f"to share it: git push {remote} {' '.join(name if name == 'HEAD' else repr(name) for name in names)}"


def _has_tag(root: Path, remote: str, tag: str) -> bool:
    """Whether the remote has the tag; False where it cannot be asked without a password, or within `ASKED` seconds."""
    command = ["git", "ls-remote", "--exit-code", remote, f"refs/tags/{tag}"]
    quiet = os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    try:
        done = subprocess.run(command, cwd=root, env=quiet, capture_output=True, timeout=ASKED, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _of_model(root: Path, source: str) -> list[ModelVersion]:
    """The versions of a model, or of a run's model. Errors: MissingError."""
    rows = versions(root)
    known = list(dict.fromkeys(each.name for each in rows))
    run = source if "/" in source else f"{source}/0"
    name = next((each for each in (source, *artifacts.names_of_run(root, run)) if each in known), None)
    if name is None:
        there_is = f"there is {', '.join(known)}" if known else "there is none"
        raise MissingError(f"no model {source} is registered, {there_is}: xraylab registry register RUN")
    return [each for each in rows if each.name == name]


def _choose(rows: list[ModelVersion], version: str | None) -> ModelVersion:
    """A model's version, the newest where none is named. Errors: DataError."""
    full = rows[0].version if version is None else _full(version)
    for each in rows:
        if each.version == full:
            return each
    raise DataError(f"{rows[0].name} has no version {full}; there is {', '.join(each.version for each in rows)}")


def _next_version(root: Path, name: str, version: str | None) -> str:
    """`version` in full, or the next whole number. Errors: DataError where it is none, or is there already."""
    known = [each.version for each in versions(root) if each.name == name]
    if version is None:
        return f"v{max((_parts(each)[0] for each in known), default=0) + 1}.0.0"
    full = _full(version)
    if full in known:
        raise DataError(f"{name} has a version {full} already: name another, or none for the next one")
    return full


def _full(version: str) -> str:
    """v3 and 3 are v3.0.0. Errors: DataError."""
    match = VERSION.fullmatch(version)
    if not match:
        raise DataError(f"{version!r} is no version: write v3, v3.1 or v3.1.2")
    return "v" + ".".join(str(int(part or 0)) for part in match.groups())


def _parts(version: str) -> list[int]:
    """The three numbers; those of other tools' pre-releases are 0."""
    match = VERSION.match(version)
    return [int(part or 0) for part in match.groups()] if match else [0, 0, 0]


def _checked(what: str, text: str) -> str:
    """Errors: DataError where it cannot be a part of a tag."""
    from gto.constants import name_re  # noqa: PLC0415 - as above

    if not name_re.fullmatch(text):
        raise DataError(
            f"{text!r} cannot be a {what}: use letters, digits, - and _, with a letter or digit at both ends"
        )
    return text


def _refuse_uncommitted(root: Path) -> None:
    """A version is a commit: what is registered must be in it. Errors: DataError with what to type."""
    changed = [line[3:] for line in _git(root, "status", "--porcelain", "--untracked-files=no").splitlines()]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise DataError(
            f"a version is a commit, without the changes in {', '.join(changed[:3])}{more}: git commit --all"
        )
    if not _git(root, "ls-files", "dvc.lock"):
        raise DataError("a version is a commit, and none has dvc.lock: dvc repro && git add --all && git commit")
    try:
        _git(root, "var", "GIT_COMMITTER_IDENT")
    except DataError:
        raise DataError("git does not know who commits: git config user.name NAME && git config user.email E") from None


def _refuse_stale(root: Path, run: str) -> None:
    """Errors: DataError where the run, its predictions or the evaluation are not what dvc.lock records."""
    from dvc.exceptions import DvcException  # type: ignore[import-untyped] # noqa: PLC0415 - as above
    from dvc.repo import Repo  # type: ignore[import-untyped] # noqa: PLC0415

    item = run.replace("/", "-")
    try:
        with Repo(str(root)) as repo:
            status = repo.status(targets=[f"train@{item}", f"predict@{item}", "evaluate"])
    except DvcException as error:
        raise DataError(f"dvc cannot say whether {run} is up to date: {error}") from None
    if status:
        raise DataError(
            f"{run} is not what dvc.lock records ({next(iter(status))} changed): dvc repro && git commit --all"
        )


def _track(paths: Paths, run: str, name: str) -> list[str]:
    """Write the bundle, have DVC track it, and name it in dvc.yaml: the files of git that changed, .dvc first."""
    from dvc.repo import Repo  # noqa: PLC0415 - as above

    from xraylab.predict import cards  # noqa: PLC0415 - imports torch, and `list` does without

    path = f"{FOLDER}/{name}.zip"
    card = cards.write_bundle(paths, run, paths.root / path)
    with Repo(str(paths.root)) as repo, repo.scm_context(quiet=True):  # this module says what is to be typed
        repo.add(str(paths.root / path))
    labels = [card.task, card.network.arch]
    artifacts.write(paths.root, Artifact(name, path, f"{card.network.arch} of {run}", labels, run))
    ignore = (paths.root / path).with_name(".gitignore")
    return [_dvc_file(name), artifacts.FILE, *([ignore.relative_to(paths.root).as_posix()] if ignore.is_file() else [])]


def _dvc_file(name: str) -> str:
    return f"{FOLDER}/{name}.zip.dvc"


def _commit(root: Path, tracked: list[str], message: str) -> None:
    """Commit these files where they changed. Errors: DataError with what git says."""
    _git(root, "add", "--", *tracked)
    if _git(root, "status", "--porcelain", "--untracked-files=no", "--", *tracked):
        _git(root, "commit", "--quiet", "--message", message, "--", *tracked)


def _is_pushed(root: Path, version: ModelVersion) -> bool | None:
    """Return whether the DVC remote has the version's bundle; None without a remote."""
    from dvc.config import NoRemoteError  # type: ignore[import-untyped] # noqa: PLC0415 - as above
    from dvc.repo import Repo  # noqa: PLC0415

    text = _git(root, "show", f"{version.commit}:./{_dvc_file(version.name)}")
    try:
        (out,) = documents.load_yaml(io.StringIO(text))["outs"]
        md5 = str(out["md5"])
    except (YAMLError, ValueError, LookupError, TypeError):
        raise DataError(f"{_dvc_file(version.name)} of {version.commit[:7]} is not as DVC writes it") from None
    with Repo(str(root)) as repo:
        try:
            return bool(repo.cloud.get_remote_odb(command="promote").exists(md5))
        except NoRemoteError:
            return None


def _in_tag(prefix: str) -> str:
    """gto writes = for the colon, which git allows in no tag."""
    return prefix.replace(":", "=")


@contextmanager
def _gto_errors() -> Iterator[None]:
    """Turn what gto refuses into a user's error."""
    from gto.exceptions import GTOException  # noqa: PLC0415 - as above

    try:
        yield
    except GTOException as error:
        raise DataError(str(error)) from None


def _git(root: Path, *arguments: str) -> str:
    """Run git; returns its output. Errors: DataError with what it says where it fails."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, encoding="utf-8", check=False)  # noqa: S603, S607
    if done.returncode != 0:
        raise DataError(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout.rstrip("\n")
