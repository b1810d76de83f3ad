"""A zip of named members, each with its SHA-256; what others sent is not trusted, and nothing is unpacked to disk."""

import hashlib
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from xraylab import files
from xraylab.data.sources import zips
from xraylab.data.sources.archives import DAMAGED
from xraylab.data.sources.members import TooManyError
from xraylab.errors import DataError

MANIFEST = "SHA256SUMS"
"""As `sha256sum --check` reads it."""
FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold
MOST_MEMBERS = 64
LINE = re.compile(r"([0-9a-f]{64})  (\S+)")


def write(members: Mapping[str, bytes], path: Path) -> None:
    """Write members in this order, after their manifest: uncompressed, of one time, so that they fix every byte."""
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in members.items())
    with files.replacing(path) as temporary, ZipFile(temporary, "w", ZIP_STORED) as archive:
        for name, data in {MANIFEST: sums.encode(), **members}.items():
            entry = ZipInfo(name, FIXED_TIME)
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, data)


def read(path: Path, allowed: re.Pattern[str]) -> dict[str, bytes]:
    """The members, whose names match `allowed`, each checked against the manifest.

    Errors: DataError where the file is absent, no zip, damaged, or holds what `write` would not write: other names,
    the same name twice, folders, links, compressed or encrypted members, or more bytes than the file itself.
    """
    try:
        files.require_regular(path)
        with zips.opened(path, MOST_MEMBERS) as archive:
            entries = archive.infolist()
            _refuse_hostile(path, entries, allowed)
            members = {entry.filename: archive.read(entry) for entry in entries}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except TooManyError:
        raise DataError(f"{path} is not a bundle: it has more than {MOST_MEMBERS} members") from None
    except (*DAMAGED, OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path} is not a whole bundle: {error}") from None
    _check_sums(path, members)
    return {name: data for name, data in members.items() if name != MANIFEST}


def _refuse_hostile(path: Path, entries: list[ZipInfo], allowed: re.Pattern[str]) -> None:
    names = [entry.filename for entry in entries]
    for entry in entries:
        if problem := _problem(entry, names, allowed):
            raise DataError(f"{path} is not a bundle: its member {entry.filename!r} {problem}")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise DataError(f"{path} is not a bundle: its members overlap")


def _problem(entry: ZipInfo, names: list[str], allowed: re.Pattern[str]) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    problems = {
        "is not one of a bundle": entry.filename != MANIFEST and not allowed.fullmatch(entry.filename),
        "is there twice": names.count(entry.filename) > 1,
        "is not a file": kind not in (0, stat.S_IFREG),
        "is encrypted": bool(entry.flag_bits & 1),
        "is compressed": entry.compress_type != ZIP_STORED or entry.compress_size != entry.file_size,
    }
    return next((problem for problem, applies in problems.items() if applies), None)


def _check_sums(path: Path, members: Mapping[str, bytes]) -> None:
    """Every member but the manifest is in the manifest, and every file of the manifest is there as it was written."""
    lines = [LINE.fullmatch(line) for line in members.get(MANIFEST, b"").decode("ascii", "replace").splitlines()]
    sums = {line[2]: line[1] for line in lines if line}
    if not sums or len(sums) < len(lines) or sums.keys() != members.keys() - {MANIFEST}:
        raise DataError(f"{path} is not a whole bundle: its {MANIFEST} does not list its members")
    for name, expected in sums.items():
        if hashlib.sha256(members[name]).hexdigest() != expected:
            raise DataError(f"{path} is damaged: {name} is not the file that its {MANIFEST} lists")
