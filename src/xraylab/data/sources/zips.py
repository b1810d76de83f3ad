"""Open zips after a look at their tables of contents: how long they are, and whether members lie in one another."""

import os
import stat
import zipfile
from functools import partial
from io import BufferedReader, FileIO
from pathlib import Path

from xraylab.data.sources.members import MEMBERS, Member, TooManyError
from xraylab.data.sources.streams import DamagedError

TABLE = 128 << 20
"""Bytes of the largest table of contents: `zipfile` keeps several times as much."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The others unpack without bound: some bytes of bzip2 become gigabytes at once."""
ENTRY, END = b"PK\x01\x02", b"PK\x05\x06"
END_SIZE, LOCAL_SIZE = 22, 30


class _Guarded(BufferedReader):
    """A file; `zipfile` reads the table of contents of a zip at once, when it opens it, and keeps all of it."""

    most: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        if self.most is not None and size is not None and size > TABLE:
            raise DamagedError(f"its table of contents is larger than {TABLE >> 20} MiB")
        content = super().read(size)
        if self.most is not None and content.count(ENTRY) > self.most:
            raise TooManyError
        return content


class _Zip(zipfile.ZipFile):
    """Closes its file, too."""

    def __init__(self, file: BufferedReader) -> None:
        self._guarded = file
        super().__init__(file)

    def close(self) -> None:
        super().close()
        self._guarded.close()


def opened(path: Path, most: int = MEMBERS) -> zipfile.ZipFile:
    """Open a zip without overlapping members, without bytes behind it, and with at most `most` members.

    Errors: DamagedError and zipfile.BadZipFile; TooManyError.
    """
    file = _Guarded(FileIO(path))
    try:
        file.most = most
        archive = _Zip(file)
        file.most = None
        _refuse_tail(file, archive)
        _refuse_overlaps(archive, path.stat().st_size)
    except (ValueError, OverflowError) as error:  # of places before the file, and names that are no text
        file.close()
        raise DamagedError(str(error)) from None
    except BaseException:
        file.close()
        raise
    return archive


def members(archive: zipfile.ZipFile) -> list[Member]:
    """The members that are no folders. Errors: DamagedError where one is packed by an unusual method."""
    if not all(entry.filename for entry in archive.infolist()):
        raise DamagedError("a member has no name")
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    for entry in entries:
        if entry.compress_type not in METHODS:
            raise DamagedError(f"{entry.filename!a} is packed by another method than deflate: unpack it yourself")
    return [Member(each.filename, each.file_size, is_plain(each), partial(archive.open, each)) for each in entries]


def is_plain(entry: zipfile.ZipInfo) -> bool:
    """Return whether a zip's entry is a file: the upper half of its attributes is a Unix mode, or 0."""
    return stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG)


def _refuse_tail(file: BufferedReader, archive: zipfile.ZipFile) -> None:
    file.seek(-END_SIZE - len(archive.comment), os.SEEK_END)
    if file.read(len(END)) != END:
        raise DamagedError("something follows its end")


def _refuse_overlaps(archive: zipfile.ZipFile, size: int) -> None:
    spans = sorted((each.header_offset, each.compress_size) for each in archive.infolist())
    if spans and spans[0][0] < 0:
        raise DamagedError("a member begins before the file")
    ends = [offset + LOCAL_SIZE + packed for offset, packed in spans]
    starts = [offset for offset, _ in spans[1:]]
    if any(end > start for end, start in zip(ends, [*starts, size], strict=False)):
        raise DamagedError("its members overlap")
