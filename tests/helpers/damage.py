"""Ways in which a file comes to be another one than a stage wrote, its time kept where it has one."""

import os
from collections.abc import Callable
from pathlib import Path

import recorded_study


def _content(path: Path, content: bytes) -> None:
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: _content(path, b""),
    "half": lambda path: _content(path, path.read_bytes()[: path.stat().st_size // 2]),
    "a flipped bit": recorded_study.flip,
    "absent": Path.unlink,
    "a folder": _folder,
    "a list": lambda path: _content(path, b"[]"),
    "nothing": lambda path: _content(path, b"null"),
    "a number": lambda path: _content(path, b"7"),
    "not UTF-8": lambda path: _content(path, b"\xff\xfe" + path.read_bytes()),
}
UNREADABLE = tuple(kind for kind in DAMAGE if kind not in ("half", "a flipped bit"))
"""What a reader notices by itself: half a table, or one with another digit, may be a table."""
