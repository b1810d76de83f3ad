"""Licences of all that an installation brings: permissive, or weighed and listed here with the reason."""

import itertools
import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.metadata import metadata as metadata_of

import small
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PERMISSIVE = re.compile(
    r"apache|\bMIT\b|MIT-|\bBSD|0BSD|clause|\bISC|PSF|python software|CNRI-Python|zlib|CC0|unlicense|public domain|"
    r"MPL|mozilla|zope|HPND|BSL-1\.0",
    re.IGNORECASE,
)
OTHER = re.compile(r"\bA?GPL|\bLGPL|general public|affero|EPL|proprietary|commercial", re.IGNORECASE)
WEIGHED = {
    "asyncssh": "EPL-2.0 or GPL-2.0-or-later; dvc-ssh of dvc's own, reached by dvc alone, unchanged",
    "cuda-toolkit": "NVIDIA's, names the CUDA packages that torch installs; no code of its own",
    "dulwich": "Apache-2.0 or, at choice, GPL-2.0-or-later",
    "grandalf": "GPL-2.0 or EPL-1.0; `dvc dag` draws with it, unchanged",
    "pygit2": "GPL-2.0 with an exception that allows linking from any program; dvc's access to git",
}
NVIDIA = "nvidia-"  # CUDA's libraries: NVIDIA's licence allows their use and redistribution with an application


def installed() -> dict[str, Distribution]:
    """Every package that xraylab and its extras need here, also for development, by canonical name."""
    project = tomllib.loads((small.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *itertools.chain.from_iterable(project["optional-dependencies"].values())]
    waiting = [Requirement(line) for line in lines]
    needed: dict[str, Distribution] = {}
    seen = set[str]()
    while waiting:
        requirement = waiting.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        try:
            package = distribution(requirement.name)
        except PackageNotFoundError:  # an extra that is not installed here
            continue
        needed[canonicalize_name(requirement.name)] = package
        extras = requirement.extras or {""}
        for line in package.requires or []:
            each = Requirement(line)
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(each)
    return needed


def licence(name: str) -> str:
    """The licence as the package's metadata say it: an SPDX expression, classifiers, or the first line of the text."""
    metadata = metadata_of(name)
    classifiers = [each.split(" :: ")[-1] for each in metadata.get_all("Classifier") or [] if "License ::" in each]
    first = (metadata.get("License") or "").strip().partition("\n")[0]
    return metadata.get("License-Expression") or "; ".join(classifiers) or first


def problem(name: str) -> str | None:
    """What must be weighed about a package's licence; None where it is permissive."""
    text = licence(name)
    return None if PERMISSIVE.search(text) and not OTHER.search(text) else f"{name}: {text or 'no licence'}"


def test_every_dependency_is_permissive_or_was_weighed() -> None:
    names = [name for name in installed() if name not in WEIGHED and not name.startswith(NVIDIA)]
    assert len(names) > 150
    assert [each for each in map(problem, names) if each] == []


def test_what_was_weighed_is_still_needed() -> None:
    assert set(WEIGHED) - {"cuda-toolkit"} <= set(installed())  # which comes with torch's CUDA build alone
