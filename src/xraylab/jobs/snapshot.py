"""The commit that the nodes clone: the user's own, with the dvc.lock of now; branch and index stay as they are."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xraylab.errors import XraylabError

MESSAGE = "State of the study for its jobs"


@dataclass(frozen=True)
class Snapshot:
    """A commit, the ref that holds it on the git remote, and that remote's address."""

    commit: str
    ref: str
    repository: str


def git(root: Path, *arguments: str, **environment: str) -> str:
    """What git prints. Errors: XraylabError with what it says where it fails."""
    done = subprocess.run(  # noqa: S603
        ["git", *arguments], cwd=root, capture_output=True, encoding="utf-8", env=os.environ | environment, check=False  # noqa: S607
    )  # fmt: skip
    if done.returncode != 0:
        raise XraylabError(f"`git {' '.join(arguments)}` failed", done.stderr.splitlines())
    return done.stdout.rstrip()  # `git status` begins lines with a blank


def changed(root: Path, but: Sequence[str]) -> list[str]:
    """The files that are not as in the last commit, but for those that DVC's stages write."""
    lines = git(root, "status", "--porcelain", "--untracked-files=all", "-z").split("\0")
    paths = [line[3:] for line in lines if len(line) > 3]
    return [path for path in paths if path not in but]


def address(root: Path, remote: str) -> str:
    """Where nodes clone from: the URL of a git remote, with the path of a folder made absolute."""
    url = git(root, "remote", "get-url", remote)
    return str((root / url).resolve()) if (root / url).is_dir() else url


def study_id(root: Path) -> str:
    """The same in all clones of a study: its first commit."""
    return git(root, "rev-list", "--max-parents=0", "HEAD").splitlines()[-1][:16]


def tree(root: Path, paths: Sequence[str]) -> str:
    """The files of HEAD with `paths` as they stand, as git names them."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        git(root, "read-tree", "HEAD", **index)
        git(root, "add", "--force", "--", *[path for path in paths if (root / path).is_file()], **index)
        return git(root, "write-tree", **index)


def is_of(root: Path, commit: str, paths: Sequence[str]) -> bool:
    """Return whether a commit that was pushed from here has the files of now."""
    return git(root, "rev-parse", f"{commit}^{{tree}}") == tree(root, paths)


def push(root: Path, remote: str, name: str, paths: Sequence[str]) -> Snapshot:
    """Commit HEAD with `paths` as they stand, and push that to a ref of its own."""
    identity = {f"GIT_{who}_{what}": "xraylab" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    commit = git(root, "commit-tree", tree(root, paths), "-p", "HEAD", "-m", MESSAGE, **identity)
    ref = f"refs/xraylab/jobs/{name}"
    git(root, "push", "--quiet", remote, f"{commit}:{ref}")
    return Snapshot(commit, ref, address(root, remote))


def remove(root: Path, remote: str, ref: str) -> None:
    """Take the ref off the remote again."""
    git(root, "push", "--quiet", remote, f":{ref}")
