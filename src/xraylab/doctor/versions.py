"""Versions of Python and of the packages, against what xraylab was tested with."""

import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from xraylab.doctor.finding import Finding, Subject

NAME = "versions"
PACKAGES = ("torch", "torchvision", "fastai", "timm", "dvc")
"""Those that are shown; all of constraints.txt are compared."""
HANGING = {(3, 11): 8, (3, 12): 2}
"""Version of Python -> the first patch release without CVE-2024-6232, by which a crafted archive hangs for ever."""
SHOWN = 5


def check(subject: Subject) -> Iterator[Finding]:
    """Python, the main packages, and what differs from the study's constraints.txt."""
    yield _python()
    versions = ", ".join(f"{name} {_version(name) or 'missing'}" for name in ("xraylab", *PACKAGES))
    missing = [name for name in PACKAGES if _version(name) is None]
    yield Finding(
        NAME,
        "error" if missing else "ok",
        versions,
        "install xraylab anew in an environment of its own: pip install xraylab" if missing else "",
    )
    if (constraints := subject.folder / "constraints.txt").is_file():
        yield _constrained(constraints)


def _python() -> Finding:
    text = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {sys.executable}"
    first = HANGING.get(sys.version_info[:2])
    if first is not None and sys.version_info.micro < first:
        return Finding(
            NAME,
            "warning",
            text,
            f"a crafted archive can make this Python hang (CVE-2024-6232): take "
            f"{sys.version_info.major}.{sys.version_info.minor}.{first} or later before you unpack archives of others",
        )
    return Finding(NAME, "ok", text)


def _constrained(path: Path) -> Finding:
    """Compare what is installed with the versions that the study pins."""
    pinned = dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;#]+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    installed = {name: _version(name) for name in pinned}
    differing = [
        f"{name} {has} (constraints.txt: {pinned[name]})"
        for name, has in installed.items()
        if has is not None and has.split("+")[0] != pinned[name].split("+")[0]
    ]
    if not differing:
        return Finding(NAME, "ok", f"{sum(map(bool, installed.values()))} installed packages are as in constraints.txt")
    more = f", and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
    return Finding(
        NAME,
        "warning",
        f"other versions than tested: {', '.join(differing[:SHOWN])}{more}",
        "pip install --constraint constraints.txt xraylab",
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
