"""MD5 of files and folders as DVC computes them.

A folder's is that of the JSON list of its files, without those that .dvcignore names.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pathspec import GitIgnoreSpec

from xraylab import files, progress

IGNORE_FILE = ".dvcignore"
ALWAYS_IGNORED = (".hg/", ".git/", ".git", ".dvc/")
FOLDER = ".dir"
"""What the recorded hash of a folder ends with."""
CHUNK = 1 << 20
PATIENCE = 2.0  # seconds without a bar
MEGABYTE = 1_000_000

Listing = dict[str, str]
"""Path within a folder, with slashes -> MD5."""


@dataclass(frozen=True)
class Ignored:
    """The rules of the .dvcignore files of a study."""

    root: Path

    def walk(self, folder: Path) -> Iterator[Path]:
        """The files of a folder that DVC sees; it does not follow links to folders."""
        specs = [(base, spec) for base in self._bases(folder) if (spec := self._spec(base))]

        def seen(path: Path, mark: str = "") -> bool:
            return not any(spec.match_file(path.relative_to(base).as_posix() + mark) for base, spec in specs)

        for name, folders, names in os.walk(folder):
            place = Path(name)
            folders[:] = [each for each in folders if seen(place / each, "/")]
            yield from (place / each for each in names if seen(place / each))

    def _bases(self, folder: Path) -> list[Path]:
        inner = folder.relative_to(self.root).parts
        return [self.root.joinpath(*inner[:depth]) for depth in range(len(inner))]

    def _spec(self, base: Path) -> GitIgnoreSpec | None:
        if base == self.root:
            return self._of_root
        return _read_spec(base, ())

    @cached_property
    def _of_root(self) -> GitIgnoreSpec | None:
        return _read_spec(self.root, ALWAYS_IGNORED)


def _read_spec(base: Path, always: Sequence[str]) -> GitIgnoreSpec | None:
    file = base / IGNORE_FILE
    with files.parsing(file):
        lines = [*always, *(file.read_text(encoding="utf-8").splitlines() if file.is_file() else [])]
        return GitIgnoreSpec.from_lines([line.strip() for line in lines]) if lines else None


@dataclass
class Work:
    """How much is hashed; the threads count, and the bar reads."""

    total: int
    done: list[int] = field(default_factory=list)  # appending is atomic, adding is not

    def file(self, path: Path) -> str | None:
        """The MD5 of a file; None where it is gone."""
        digest = hashlib.md5(usedforsecurity=False)
        try:
            with path.open("rb", buffering=0) as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                    self.done.append(len(chunk))
        except (FileNotFoundError, IsADirectoryError):
            return None
        return digest.hexdigest()


def of_files(paths: Sequence[Path], what: str = "checking files") -> dict[Path, str]:
    """The MD5 of every file that is there, in threads; after two seconds with a bar, which says `what`."""
    work = Work(sum(map(_size, paths)))
    with ThreadPoolExecutor() as pool:
        futures = {path: pool.submit(work.file, path) for path in dict.fromkeys(paths)}
        try:
            _show(set(futures.values()), work, what)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        hashed = {path: future.result() for path, future in futures.items()}
    return {path: md5 for path, md5 in hashed.items() if md5 is not None}


def of_listing(listing: Listing) -> str:
    """The MD5 that DVC records for a folder of these files."""
    return hashlib.md5(to_json(listing), usedforsecurity=False).hexdigest() + FOLDER


def to_json(listing: Listing) -> bytes:
    """The list as DVC's cache holds it."""
    rows = [{"md5": listing[name], "relpath": name} for name in sorted(listing)]
    return json.dumps(rows, sort_keys=True).encode()


def from_json(text: bytes) -> Listing:
    """Errors: ValueError where it is no such list."""
    rows = json.loads(text)
    try:
        return {row["relpath"]: row["md5"] for row in rows}
    except (TypeError, KeyError) as error:
        raise ValueError(f"no list of files: {error}") from None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _show(waiting: set[Future[str | None]], work: Work, what: str) -> None:
    _, left = wait(waiting, PATIENCE)
    if not left:
        return
    total = work.total // MEGABYTE
    with progress.display() as shown:
        if shown.disable:
            progress.say(f"{what}: {total:,} MB")
        task = shown.add_task(f"{what} (MB)", total=total)
        while left:
            _, left = wait(left, 0.2)
            shown.update(task, completed=sum(work.done) // MEGABYTE)
