"""Dockerfile, dev container and conda environment against pyproject.toml: what they copy, install and run as."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import small
from under_dvc import environment

from xraylab import files

DOCKERFILE = (small.REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((small.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
DEVCONTAINER = json.loads((small.REPOSITORY / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
CONDA = files.read_yaml(small.REPOSITORY / "environment.yml")
KNOWN = {"name", "build", "remoteUser", "hostRequirements", "runArgs", "postCreateCommand", "customizations"}


def instructions(name: str) -> list[str]:
    """The arguments of every instruction of a kind, continued lines joined."""
    lines = re.sub(r"\\\n\s*", " ", DOCKERFILE).splitlines()
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{name} ")]


def arguments() -> dict[str, str]:
    """The build arguments of the Dockerfile with their defaults."""
    return {name: value.strip('"') for name, _, value in (each.partition("=") for each in instructions("ARG"))}


def copied(folder: Path) -> Path:
    """A folder with what the Dockerfile copies into the image, less what .dockerignore keeps out."""
    allowed = re.findall(r"^!(.+)$", (small.REPOSITORY / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    for each in instructions("COPY"):
        *sources, target = each.split()
        for source in sources:
            path, goal = small.REPOSITORY / source, folder / target
            assert source in allowed
            if path.is_dir():
                shutil.copytree(path, goal, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                goal.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, goal / path.name)
    return folder


def test_the_image_holds_what_pip_needs_to_build_xraylab(tmp_path: Path) -> None:
    context = copied(tmp_path / "context")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    done = subprocess.run(command, cwd=context, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (context / "dist").glob("*.whl")
    packed = zipfile.ZipFile(wheel).namelist()
    assert {
        f"{target}" for target in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"].values()
    } <= {*packed}
    assert sum(name.endswith(".py") for name in packed) == len(list((small.REPOSITORY / "src/xraylab").rglob("*.py")))


def test_the_image_runs_as_a_user_and_names_no_address() -> None:
    assert instructions("USER") == ["xraylab"]
    assert DOCKERFILE.index("\nUSER ") > DOCKERFILE.rindex("\nRUN ")
    assert instructions("ADD") == []
    assert instructions("HEALTHCHECK") == ["NONE"]
    assert "://" not in DOCKERFILE
    for shell in instructions("RUN"):
        subprocess.run(["sh", "-n"], input=shell, text=True, check=True)


def test_every_extra_that_is_installed_exists() -> None:
    assert set(arguments()["EXTRAS"].split(",")) <= set(EXTRAS)
    assert set(DEVCONTAINER["build"]["args"]) <= set(arguments())
    assert set(DEVCONTAINER["build"]["args"]["EXTRAS"].split(",")) <= set(EXTRAS)
    (pip,) = (each["pip"] for each in CONDA["dependencies"] if isinstance(each, dict))
    constraint, package = map(shlex.split, pip)
    assert constraint == ["--constraint", "constraints.txt"]
    assert package[0] == "--editable"
    assert set(re.fullmatch(r"\.\[(.+)\]", package[1])[1].split(",")) <= set(EXTRAS)  # type: ignore[index]


def test_every_environment_has_a_python_that_xraylab_takes() -> None:
    least = tuple(map(int, PROJECT["project"]["requires-python"].removeprefix(">=").split(".")))
    pythons = [arguments()["PYTHON"], *(each[7:] for each in CONDA["dependencies"] if str(each).startswith("python="))]
    assert len(pythons) == 2
    assert all(tuple(map(int, each.split("."))) >= least for each in pythons)


def test_the_dev_container_is_built_from_the_image() -> None:
    assert set(DEVCONTAINER) == KNOWN
    folder = small.REPOSITORY / ".devcontainer"
    assert (folder / DEVCONTAINER["build"]["dockerfile"]).resolve() == small.REPOSITORY / "Dockerfile"
    assert (folder / DEVCONTAINER["build"]["context"]).resolve() == small.REPOSITORY
    assert DEVCONTAINER["remoteUser"] == instructions("USER")[-1]
    assert "'.[dev]'" in DEVCONTAINER["postCreateCommand"]


@pytest.mark.parametrize("part", ["dev", "docs", "notebooks"])
def test_constraints_pin_what_an_extra_names(part: str) -> None:
    pinned = set(re.findall(r"^([A-Za-z0-9_.-]+)==", (small.REPOSITORY / "constraints.txt").read_text(), re.MULTILINE))
    names: list[Any] = [re.match(r"[A-Za-z0-9_.-]+", each)[0] for each in EXTRAS[part]]  # type: ignore[index]
    assert {_plain(each) for each in names} <= {_plain(each) for each in pinned}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
