"""A damaged or hostile archive is refused in a sentence, at little cost, and nothing of it is written."""

import bz2
import gzip
import io
import lzma
import resource
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xraylab.data import sources
from xraylab.data.sources import archives, members, streams, tars, zips
from xraylab.errors import DataError
from xraylab.predict import image_files

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": lambda content: gzip.compress(content, mtime=0),
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}
PACKED = ["tar.gz", "tar.bz2", "tar.xz"]
CONTENT = bytes(range(256)) * 5


def entry(name: str, size: int, type_: bytes = tarfile.REGTYPE) -> bytes:
    """The header of a member, with whatever size it states."""
    header = tarfile.TarInfo(name)
    header.size, header.type = size, type_
    return header.tobuf(tarfile.GNU_FORMAT)


def extended(lines: bytes, type_: bytes = tarfile.XHDTYPE) -> bytes:
    return entry("x", len(lines), type_) + lines + bytes(-len(lines) % 512)


def line(key: bytes, value: bytes) -> bytes:
    """A line of an extended header, which begins with its own length."""
    rest = b" " + key + b"=" + value + b"\n"
    length = next(length for length in range(len(rest), len(rest) + 20) if length == len(str(length)) + len(rest))
    return str(length).encode() + rest


def tar(names: list[str], format_: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format_) as archive:
        for name in names:
            header = tarfile.TarInfo(name)
            header.size = len(CONTENT)
            archive.addfile(header, io.BytesIO(CONTENT))
    return file.getvalue()


def refusal(path: Path, content: bytes | None = None) -> str:
    """The sentence about an archive, of which nothing may have been written, without its beginning."""
    if content is not None:
        path.write_bytes(content)
    target = path.parent / "raw"
    target.mkdir()
    with pytest.raises(DataError) as caught:
        sources.copy(path, target, path.parent)
    assert list(target.iterdir()) == []
    return str(caught.value).removeprefix(f"data.source: {path} is ")


def unpacked(path: Path, content: bytes | None = None) -> dict[str, bytes]:
    """The files of an archive that is taken."""
    if content is not None:
        path.write_bytes(content)
    target = path.parent / "raw"
    target.mkdir()
    sources.copy(path, target, path.parent)
    return {file.relative_to(target).as_posix(): file.read_bytes() for file in target.rglob("*") if file.is_file()}


def damaged(reason: str, kind: str = "tar") -> str:
    return f"not a whole {kind} archive ({reason}): download it again"


@contextmanager
def at_little_cost() -> Iterator[None]:
    """Less than 1 GB more of memory than before, and less than 10 s of processor time."""
    start, used = time.process_time(), int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert time.process_time() - start < 10


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("suffix", PACKERS)
def test_tars_of_all_formats_are_read(suffix: str, format_: int, tmp_path: Path) -> None:
    names = ["A/1.png", "A/肺.png", "b" * 60 + "/" + "c" * 60 + "/2.png", "A/.hidden"]
    names += [] if format_ == tarfile.USTAR_FORMAT else ["A/" + "d" * 240 + ".png", "é" * 100 + "/3.png"]
    files = unpacked(tmp_path / f"x.{suffix}", PACKERS[suffix](tar(names, format_)))
    assert files == dict.fromkeys(set(names) - {"A/.hidden"}, CONTENT)


@pytest.mark.parametrize("suffix", PACKED)
def test_a_wrong_checksum_of_a_packed_tar_is_noticed(suffix: str, tmp_path: Path) -> None:
    content = bytearray(PACKERS[suffix](tar(["A/1.png"])))
    place = {"tar.gz": -5, "tar.bz2": -2, "tar.xz": -40}[suffix]  # in the checksum of the whole content
    content[place] ^= 1
    said = refusal(tmp_path / f"x.{suffix}", bytes(content))
    assert said.startswith("not a whole tar archive (")
    assert said.endswith("): download it again")
    with pytest.raises((DataError, ValueError), match=r"is not a whole tar archive \("):  # found at once, or at the end
        list(image_files.read_all(image_files.find([str(tmp_path / f"x.{suffix}")])))[-1].open()


def test_a_flipped_byte_of_an_image_in_a_tar_gz_is_noticed(tmp_path: Path) -> None:
    content = gzip.compress(tar(["A/1.png"]), 0)  # stored: the bytes lie in the file as they are
    flipped = content.replace(CONTENT[:256], bytes([1]) + CONTENT[1:256], 1)
    assert refusal(tmp_path / "x.tar.gz", flipped) == damaged("Error -3 while decompressing data: incorrect data check")


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("behind", [b"x", b"\0\0\0x", b"garbage" * 1000])
def test_bytes_behind_a_packed_tar_are_noticed(suffix: str, behind: bytes, tmp_path: Path) -> None:
    content = PACKERS[suffix](tar(["A/1.png"])) + behind
    assert refusal(tmp_path / f"x.{suffix}", content) == damaged("something follows its end")


@pytest.mark.parametrize("suffix", PACKERS)
def test_parts_and_zeros_behind_a_packed_tar_belong_to_it(suffix: str, tmp_path: Path) -> None:
    content = tar(["A/1.png", "A/2.png"])
    pack = PACKERS[suffix]
    files = unpacked(tmp_path / f"x.{suffix}", pack(content[:700]) + pack(content[700:]) + bytes(1000))
    assert files == {"A/1.png": CONTENT, "A/2.png": CONTENT}


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("kept", [512 + 1, 512 + 1280, 512 + 1536, 512 + 1536 + 100, 2 * (512 + 1536)])
def test_a_tar_that_is_cut_off_anywhere_is_noticed(kept: int, suffix: str, tmp_path: Path) -> None:
    content = tar(["A/1.png", "A/2.png"])[:kept]
    assert refusal(tmp_path / f"x.{suffix}", PACKERS[suffix](content)).startswith("not a whole tar archive (it is cut")


@pytest.mark.parametrize("suffix", PACKED)
def test_packed_bytes_that_are_cut_off_anywhere_are_noticed(suffix: str, tmp_path: Path) -> None:
    content = PACKERS[suffix](tar(["A/1.png"]))
    for kept in (len(content) // 2, len(content) - 1):
        folder = tmp_path / str(kept)
        folder.mkdir()
        assert refusal(folder / f"x.{suffix}", content[:kept]).startswith("not a whole tar archive (it is cut off")


def test_a_member_behind_the_end_of_a_tar_is_noticed(tmp_path: Path) -> None:
    content = tar(["A/1.png"]) + tar(["A/2.png"])
    assert refusal(tmp_path / "x.tar", content) == damaged("something follows its end")


HEADERS: dict[str, tuple[bytes, str]] = {
    "a name of 3 GB": (
        entry("././@LongLink", 3 << 30, tarfile.GNUTYPE_LONGNAME),
        "a header is larger than 1048576 bytes",
    ),
    "a header of 3 GB": (entry("x", 3 << 30, tarfile.XHDTYPE), "a header is larger than 1048576 bytes"),
    "digits for ever": (extended(b"1" * 1_000_000), "an extended header is damaged"),
    "digits and a blank": (extended(b"9" * 500_000 + b" path=x\n"), "an extended header is damaged"),
    "offsets of digits": (extended(b"0" * 200_000 + b" GNU.sparse.offset="), "an extended header is damaged"),
    "blanks": (extended(b" " * 500_000), "an extended header is damaged"),
    "a length of 0": (extended(b"0 a=b\n" * 1000), "an extended header is damaged"),
    "many lines": (extended(line(b"a", b"b") * 100_000), "an extended header is damaged"),
    "a negative size": (entry("A/1.png", -512), "a member has a negative size"),
    "a size that is none": (extended(line(b"size", b"1e9")), "a number in a header is none"),
    "one name for all": (
        extended(line(b"path", b"a"), tarfile.XGLTYPE),
        "a header gives all members one name or size",
    ),
    "sparse": (
        extended(line(b"GNU.sparse.major", b"1")) + entry("A/1.png", 0),
        "'A/1.png' is sparse, with gaps for zeros: pack it without --sparse",
    ),
    "sparse in the old way": (
        entry("A/1.png", 0, tarfile.GNUTYPE_SPARSE),
        "'A/1.png' is sparse, with gaps for zeros: pack it without --sparse",
    ),
    "a wrong sum": (b"x" + entry("A/1.png", 0)[1:], "bad checksum"),
    "no end": (entry("A/", 0, tarfile.DIRTYPE) * 3, "it is cut off: the two empty blocks at its end are missing"),
}


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_a_hostile_header_costs_little(suffix: str, header: str, tmp_path: Path) -> None:
    content, reason = HEADERS[header]
    content = PACKERS[suffix](content if header == "no end" else content + entry("A/2.png", 0) + bytes(1024))
    with at_little_cost():
        assert refusal(tmp_path / f"x.{suffix}", content) == damaged(reason)


@pytest.mark.parametrize("value", [b"A/1.png", b"1" * 900_000])
def test_long_lines_of_an_extended_header_are_read_at_little_cost(value: bytes, tmp_path: Path) -> None:
    header = extended(line(b"comment", value) + line(b"path", b"A/2.png"))
    with at_little_cost():
        files = unpacked(tmp_path / "x.tar", header + entry("A/1.png", 0) + bytes(1024))
    assert files == {"A/2.png": b""}


def test_xz_that_demands_much_memory_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 300 << 20}]
    packer = lzma.LZMACompressor(filters=filters)
    content = packer.compress(tar(["A/1.png"])) + packer.flush()
    assert refusal(tmp_path / "x.tar.xz", content) == damaged("Memory usage limit exceeded")


@pytest.mark.parametrize("suffix", PACKED)
def test_many_empty_parts_are_refused(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PARTS", 100)
    assert refusal(tmp_path / f"x.{suffix}", PACKERS[suffix](b"") * 101) == damaged(
        "it is made of more than 100 packed parts"
    )


@pytest.mark.parametrize("suffix", PACKED)
def test_what_unpacks_to_gigabytes_is_stopped_early(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "FLOOR", 20 << 20)
    monkeypatch.setattr(archives, "RATIO", 1)
    content = PACKERS[suffix](bytes(4 << 20)) * 1000
    with at_little_cost():
        assert "since it would unpack to more than " in refusal(
            tmp_path / f"x.{suffix}", PACKERS[suffix](entry("A/1.png", 3 << 30)) + content
        )


def test_the_headers_of_a_tar_count_as_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FLOOR", 10_000)
    content = gzip.compress(entry("A/1.png", 0) * 20_000 + bytes(1024))
    assert "since it would unpack to more than " in refusal(tmp_path / "x.tgz", content)


def test_headers_without_members_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "MEMBERS", 10)
    assert "since it has more than 1000000 members" in refusal(
        tmp_path / "x.tar", entry("A/", 0, tarfile.DIRTYPE) * 40 + bytes(1024)
    )


def zipped(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytearray:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return bytearray(file.getvalue())


def test_members_of_a_zip_that_lie_in_one_another_are_refused(tmp_path: Path) -> None:
    content = zipped([("A/1.png", CONTENT), ("A/2.png", CONTENT)])
    second = content.find(b"PK\x01\x02", content.find(b"PK\x01\x02") + 1)
    content[second + 42 : second + 46] = bytes(4)  # the second's content begins where the first's does
    assert refusal(tmp_path / "x.zip", bytes(content)) == damaged("its members overlap", "zip")


def test_bytes_behind_a_zip_are_noticed_and_a_comment_is_none(tmp_path: Path) -> None:
    content = bytes(zipped([("A/1.png", CONTENT)]))
    assert refusal(tmp_path / "x.zip", content + b"\0") == damaged("something follows its end", "zip")
    (tmp_path / "raw").rmdir()
    assert unpacked(tmp_path / "y.zip", content[:-2] + b"\x04\x00note") == {"A/1.png": CONTENT}


def test_a_wrong_checksum_in_a_zip_is_noticed(tmp_path: Path) -> None:
    content = zipped([("A/1.png", CONTENT)], zipfile.ZIP_STORED)
    content[content.find(CONTENT)] ^= 1
    (tmp_path / "x.zip").write_bytes(content)
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError, match=r"is not a whole zip archive \(Bad CRC-32 for file 'A/1\.png'\)"):
        sources.copy(tmp_path / "x.zip", tmp_path / "raw", tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_bound_are_refused(method: int, tmp_path: Path) -> None:
    assert refusal(tmp_path / "x.zip", bytes(zipped([("A/1.png", CONTENT)], method))) == damaged(
        "'A/1.png' is packed by another method than deflate: unpack it yourself", "zip"
    )


def test_a_member_of_a_zip_without_a_name_is_refused(tmp_path: Path) -> None:
    content = zipped([("\0", CONTENT)])  # zipfile takes a name for one that ends there
    assert refusal(tmp_path / "x.zip", bytes(content)) == damaged("a member has no name", "zip")


def end_of_zip(entries: int, size: int) -> bytes:
    """The end of a zip64 whose table of contents lies at the beginning of the file."""
    return b"".join([
        struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, size, 0),
        struct.pack("<4sLQL", b"PK\6\7", 0, size, 1),
        struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0),
    ])  # fmt: skip


def test_the_table_of_contents_of_a_zip_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = struct.pack("<4s4B4HL2L5H2L", zips.ENTRY, 20, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    monkeypatch.setattr(archives, "MEMBERS", 1000)
    assert "since it has more than 1000 members" in refusal(
        tmp_path / "x.zip", row * 1001 + end_of_zip(1, 1001 * len(row))
    )
    monkeypatch.setattr(zips, "TABLE", 1 << 20)
    (tmp_path / "more").mkdir()
    assert refusal(tmp_path / "more/x.zip", bytes(2 << 20) + end_of_zip(1, 2 << 20)) == damaged(
        "its table of contents is larger than 1 MiB", "zip"
    )


NAMES: dict[str, tuple[str, str]] = {
    "end of line": ("A/a\nb.png", "A/a\\nb.png"),
    "carriage return": ("A/a\rb.png", "A/a\\u000db.png"),
    "escape": ("A/\x1b[2Jb.png", "A/\\u001b[2Jb.png"),
    "separator": ("A\u2028/b.png", "A\\u2028/b.png"),
}


@pytest.mark.parametrize("what", NAMES)
@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_names_with_control_characters_are_refused_and_escaped(kind: str, what: str, tmp_path: Path) -> None:
    name, shown = NAMES[what]
    path = tmp_path / f"x.{kind}"
    if kind == "folder":
        file = tmp_path / "x.folder" / name
        file.parent.mkdir(parents=True)
        file.write_bytes(CONTENT)
    else:
        path.write_bytes(tar([name]) if kind == "tar" else zipped([(name, CONTENT)]))
    assert refusal(path) == (
        f"refused, since members of it have control characters in their names, such as ends of lines:\n  - {shown}"
    )


def test_names_that_are_not_utf_8_are_refused_and_escaped(tmp_path: Path) -> None:
    said = "refused, since members of it have names that are not UTF-8:\n  - A/\\udcff.png"
    (tmp_path / "films/A").mkdir(parents=True)
    (tmp_path / "films/A/\udcff.png").write_bytes(CONTENT)
    assert refusal(tmp_path / "films") == said
    (tmp_path / "raw").rmdir()
    assert refusal(tmp_path / "x.tar", tar(["A/\udcff.png"], tarfile.GNU_FORMAT)) == said


@pytest.mark.parametrize("name", ["a" * 256, "é" * 128, "/".join("a" * 33) + "/b", "/".join(["a" * 200] * 6)])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_that_no_disk_takes_are_refused(kind: str, name: str, tmp_path: Path) -> None:
    content = tar([name]) if kind == "tar" else bytes(zipped([(name, CONTENT)]))
    assert refusal(tmp_path / f"x.{kind}", content).startswith(
        "refused, since members of it have names of more than 255 bytes, paths of more than 1024, or lie below 32"
    )


def test_a_path_of_many_folders_costs_little(tmp_path: Path) -> None:
    content = zipped([(f"{number}/" + "a/" * 30_000 + "b", b"") for number in range(50)])
    with at_little_cost():
        assert "or lie below 32 folders" in refusal(tmp_path / "x.zip", bytes(content))


RESERVED = ["aux.png", "COM1", "a/NUL/b.png", "a:b.png", "what?.png", "A /b.png", "b.", "com¹.dcm", "con .png"]


def test_names_that_windows_does_not_take_are_refused_there_alone() -> None:
    for name in RESERVED:
        members.refuse_names("films", [name], windows=False)
        with pytest.raises(DataError, match="have names that Windows does not take"):
            members.refuse_names("films", [name], windows=True)
    members.refuse_names("films", ["auxiliary.png", "a.com1", "COM10", "conx/nul_.png", "-x", "=1", "A b/c.png"], True)


def test_a_download_is_recognised_by_its_content(tmp_path: Path) -> None:
    for number, (suffix, pack) in enumerate(PACKERS.items()):
        (tmp_path / suffix).write_bytes(pack(tar(["A/1.png"])))
        target = tmp_path / str(number)
        target.mkdir()
        archives.bring(tmp_path / suffix, "films", target, "https://example.org/films")
        assert (target / "A/1.png").read_bytes() == CONTENT
    table = gzip.compress(b"path,label\n" * 100)
    (tmp_path / "labels").write_bytes(table)
    archives.bring(tmp_path / "labels", "labels.csv.gz", tmp_path, "https://example.org/labels.csv.gz")
    assert (tmp_path / "labels.csv.gz").read_bytes() == table


@settings(max_examples=25)
@given(st.data())
def test_a_damaged_tar_is_read_as_it_was_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    suffix = data.draw(st.sampled_from(list(PACKERS)))
    content = bytearray(PACKERS[suffix](tar(["A/1.png", "A/2.png"])))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] ^= data.draw(st.integers(1, 255))
    folder = tmp_path_factory.mktemp("damaged")
    try:
        files = unpacked(folder / f"x.{suffix}", bytes(content))
    except DataError:
        return
    if suffix != "tar":  # which has sums of its headers alone
        assert files == {"A/1.png": CONTENT, "A/2.png": CONTENT}
