"""Beginning a study: in a new folder, or in this repository."""

import shutil
import subprocess
from pathlib import Path

from xraylab import files, template
from xraylab.errors import DataError, MissingError
from xraylab.studies import presets, write


def new(folder: Path, study: str | None, data: str | None, published: bool) -> list[str]:
    """Make `folder`, and say what comes next. Errors: DataError where there is something, ParamsError without study."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists and is not empty: name a new folder")
    preset = presets.read(study) if study else None
    write.study(folder, preset, published, _absolute(data))
    _initialise_git(folder)
    missing = (
        [f"set data.source in params.yaml (the study's own: {preset.data['where']})"] if preset and not data else []
    )
    steps = [f"cd {folder}", *missing, "git add --all && git commit -m 'A new study'", "dvc repro"]
    return [f"{folder} is a study. Next:", *(f"    {step}" for step in steps)]


def here(root: Path, study: str, data: str | None, published: bool, force: bool) -> list[str]:
    """Make params.yaml that of a study. Errors: DataError where it was edited and `force` is not given."""
    preset, place = presets.read(study), root / "params.yaml"
    if not place.is_file():
        raise MissingError(f"no params.yaml in {root}: run this command in the top folder of a study")
    if not force and _edited(place):
        raise DataError(f"{place} has changes that git does not know: commit them, or overwrite them with --force")
    files.write_text(write.params_text(preset, published, _absolute(data)), place)
    return [f"params.yaml is the study {study} now; `dvc repro` runs it, `git checkout params.yaml` takes it back"]


def _absolute(data: str | None) -> str | None:
    """A path as seen from here holds from elsewhere too; addresses stay as they are."""
    return str(Path(data).expanduser().resolve()) if data and Path(data).expanduser().exists() else data


def _edited(place: Path) -> bool:
    """Whether git does not have the file as it stands; without git, whether it is not the shipped one."""
    asked = ["git", "status", "--porcelain", "--", place.name]
    done = subprocess.run(asked, cwd=place.parent, capture_output=True, encoding="utf-8", check=False)  # noqa: S603 - no user's text
    if done.returncode == 0:
        return done.stdout != ""
    return place.read_bytes() != template.file("params.yaml").read_bytes()


def _initialise_git(folder: Path) -> None:
    """DVC compares with what git has; a folder that lies in a repository already belongs to that."""
    if shutil.which("git") is None:
        raise MissingError("git is not installed, and DVC needs it: install git, then run this again")
    inside = subprocess.run(["git", "rev-parse"], cwd=folder, capture_output=True, check=False)  # noqa: S607 - the user's own git
    if inside.returncode != 0:
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)  # noqa: S607 - the same
