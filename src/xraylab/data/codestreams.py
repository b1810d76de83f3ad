"""Sizes that compressed pictures in DICOM files say of themselves, read before a decoder believes them."""

import struct

FRAME_MARKERS = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
"""Start of frame, of JPEG (ITU-T T.81, table B.1) and of JPEG-LS (T.87)."""
ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
JPEG_2000, JPEG_2000_SIZE = b"\xff\x4f", b"\xff\x4f\xff\x51"


def pixels(stream: bytes) -> int:
    """Width times height of a JPEG, JPEG-LS or JPEG 2000 stream. Errors: ValueError where it says none."""
    start = stream.find(JPEG_2000_SIZE)
    if start >= 0 and not stream.startswith(b"\xff\xd8"):
        right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
        return int((right - left) * (bottom - top))
    at = 2
    while at + 9 <= len(stream):
        marker = stream[at + 1]
        if stream[at] != 0xFF or marker == 0xFF:  # bytes that fill up
            at += 1
        elif marker in FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", stream, at + 5)
            return int(height * width)
        else:
            at += 2 if marker in ALONE else 2 + max(int.from_bytes(stream[at + 2 : at + 4], "big"), 2)
    raise ValueError("no start of a frame")


def rle_size(stream: bytes) -> int:
    """Bytes that a stream of DICOM's run lengths becomes, the header's 64 bytes left out (PS3.5 annex G)."""
    at, size, end = 64, 0, len(stream)
    while at < end:
        code = stream[at]
        if code < 128:
            at, size = at + code + 2, size + code + 1
        else:
            at, size = at + 2, size + 257 - code
    return size
