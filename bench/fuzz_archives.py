"""Targets of bench/fuzz.py: archives as sources and for predict-images, bundles, and names of files."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import fuzz_mutations as mutations
from fuzz_mutations import Mutation, Target

from xraylab.data import sources
from xraylab.data.sources import archives, members
from xraylab.inference import archive
from xraylab.inference.bundle import ALLOWED
from xraylab.predict import image_files

SIZE = tarfile.BLOCKSIZE
NAMES = ("A/1.png", "A/2.dcm", "B/" + "n" * 60 + "/" + "m" * 60 + ".png", "B/é.png", "labels.csv", ".hidden")
STRANGE = (b"../x", b"/etc/x", b"A\\..\\x", b"C:/x", b"a\nb", b"\xff\xfe", b"a" * 300, b"a/" * 700, b"", b"A/1.PNG")
PACKERS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "tar.gz": (partial(gzip.compress, mtime=0), gzip.decompress),
    "tar.bz2": (bz2.compress, bz2.decompress),
    "tar.xz": (lzma.compress, lzma.decompress),
}


def unpack(suffix: str, data: bytes) -> int:
    """Copy the source, as `fetch` does; and no file may be anywhere but in its folder."""
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{os.getpid()}-") as name:
        path, target = Path(name, f"x.{suffix}"), Path(name, "raw")
        path.write_bytes(data)
        target.mkdir()
        try:
            sources.copy(path, target, Path(name))
        finally:
            if sorted(os.listdir(name)) != ["raw", path.name]:
                raise RuntimeError(f"written outside: {os.listdir(name)}")
        written = [file for file in target.rglob("*") if not file.is_dir()]
        if any(file.is_symlink() or not file.is_file() for file in written):
            raise RuntimeError("no plain file was written")
        return len(written)


def stream(suffix: str, data: bytes) -> int:
    """Read all members, as `predict-images` does; what cannot be read has a reason."""
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{os.getpid()}-") as name:
        path, count = Path(name, f"x.{suffix}"), 0
        path.write_bytes(data)
        for file in image_files.read_all(image_files.find([str(path)])):
            if not file.id.encode() or members.CONTROL.search(file.id):
                raise RuntimeError(f"an id with control characters: {file.id!a}")
            with contextlib.suppress(*archives.DAMAGED, RuntimeError, ValueError, OSError):
                file.open().read()
            count += 1
        return count


def read_bundle(data: bytes) -> object:
    path = Path(tempfile.gettempdir()) / f"fuzz-{os.getpid()}.zip"
    try:
        path.write_bytes(data)
        return archive.read(path, ALLOWED)
    finally:
        path.unlink()


def name_file(data: bytes) -> object:
    """Names of folders' files: a name that is taken fits into one line, and means a place below."""
    names = [os.fsdecode(each) for each in data.split(b"|")]
    paths = members.safe_paths("films", names)
    for path in paths:
        if not members.is_hidden(path) and (len(path.splitlines()) != 1 or os.path.normpath(path) != path):
            raise RuntimeError(f"a path that is taken: {path!a}")
    return paths


def tar(format_: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format_) as archive_:
        for number, name in enumerate(NAMES):
            entry = tarfile.TarInfo(name)
            entry.size = 300 * number
            archive_.addfile(entry, io.BytesIO(b"x" * entry.size))
    content = file.getvalue().rstrip(b"\0")
    return content + bytes(-len(content) % SIZE + 2 * SIZE)


def tars(suffix: str) -> list[bytes]:
    pack = PACKERS[suffix][0] if suffix in PACKERS else bytes
    return [pack(tar(format_)) for format_ in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]


def zips() -> list[bytes]:
    seeds = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive_:
            for number, name in enumerate(NAMES):
                archive_.writestr(zipfile.ZipInfo(name), bytes(300 * number), method)
            archive_.comment = b"a comment"
        seeds.append(file.getvalue())
    return seeds


def bundles() -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "x.zip")
        archive.write({"model.safetensors": bytes(100), "card.json": b"{}"}, path)
        return [path.read_bytes()]


def change_tar_header(data: bytes, random: Random) -> bytes:
    """Another name, size, type or magic of a member, with the right sum."""
    if len(data) < 2 * SIZE:
        return data
    start = SIZE * random.randrange(len(data) // SIZE)
    block = bytearray(data[start : start + SIZE])
    number = random.choice(mutations.EXTREMES)
    match random.randrange(5):
        case 0:
            block[:100] = random.choice(STRANGE)[:100].ljust(100, b"\0")
        case 1:
            block[124:136] = random.choice((b"%011o\0" % number, b"\x80" + number.to_bytes(11, "big"), b"\xff" * 12))
        case 2:
            block[156:157] = random.choice(
                (b"0", b"1", b"2", b"3", b"5", b"6", b"7", b"x", b"g", b"L", b"K", b"S", b"D")
            )
        case 3:
            block[257:265] = random.choice((b"ustar\x0000", b"ustar  \0", bytes(8)))
        case _:
            block[345:500] = random.choice(STRANGE)[:155].ljust(155, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return data[:start] + bytes(block) + data[start + SIZE :]


def add_extended_header(data: bytes, random: Random) -> bytes:
    """An extended header, or a long name, before a member; some with lengths that are wrong, or without end."""
    key = random.choice((b"path", b"size", b"comment", b"GNU.sparse.major", b"hdrcharset", b"linkpath", b"mtime", b""))
    value = random.choice((*STRANGE, b"1", b"-1", b"9" * 30, b"BINARY", b"1" * 20_000, b" " * 20_000))
    line = b" " + key + b"=" + value + b"\n"
    length = random.choice((len(line) + len(str(len(line) + 3)), len(line), 0, 10**9))
    content = random.choice((b"%d" % length + line, value, b"%d" % length * 3000, line * 50))
    entry = tarfile.TarInfo("x")
    entry.type = random.choice((tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK))
    entry.size = random.choice((len(content),) * 4 + mutations.EXTREMES[-4:])
    header = entry.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % SIZE)
    start = SIZE * random.randrange(len(data) // SIZE + 1)
    return data[:start] + header + data[start:]


TAR: tuple[Mutation, ...] = (change_tar_header, change_tar_header, add_extended_header)


def packed(suffix: str) -> tuple[Mutation, ...]:
    """Mutations of what is packed."""
    pack, unpack_ = PACKERS[suffix]

    def change(data: bytes, random: Random) -> bytes:
        try:
            content = unpack_(data)
        except Exception:  # an earlier mutation may have made anything of it, at which its reader may raise anything
            return data
        return pack(random.choice((*TAR, mutations.any_bytes))(content, random)) if content else data

    def add_part(data: bytes, random: Random) -> bytes:
        return data + random.choice((pack(b""), pack(bytes(1 << 20)) * 3, bytes(100), b"x", data))

    return change, change, add_part


def change_zip_field(data: bytes, random: Random) -> bytes:
    """An extreme number in the table of contents, in the header of a member, or at the end of a zip."""
    places = [at for sign in (b"PK\1\2", b"PK\3\4", b"PK\5\6") for at in range(len(data)) if data.startswith(sign, at)]
    if not places:
        return data
    start, size = random.choice(places) + random.randrange(4, 46), random.choice((1, 2, 4))
    number = random.choice((*mutations.EXTREMES, *places)) % (1 << 8 * size)
    return data[:start] + number.to_bytes(size, "little") + data[start + size :]


def strange_name(data: bytes, random: Random) -> bytes:
    return data + b"|" + random.choice((*STRANGE, random.randbytes(5), b"a/" * 40 + b"b", "\u202e\u2028".encode()))


ZIP: tuple[Mutation, ...] = (mutations.change_member, change_zip_field, change_zip_field)
TARGETS = {
    "tar": Target(partial(unpack, "tar"), partial(tars, "tar"), TAR),
    **{suffix: Target(partial(unpack, suffix), partial(tars, suffix), packed(suffix)) for suffix in PACKERS},
    "zip": Target(partial(unpack, "zip"), zips, ZIP),
    "predict-tar": Target(partial(stream, "tar"), partial(tars, "tar"), TAR),
    "predict-zip": Target(partial(stream, "zip"), zips, ZIP),
    "bundle": Target(read_bundle, bundles, ZIP),
    "names": Target(name_file, lambda: [b"A/1.png|A/2.png|B/x.dcm", "é/ü.png|肺".encode()], (strange_name,)),
}
