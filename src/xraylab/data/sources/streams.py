"""Read packed files to their very end: gzip, bzip2 and xz compare their checksums there, and nothing may follow."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO, Protocol

BLOCK = 1 << 20
XZ_MEMORY = 256 << 20
"""Bytes that unpacking xz may take: `xz -9` needs 65 MB, and a header of a few bytes can demand 4 GB."""
PARTS = 100_000
"""Most streams one behind the other in a packed file: each costs time, however small it is; pigz writes one,
pbzip2 and pixz one per 900 KB or more."""


class TooLargeError(Exception):
    """A file unpacks to more bytes than are allowed."""


class DamagedError(Exception):
    """A file is cut off, or damaged, or not what its first bytes say."""


class Unpacker(Protocol):
    """What bz2 and lzma call a decompressor, of one stream."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class GzipUnpacker:
    """The same for gzip, by zlib, which compares CRC and length and keeps nothing of a header."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max(max_length, 0))


MAGIC: dict[bytes, Callable[[], Unpacker]] = {
    b"\x1f\x8b": GzipUnpacker,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\x00": partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, XZ_MEMORY),
}
"""Unpackers by the first bytes of a stream."""
LONGEST_MAGIC = max(map(len, MAGIC))


class Stream:
    """A file's bytes, unpacked where it is packed; more than `allowed` of them raise TooLargeError.

    Other errors: DamagedError.
    """

    def __init__(self, file: BinaryIO, allowed: int) -> None:
        self.allowed, self.position = allowed, 0
        self._blocks, self._rest = _unpacked(file), memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return `size` bytes; fewer at the end alone."""
        pieces = []
        while size:
            self._rest = self._rest or memoryview(next(self._blocks, b""))
            if not self._rest:
                break
            piece, self._rest = self._rest[:size], self._rest[size:]
            pieces.append(piece)
            size -= len(piece)
            self.position += len(piece)
            if self.position > self.allowed:
                raise TooLargeError(self.allowed)
        return pieces[0].tobytes() if len(pieces) == 1 else b"".join(pieces)

    def blocks(self, size: int | None = None) -> Iterator[bytes]:
        """Yield the next `size` bytes, or all that are left, in pieces. Errors: DamagedError where fewer are there."""
        while size is None or size:
            block = self.read(BLOCK if size is None else min(size, BLOCK))
            if not block and size:
                raise DamagedError("it is cut off")
            if not block:
                return
            size = None if size is None else size - len(block)
            yield block


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    packed = file.read(BLOCK)
    magic = next((magic for magic in MAGIC if packed.startswith(magic)), None)
    if magic:
        yield from _unpack_parts(file, packed, magic)
        return
    while packed:
        yield packed
        packed = file.read(BLOCK)


def _unpack_parts(file: BinaryIO, packed: bytes, magic: bytes) -> Iterator[bytes]:
    """Streams of one kind, one behind the other, and perhaps zeros behind them, as tapes have."""
    for _ in range(PARTS):
        unpacker = MAGIC[magic]()
        yield from _unpack_part(file, packed, unpacker)
        packed = _without_zeros(file, unpacker.unused_data)
        if not packed:
            return
        if not packed.startswith(magic):
            raise DamagedError("something follows its end")
    raise DamagedError(f"it is made of more than {PARTS} packed parts")


def _unpack_part(file: BinaryIO, packed: bytes, unpacker: Unpacker) -> Iterator[bytes]:
    while not unpacker.eof:
        if unpacker.needs_input and not packed:
            packed = file.read(BLOCK)
        try:
            block = unpacker.decompress(packed, BLOCK)
        except (OSError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise DamagedError(str(error)) from None
        if not (packed or block or unpacker.eof):
            raise DamagedError("it is cut off")
        packed = b""
        if block:
            yield block


def _without_zeros(file: BinaryIO, rest: bytes) -> bytes:
    """What follows a stream, behind zeros: the first bytes of it, if there are any, at least."""
    packed = rest.lstrip(b"\0")
    while len(packed) < LONGEST_MAGIC and (block := file.read(BLOCK)):
        packed = (packed + block).lstrip(b"\0")
    return packed
