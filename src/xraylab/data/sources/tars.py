"""Read tars as a stream, member by member, to the end that they must have.

Not by `tarfile`, of which headers are parsed here one block at a time: it keeps whatever a header states in memory,
searches it with regular expressions that take for ever (CVE-2024-6232, in Python before 3.11.10 and 3.12.6), and takes
a tar that is cut off in a header for one that ends there.
"""

import itertools
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from xraylab.data.sources.members import MEMBERS, Member, TooManyError
from xraylab.data.sources.streams import DamagedError, Stream, TooLargeError

SIZE = tarfile.BLOCKSIZE
ZEROS = bytes(SIZE)
HEADER = 1 << 20
"""Largest extended header: it holds the names and sizes of one member."""
LINES = 1000
"""Most lines of one extended header."""
EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


@dataclass
class Extension:
    """What extended headers say of the next member."""

    name: str | None = None
    size: int | None = None
    is_sparse: bool = False


def is_tar(file: Path) -> bool:
    """Return whether the file, perhaps packed, begins with the header of a member."""
    try:
        require(file)
    except (DamagedError, TooLargeError, tarfile.TarError):
        return False
    return True


def require(file: Path) -> None:
    """Errors: DamagedError and tarfile.TarError where the file does not begin as a tar."""
    with file.open("rb") as opened:
        if (block := Stream(opened, SIZE).read(SIZE)) != ZEROS:
            _header(block)


def read(opened: BinaryIO, allowed: int) -> Iterator[Member]:
    """Yield the members, each of which can be read until the next is drawn, and then read to the end of the file.

    Errors: TooLargeError above `allowed` unpacked bytes, TooManyError; DamagedError or tarfile.TarError where the
    tar is damaged, cut off, or followed by something.
    """
    stream, extension = Stream(opened, allowed), Extension()
    for count in itertools.count():
        block = stream.read(SIZE)
        if block == ZEROS:
            break
        if count > 3 * MEMBERS:  # a member may have an extended header, and folders are no members
            raise TooManyError
        header = _header(block)
        if header.type in (*EXTENDED, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            _extend(extension, header.type, _content_of_header(stream, header.size))
            continue
        yield from _member(stream, header, extension)
        extension = Extension()
    if any(block.strip(b"\0") for block in stream.blocks()):
        raise DamagedError("something follows its end")


def _header(block: bytes) -> tarfile.TarInfo:
    if len(block) < SIZE:
        raise DamagedError("it is cut off: the two empty blocks at its end are missing")
    header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    if header.size < 0:
        raise DamagedError("a member has a negative size")
    return header


def _content_of_header(stream: Stream, size: int) -> bytes:
    if size > HEADER:
        raise DamagedError(f"a header is larger than {HEADER} bytes")
    content = b"".join(stream.blocks(size))
    stream.read(-size % SIZE)
    return content


def _extend(extension: Extension, type_: bytes, content: bytes) -> None:
    if type_ == tarfile.GNUTYPE_LONGNAME:
        extension.name = _text(content.partition(b"\0")[0])
    elif type_ in (*EXTENDED, tarfile.XGLTYPE):
        lines = _pax_lines(content)
        if type_ == tarfile.XGLTYPE:
            if lines.keys() & {b"path", b"size"}:
                raise DamagedError("a header gives all members one name or size")
            return
        extension.name = _text(lines[b"path"]) if b"path" in lines else extension.name
        extension.size = _number(lines[b"size"]) if b"size" in lines else extension.size
        extension.is_sparse |= any(key.startswith(b"GNU.sparse.") for key in lines)


def _pax_lines(content: bytes) -> dict[bytes, bytes]:
    """Lines `LENGTH KEY=VALUE`, of LENGTH bytes each with the length itself and the end of the line."""
    lines: dict[bytes, bytes] = {}
    start = count = 0
    while start < len(content) and content[start]:
        count += 1
        space = content.find(b" ", start, start + len(str(HEADER)) + 1)
        end = start + _number(content[start:space]) if space > 0 else 0
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if not equals or not start < end <= len(content) or content[end - 1 : end] != b"\n" or count > LINES:
            raise DamagedError("an extended header is damaged")
        lines[key] = value
        start = end
    return lines


def _number(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 20:
        raise DamagedError("a number in a header is none")
    return int(digits)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _member(stream: Stream, header: tarfile.TarInfo, extension: Extension) -> Iterator[Member]:
    """The member if it is no folder, whose content is skipped where nobody read it."""
    name = header.name if extension.name is None else extension.name
    if header.type == tarfile.GNUTYPE_SPARSE or extension.is_sparse:
        raise DamagedError(f"{name!a} is sparse, with gaps for zeros: pack it without --sparse")
    is_file = header.type in FILES
    has_content = is_file or header.type not in tarfile.SUPPORTED_TYPES
    size = (header.size if extension.size is None else extension.size) if has_content else 0
    end = stream.position + size
    if end > stream.allowed:
        raise TooLargeError(stream.allowed)
    if header.type != tarfile.DIRTYPE and not (is_file and name.endswith("/")):
        yield Member(name, size, is_file, partial(Content, stream, size))
    for _ in stream.blocks(end - stream.position):
        pass
    if len(stream.read(-size % SIZE)) < -size % SIZE:
        raise DamagedError("it is cut off")


class Content:
    """The content of the present member, read from the stream itself."""

    def __init__(self, stream: Stream, size: int) -> None:
        self.stream, self.left = stream, size

    def __enter__(self) -> "Content":
        return self

    def __exit__(self, *error: object) -> None:
        """The rest is skipped before the next member."""

    def read(self, size: int) -> bytes:
        """Return `size` bytes; fewer at the member's end alone. Errors: DamagedError where the file ends before."""
        block = self.stream.read(min(size, self.left))
        self.left -= len(block)
        if not block and self.left and size:
            raise DamagedError("it is cut off")
        return block
