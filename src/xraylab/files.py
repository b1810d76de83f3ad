"""Read and write files, whole or not at all, and always in the same bytes."""

import gzip
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from xraylab import documents, leftovers
from xraylab.errors import DataError, DiskError, MissingError, XraylabError

T = TypeVar("T")
CHECKSUM = ".sha256"
FULL = 1 << 16  # bytes: with less left a disk is full


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, flush it to disk and rename it over `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=leftovers.prefix(path.name))
    os.close(handle)
    temporary = Path(name)
    try:
        with _naming(path):
            yield temporary
            with temporary.open("r+b") as written:  # Windows flushes only what is open for writing
                os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """The same for a folder: nothing stands at `path` until everything in it is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=leftovers.prefix(path.name)))
    try:
        with _naming(path):
            yield temporary
        temporary.chmod(0o777 & ~_umask())
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which file could not be written: most writers name none, and torch's says nothing of a full disk."""
    try:
        yield
    except XraylabError:
        raise
    except Exception as error:
        if shutil.disk_usage(path.parent).free < FULL:
            raise DiskError(
                f"no room is left on the disk to write {path}: free some and run this again; nothing half-written stays"
            ) from error
        if isinstance(error, OSError) and error.filename is None:
            raise DiskError(f"{path} cannot be written: {error.strerror or error}") from error
        raise


def require_writable(folder: Path) -> None:
    """Errors: DiskError where no file can be written in the folder, which is made where it is absent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DiskError(
            f"{folder} cannot be written ({error.strerror or error}): change its permissions or owner, or move what "
            "stands there"
        ) from None


def require_regular(path: Path) -> None:
    """Errors: DataError for what is there and is no file, such as a pipe: opening that would wait for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise DataError(f"{path} is neither a file nor a folder, but a pipe, a socket or a device: remove it")


def link(source: Path, target: Path) -> None:
    """The same bytes at both places, without a second copy where the file system allows."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def touch(path: Path) -> None:
    """Give a file a modification time in another second than it had.

    git takes a file of one size and one second for the one that it knows, and `dvc exp run -S` writes such a
    params.yaml.
    """
    second = int(path.stat().st_mtime) + 1
    os.utime(path, times=(max(time.time(), second),) * 2)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def require_room(folder: Path, size: int, what: str) -> None:
    """Say how large `what` will be. Errors: as `refuse_full`."""
    refuse_full(folder, size, what)
    print(f"{what} takes {size / 1e6:,.0f} MB")  # noqa: T201 - before the wait that it announces


def refuse_full(folder: Path, size: int, what: str) -> None:
    """Errors: DiskError where the disk of `folder` has no room for the `size` bytes of `what`."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DiskError(f"{what} needs {size / 1e9:.2f} GB, and {folder} has {free / 1e9:.2f} GB free: make room there")


def write_text(text: str, path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(value: Any, path: Path) -> None:
    write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", path)


class AbsentKeyError(DataError, KeyError):
    """A key that a record lacks; templates and `except KeyError` know it as one."""


class Record(dict[str, Any]):
    """An object of a JSON file, which says what it lacks."""

    file = "a record"

    def __missing__(self, key: str) -> Any:
        raise AbsentKeyError(
            f"{self.file} has no {key!r}: it was edited by hand, or another version of xraylab wrote it"
        )


def read_json(path: Path) -> Any:
    """Read an object or a list. Errors: as `read`; DataError also for anything else, and where a key is absent."""

    def record(tree: dict[str, Any]) -> Record:
        result = Record(tree)
        result.file = str(path)
        return result

    tree = read(path, partial(json.load, object_hook=record))
    if not isinstance(tree, dict | list):
        raise DataError(f"{path} holds {'nothing' if tree is None else 'a single value'}: it was edited by hand")
    return tree


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Make values out of what `path` holds. Errors: DataError where they are not those that xraylab writes there."""
    try:
        yield
    except XraylabError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(
            f"{path} holds other values than xraylab writes ({reason}): it was edited by hand, or another version "
            "wrote it"
        ) from error


def write_yaml(value: Any, path: Path) -> None:
    yaml = YAML()
    yaml.default_flow_style = False
    with replacing(path) as temporary:
        yaml.dump(value, temporary)


def read_yaml(path: Path, yaml: YAML | None = None) -> Any:
    """YAML 1.2, as DVC reads it: `1e-3` is a number. By `yaml` where comments are to be kept."""
    return read(path, partial(documents.load_yaml, yaml=yaml))


def read(path: Path, parse: Callable[[IO[str]], T]) -> T:
    """Parse a text file, which may be packed by gzip. Errors: MissingError, and DataError where it is broken."""
    try:
        with open_text(path) as file:
            return parse(file)
    except FileNotFoundError:
        raise MissingError(f"{path} does not exist: `dvc repro` makes it") from None
    except RecursionError:
        raise DataError(f"{path} cannot be read: it is nested too deeply") from None
    except (ValueError, YAMLError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def open_text(path: Path, errors: str = "strict") -> IO[str]:
    """Open a text file to be read, unpacked where its name ends in .gz; ends of lines stay as they are."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors=errors, newline="")
    return path.open(encoding="utf-8", errors=errors, newline="")


def sha256(path: Path) -> str:
    """The file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checksum(path: Path) -> None:
    """Keep the SHA-256 of a file beside it, for `checked_sha256`."""
    write_text(f"{sha256(path)}\n", path.with_suffix(CHECKSUM))


def checked_sha256(path: Path) -> str | None:
    """The SHA-256 of a file that is as `write_checksum` has seen it; None for others, and where there is none."""
    try:
        recorded = path.with_suffix(CHECKSUM).read_bytes().strip()
        digest = sha256(path)
    except FileNotFoundError:
        return None
    return digest if digest.encode() == recorded else None
