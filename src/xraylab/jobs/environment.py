"""The installed versions on which bits depend: those of Python and of the packages that constraints.txt names."""

import platform
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from xraylab.errors import XraylabError


class OtherVersionsError(XraylabError):
    """A node would not make the bits that the caller makes."""


Versions = dict[str, str]
LISTED = 10


def versions(constraints: Path) -> Versions:
    """What is installed here of the packages in constraints.txt."""
    text = constraints.read_text(encoding="utf-8") if constraints.is_file() else ""
    installed = {"python": platform.python_version()}
    for name in re.findall(r"^([A-Za-z0-9][\w.-]*)==", text, re.MULTILINE):
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


def refuse_others(here: Versions, caller: Versions, node: str) -> None:
    """Errors: OtherVersionsError where a node has another version of a package than the caller; it may lack tools."""
    other = [name for name in caller if here.get(name, caller[name]) != caller[name]]
    if other:
        lines = [f"{name}: {caller[name]} at the caller, {here[name]} on {node}" for name in other[:LISTED]]
        more = [f"and {len(other) - LISTED} more"] if len(other) > LISTED else []
        remedy = "install the same on both: pip install --constraint constraints.txt xraylab"
        raise OtherVersionsError(f"{node} has other versions than the caller; {remedy}", lines + more)
