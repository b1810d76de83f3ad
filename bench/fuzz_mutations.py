"""Mutations of files for bench/fuzz.py: of any bytes, and of the parts that formats are made of, with right checksums.

A mutation takes bytes and a source of random numbers and returns other bytes. Those of a format return their input
where it is not of that format (any more), so that mutations can follow each other.
"""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

Mutation = Callable[[bytes, Random], bytes]

EXTREMES = (0, 1, 2, 7, 8, 16, 127, 128, 255, 256, 4095, 32767, 32768, 65535, 65536, 10**6, 2**31 - 1, 2**31, 2**32 - 1)
MOST_BYTES = 1 << 16  # of a mutated file, so that inputs stay quick: what a small file can cost is what is looked for
MOST_INFLATED = 1 << 22
PNG_START, JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
DICOM_BODY = 132  # the preamble and DICM
LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT")
VRS = (*LONG_VRS, b"US", b"SS", b"UL", b"DS", b"IS", b"CS", b"UI", b"PN", b"AT", b"FD", b"zz")


@dataclass(frozen=True)
class Target:
    """Code under test: `run` must end in a value or an XraylabError, whatever the bytes are."""

    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    """Small valid files, which `run` accepts."""
    mutations: tuple[Mutation, ...] = ()
    """Of the format; those of any bytes come besides."""


def mutate(seeds: Sequence[bytes], mutations: Sequence[Mutation], random: Random) -> bytes:
    """One to four mutations, one after the other, of a seed."""
    data = random.choice(seeds)
    for _ in range(random.choice((1, 1, 2, 3, 4))):
        structural = mutations and random.random() < 0.6
        changed = random.choice(mutations)(data, random) if structural else data
        data = (changed if changed != data else random.choice(BYTES)(data, random)) or b"\0"
        if random.random() < 0.03:
            data = splice(data, random.choice(seeds), random)
    return data


def flip_bits(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 8, 32))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def flip_early(data: bytes, random: Random) -> bytes:
    """Flip bits where headers are."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 2, 4))):
        changed[random.randrange(min(len(changed), 512))] ^= 1 << random.randrange(8)
    return bytes(changed)


def truncate(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data)) + 1]


def set_number(data: bytes, random: Random) -> bytes:
    """Write an extreme number of one, two, four or eight bytes anywhere: lengths, sizes, counts and offsets."""
    size, order = random.choice((1, 2, 2, 4, 4, 8)), random.choice(("little", "big"))
    start = random.randrange(len(data))
    number = (random.choice(EXTREMES) + random.choice((0, 0, 1, -1))) % (1 << 8 * size)
    return data[:start] + number.to_bytes(size, order) + data[start + size :]


def remove(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data))
    return data[:start] + data[start + random.choice((1, 2, 4, 16, 256)) :]


def repeat(data: bytes, random: Random) -> bytes:
    start, size = random.randrange(len(data)), random.choice((1, 4, 16, 64, 256))
    part = data[start : start + size] * random.choice((1, 2, 16, 64))
    return (data[:start] + part + data[start:])[: max(MOST_BYTES, len(data))]


def insert(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    return data[:start] + random.randbytes(random.choice((1, 2, 4, 16, 256))) + data[start:]


def splice(data: bytes, other: bytes, random: Random) -> bytes:
    """The beginning of one file and the end of another."""
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


BYTES: tuple[Mutation, ...] = (flip_bits, flip_early, truncate, set_number, set_number, remove, repeat, insert)


def any_bytes(data: bytes, random: Random) -> bytes:
    """A mutation of bytes; of nothing, a few bytes."""
    return random.choice(BYTES)(data, random) if data else random.randbytes(4)


def _change_part(parts: list[bytes], random: Random) -> list[bytes]:
    """Change the contents of one part, or drop, repeat or move it."""
    if not parts:
        return parts
    number = random.randrange(len(parts))
    match random.randrange(6):
        case 0:
            parts.insert(random.randrange(len(parts)), parts.pop(number))
        case 1:
            del parts[number]
        case 2:
            parts[number:number] = [parts[number]] * random.choice((1, 2, 50))
        case _:
            parts[number] = any_bytes(parts[number], random)
    return parts


# --- PNG: chunks of length, type, data and CRC


def png_chunks(data: bytes) -> list[bytes]:
    """Type and data of each chunk."""
    chunks, at = [], len(PNG_START)
    while data.startswith(PNG_START) and at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append(data[at + 4 : at + 8 + length])
        at += 12 + length
    return chunks


def png_file(chunks: Sequence[bytes]) -> bytes:
    chunks = [each.ljust(4, b"\0") for each in chunks]
    return PNG_START + b"".join(
        struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in chunks
    )


def change_chunk(data: bytes, random: Random) -> bytes:
    chunks = png_chunks(data)
    return png_file(_change_part(chunks, random)) if chunks else data


def change_png_header(data: bytes, random: Random) -> bytes:
    """Another width, height, depth, colour or interlacing; the pixels often follow, as zeros."""
    chunks = png_chunks(data)
    if not chunks or len(chunks[0]) < 17:
        return data
    width, height = [random.choice((0, 1, 3, 100, 1000, 100_000, 2**31 - 1, 2**32 - 1)) for _ in range(2)]
    depth, colour = random.choice((1, 2, 4, 8, 16, 3)), random.choice((0, 2, 3, 4, 6, 1))
    chunks[0] = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, random.choice((0, 1)))
    size = height * (1 + width * depth * 4 // 8)
    if size <= MOST_INFLATED:
        scan = zlib.compress(bytes(size), 1)
        chunks[1:] = [b"IDAT" + scan, b"IEND"]
    return png_file(chunks)


def add_png_chunk(data: bytes, random: Random) -> bytes:
    """A chunk of text, profile, palette, Exif or animation before the pixels; texts may inflate much."""
    chunks = png_chunks(data)
    if not chunks:
        return data
    packed = zlib.compress(bytes(random.choice((10, 1000, 2_000_000))), 9)
    chunk = random.choice(
        (
            b"zTXtkey\0\0" + packed, b"iCCPname\0\0" + packed, b"iTXtkey\0\1\0\0\0" + packed,
            b"tEXtkey\0" + random.randbytes(50), b"PLTE" + random.randbytes(random.choice((3, 4, 768, 900))),
            b"tRNS" + random.randbytes(6), b"eXIf" + b"MM\0*\0\0\0\x08" + random.randbytes(40),
            b"acTL" + struct.pack(">II", random.choice(EXTREMES) % 2**32, 0), b"fcTL" + random.randbytes(26),
            b"gAMA" + random.randbytes(4), b"cHRM" + random.randbytes(32), b"sRGB" + random.randbytes(1),
        )
    )  # fmt: skip
    return png_file([chunks[0], *[chunk] * random.choice((1, 1, 3, 40)), *chunks[1:]])


# --- JPEG: segments of a marker and a length


def change_segment(data: bytes, random: Random) -> bytes:
    """Change, drop, repeat or move a segment before the scan; lengths are right, unless they are what changes."""
    if not data.startswith(JPEG_START):
        return data
    parts, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        parts.append(data[at + 1 : at + 2] + data[at + 4 : at + 2 + length])
        at += 2 + length
    parts = [each[:65000] or b"\xfe" for each in _change_part(parts, random)]
    if random.random() < 0.2:
        parts.insert(0, b"\xe1Exif\0\0II*\0" + random.randbytes(60))
    segments = [b"\xff" + each[:1] + struct.pack(">H", len(each) + 1) + each[1:] for each in parts]
    return JPEG_START + b"".join(segments) + data[at:]


# --- TIFF: a directory of entries of tag, type, count and value


def change_tiff_tag(data: bytes, random: Random) -> bytes:
    """Another type, count or value of an entry, another tag, or another next directory."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 10:
        return data
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    if start + 2 > len(data):
        return data
    (count,) = struct.unpack_from(f"{order}H", data, start)
    entry = start + 2 + 12 * random.randrange(min(count, 64) + 1)
    if entry + 12 > len(data):
        return data
    changed = bytearray(data)
    match random.randrange(5):
        case 0:
            struct.pack_into(f"{order}H", changed, entry + 2, random.choice((*range(14), 16, 255)))
        case 1:
            struct.pack_into(f"{order}I", changed, entry + 4, random.choice(EXTREMES))
        case 2:
            tag = random.choice((256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 339))
            struct.pack_into(f"{order}H", changed, entry, tag)
        case 3:
            struct.pack_into(f"{order}I", changed, entry, random.choice((0, 8, start, *EXTREMES)))
        case _:
            struct.pack_into(f"{order}H", changed, entry + 8, random.choice(EXTREMES) % 65536)
    return bytes(changed)


# --- DICOM, explicit little endian: elements of tag, VR, length and value


def dicom_elements(data: bytes) -> list[bytes]:
    """Tag, VR and value of each element, without its length; those that cannot be told apart are one."""
    elements, at = [], DICOM_BODY
    while data[128:DICOM_BODY] == b"DICM" and at + 8 <= len(data):
        long = data[at + 4 : at + 6] in LONG_VRS
        size, start = (4, at + 12) if long else (2, at + 8)
        length = int.from_bytes(data[start - size : start], "little")
        end = min(start + length, len(data)) if length != 0xFFFFFFFF else len(data)
        elements.append(data[at : at + 6] + data[start:end])
        at = end
    return elements


def dicom_file(elements: Sequence[bytes], lengths: Callable[[int], int] = lambda length: length) -> bytes:
    """The file of `dicom_elements`; `lengths` may lie about them."""
    parts = [bytes(128), b"DICM"]
    for each in elements:
        head, value = each[:6].ljust(6, b"\0"), each[6:]
        undefined = head[:4] == b"\xe0\x7f\x10\0" and value.startswith(b"\xfe\xff\0\xe0")
        length = 0xFFFFFFFF if undefined else lengths(len(value))
        if head[4:6] in LONG_VRS:
            parts += [head, b"\0\0", struct.pack("<I", length % 2**32), value]
        else:
            parts += [head, struct.pack("<H", length % 2**16), value]
    return b"".join(parts)


def change_element(data: bytes, random: Random) -> bytes:
    elements = dicom_elements(data)
    return dicom_file(_change_part(elements, random)) if elements else data


def set_element(data: bytes, random: Random) -> bytes:
    """An extreme number, or a strange text, as the value of an element; sometimes another VR or a wrong length."""
    elements = dicom_elements(data)
    if not elements:
        return data
    number = random.randrange(len(elements))
    head, value = elements[number][:6], elements[number][6:]
    text = random.choice((b"0", b"-1", b"1e400", b"nan", b"999999999", b"1\\2\\3", b"\\", b"\xff\xfe", b"x" * 300, b""))
    whole = random.choice(EXTREMES).to_bytes(4, "little")
    head = head[:4] + random.choice(VRS) if random.random() < 0.2 else head
    elements[number] = head + random.choice((text, whole[:2], whole, value[: len(value) // 2], value * 3, value[:1]))
    wrong = random.random() < 0.1
    return dicom_file(elements, lambda length: random.choice(EXTREMES) if wrong else length)


def nest_sequences(data: bytes, random: Random) -> bytes:
    """Sequences in one another before the pixels, of undefined length."""
    elements = dicom_elements(data)
    if not elements:
        return data
    tag = random.choice((b"\x28\0\x10\x30", b"\x28\0\0\x30", b"\x40\0\x75\x02", b"\x08\0\x40\x11"))
    depth = random.choice((1, 3, 30, 1100))
    opening = tag + b"SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" if random.random() < 0.8 else b""
    whole = dicom_file(elements[:-1])
    return whole + opening * depth + closing * depth + dicom_file(elements[-1:])[DICOM_BODY:]


def change_fragments(data: bytes, random: Random) -> bytes:
    """Wrong offsets, lengths or numbers of the fragments of compressed pixels."""
    start = data.rfind(b"\xe0\x7f\x10\0")
    if start < 0:
        return data
    number = random.choice(EXTREMES).to_bytes(4, "little")
    item, end = b"\xfe\xff\0\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"
    table = random.choice((b"", number, number * 3, number * 500))
    pixels = data[start + 20 :]
    return (
        data[: start + 12] + item + struct.pack("<I", len(table)) + table + random.choice((pixels, item + pixels, end))
    )


# --- zip archives (weights too): members with right checksums


def change_member(data: bytes, random: Random) -> bytes:
    """Change the contents of one member, deflate it, leave it out, or say another size."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {
                each.filename: archive.read(each) for each in archive.infolist()[:64] if each.file_size < 1 << 20
            }
    except Exception:  # an earlier mutation may have made anything of it, at which its reader may raise anything
        return data
    if not members:
        return data
    name = random.choice(list(members))
    match random.randrange(4):
        case 0:
            del members[name]
        case 1:
            members[random.choice((name + "x", "../" + name, name.swapcase()))] = members[name]
        case _:
            members[name] = any_bytes(members[name], random)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for each, content in members.items():
            archive.writestr(zipfile.ZipInfo(each), content, archive.compression)  # of no time: the same each time
    return written.getvalue()


# --- safetensors: a length, a JSON header and the numbers


def change_header(data: bytes, random: Random) -> bytes:
    """Another shape, dtype or place of a tensor, with the right length of the header."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        name = random.choice([each for each in header if each != "__metadata__"])
        entry = header[name]
        match random.randrange(5):
            case 0:
                entry["shape"] = [random.choice(EXTREMES) for _ in range(random.choice((0, 1, 2, 4, 1000)))]
            case 1:
                entry["data_offsets"][random.randrange(2)] = random.choice((*EXTREMES, -1, 2**63, 0.5, None, "x"))
            case 2:
                entry["dtype"] = random.choice(("F64", "F16", "BF16", "I8", "BOOL", "F8_E4M3", "U64", "C64", "F4", 3))
            case 3:
                header[random.choice((name * 50, "", "\x1b[0m", "a.b"))] = entry
            case _:
                header["__metadata__"] = random.choice(({"format": "pt"}, {"xraylab.classes": "["}, [], {"a": 1}, None))
    except Exception:  # as above: any JSON may stand there
        return data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
