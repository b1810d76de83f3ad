"""Damaged and absent objects of DVC's cache; the same bytes in the workspace mend them.

A damaged object would be checked out as it is, and DVC would not make it anew while it is there.
"""

import re
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from xraylab import files
from xraylab.integrity import hashes, lock
from xraylab.integrity.cache import ASIDE, Cache
from xraylab.integrity.hashes import FOLDER, Ignored, Listing
from xraylab.integrity.lock import Output
from xraylab.paths import Paths

NAME = re.compile(r"[0-9a-f]{30}(\.dir)?")
READ_ONLY = 0o444  # as DVC leaves its objects


@dataclass(frozen=True)
class Damaged:
    """An object whose contents are not those of its name; `paths`: what of the study it is, if anything.

    `mended`: the workspace had the right bytes. Otherwise it was moved to `aside`, or stands where it was: None.
    """

    md5: str
    paths: tuple[str, ...]
    mended: bool = False
    aside: Path | None = None
    problem: str = ""


@dataclass
class Scan:
    """A look at every object, of which there are `checked`, with `size` bytes.

    `uncached`: files of the study whose objects are absent. `not_pulled`: outputs of which neither is on this machine.
    """

    cache: Cache
    checked: int
    size: int
    damaged: list[Damaged] = field(default_factory=list)
    uncached: list[str] = field(default_factory=list)
    not_pulled: list[str] = field(default_factory=list)


def scan(paths: Paths) -> Scan:
    """Hash every object of the cache, and mend the damaged ones."""
    cache = Cache.of(paths)
    objects = [path for path in cache.objects() if NAME.fullmatch(path.name)]
    result = Scan(cache, len(objects), sum(path.stat().st_size for path in objects))
    hashed = hashes.of_files(objects, "checking DVC's cache")
    damaged = [path.parent.name + path.name for path in objects if hashed.get(path) != _expected(path)]
    outs = _cached_outputs(paths)
    study = _Workspace(paths, cache, outs)
    for md5 in sorted(damaged, key=lambda md5: not md5.endswith(FOLDER)):  # lists first: they name the others
        result.damaged.append(_mend(study, md5))
    for out in outs:
        missing = study.missing(out)
        if missing and (paths.root / out.path).exists():
            result.uncached += missing
        elif missing:
            result.not_pulled.append(out.path)
    return result


def _expected(path: Path) -> str:
    return path.parent.name + path.name.removesuffix(FOLDER)


def _cached_outputs(paths: Paths) -> list[Output]:
    return [out for out in lock.read(paths, lock.stages_of(paths)).outputs if out.cached]


class _Workspace:
    """The study's outputs as possible copies of objects."""

    def __init__(self, paths: Paths, cache: Cache, outs: list[Output]) -> None:
        self.root, self.cache, self.outs, self.ignored = paths.root, cache, outs, Ignored(paths.root)
        self.listings: dict[str, Listing] = {}

    def listing(self, out: Output) -> Listing:
        """Path within the study -> MD5 of the files of an output, as far as the cache or the workspace tells."""
        if not out.md5.endswith(FOLDER):
            return {out.path: out.md5}
        if out.md5 not in self.listings:
            listed = self.cache.listing(out.md5)
            self.listings[out.md5] = self.present(out) if listed is None else listed
        return {f"{out.path}/{name}": md5 for name, md5 in self.listings[out.md5].items()}

    def present(self, out: Output) -> Listing:
        """The files of a folder as it stands, where it is as recorded; otherwise none."""
        place = self.root / out.path
        hashed = hashes.of_files(list(self.ignored.walk(place)))
        listing = {path.relative_to(place).as_posix(): md5 for path, md5 in hashed.items()}
        return listing if hashes.of_listing(listing) == out.md5 else {}

    def names(self, md5: str) -> list[str]:
        """The outputs, or files of outputs, that an object is."""
        if md5.endswith(FOLDER):
            return [out.path for out in self.outs if out.md5 == md5]
        return [name for out in self.outs for name, each in self.listing(out).items() if each == md5]

    def content(self, md5: str, names: list[str]) -> bytes | Path | None:
        """The right contents of an object, or a file that has them."""
        if md5.endswith(FOLDER):
            out = next((out for out in self.outs if out.md5 == md5), None)
            listing = self.present(out) if out else {}
            return hashes.to_json(listing) if listing else None
        files_of = [self.root / name for name in names]
        return next((path for path, each in hashes.of_files(files_of).items() if each == md5), None)

    def missing(self, out: Output) -> list[str]:
        """What of an output has no object: the whole, or names of files."""
        if out.md5.endswith(FOLDER) and not self.cache.object(out.md5).is_file():
            return [out.path]
        return [name for name, md5 in self.listing(out).items() if not self.cache.object(md5).is_file()]


def _mend(study: _Workspace, md5: str) -> Damaged:
    names = study.names(md5)
    content = study.content(md5, names)
    try:
        if content is not None:
            _replace(study.cache.object(md5), content)
            return Damaged(md5, tuple(names), mended=True)
        aside = _move_aside(study.cache, md5)
    except OSError as error:
        return Damaged(md5, tuple(names), problem=error.strerror or str(error))
    for name in names:
        _make_dvc_look(study.root / name)
    return Damaged(md5, tuple(names), aside=aside)


def _replace(target: Path, content: bytes | Path) -> None:
    with files.replacing(target) as temporary:
        if isinstance(content, bytes):
            temporary.write_bytes(content)
        else:
            shutil.copyfile(content, temporary)
    target.chmod(READ_ONLY)


def _move_aside(cache: Cache, md5: str) -> Path:
    target = cache.folder / ASIDE / md5
    target.parent.mkdir(exist_ok=True)
    cache.object(md5).replace(target)
    return target


def _make_dvc_look(path: Path) -> None:
    """Give files another time, since DVC trusts that of a file that it has checked out."""
    for each in path.rglob("*") if path.is_dir() else [path]:
        with suppress(OSError):
            if each.is_file():
                files.touch(each)
