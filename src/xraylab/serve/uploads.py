"""Read the body of a request into memory, within its limits; nothing is ever written to disk."""

import asyncio
import logging
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from xraylab.serve.limits import MEGABYTE, ApiError, Limits

FIELD = "files"
LONGEST_NAME = 255
DIGITS = 20  # of a Content-Length
logging.getLogger("python_multipart").setLevel(logging.CRITICAL + 1)  # it quotes what it cannot parse


@dataclass
class Upload:
    """One file of a request."""

    name: str
    content: bytearray = field(default_factory=bytearray)


@dataclass
class Admission:
    """Counts requests and their bytes; more than the limits allow are sent away for a moment."""

    limits: Limits
    requests: int = 0
    bytes: int = 0

    def __enter__(self) -> "Admission":
        if self.requests >= self.limits.queue:
            raise _busy()
        self.requests += 1
        return self

    def __exit__(self, *error: object) -> None:
        self.requests -= 1

    def take(self, count: int) -> None:
        if self.bytes + count > self.limits.bodies * MEGABYTE:
            raise _busy()
        self.bytes += count

    def give_back(self, count: int) -> None:
        self.bytes -= count


def _busy() -> ApiError:
    return ApiError(503, "busy", "the server has as much to do as it takes on; try again", {"Retry-After": "1"})


async def read_body(request: Request, most: int, admission: Admission, taken: list[int], seconds: float) -> bytes:
    """The body of at most `most` bytes, within so many seconds; `taken` grows by what `admission` counts.

    Errors: ApiError 408, 413 and 503.
    """
    message = f"the request is larger than {most / MEGABYTE:g} MiB"
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or len(announced) > DIGITS or int(announced) > most:
        raise ApiError(413, "body_too_large", message)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                if len(body) + len(chunk) > most:
                    raise ApiError(413, "body_too_large", message)
                admission.take(len(chunk))
                taken.append(len(chunk))
                body += chunk
    except TimeoutError:
        raise ApiError(408, "body_too_slow", f"the body was not there within {seconds:g} s") from None
    return bytes(body)


def parse(content_type: str, body: bytes, most_files: int) -> list[Upload]:
    """The files of a multipart/form-data body, at least one, all in the field `files`.

    Errors: ApiError 415 for another type, 400 for a body that is none, 413 for too many, 422 for other fields.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise ApiError(415, "not_multipart", f"send the files as multipart/form-data in the field {FIELD}")
    parser = _Parser(most_files)
    try:
        parser.feed(options[b"boundary"], body)
    except (FormParserError, KeyError, ValueError):
        raise ApiError(400, "bad_multipart", "the body is not the multipart/form-data that its header says") from None
    if not parser.uploads:
        raise ApiError(422, "no_files", f"there is no file in the field {FIELD}")
    return parser.uploads


class _Parser:
    """Collects the files of a body."""

    def __init__(self, most: int) -> None:
        self.uploads: list[Upload] = []
        self.most, self.ended = most, False
        self._header, self._value, self._disposition = bytearray(), bytearray(), b""

    def feed(self, boundary: bytes, body: bytes) -> None:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._start_file,
                "on_part_data": lambda data, start, end: self.uploads[-1].content.extend(data[start:end]),
                "on_end": self._end,
            },
        )
        parser.write(body)
        parser.finalize()
        if not self.ended:
            raise ValueError("cut off")

    def _begin(self) -> None:
        self._disposition = b""

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _start_file(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != FIELD.encode() or b"filename" not in options:
            raise ApiError(422, "unknown_field", f"the request may hold files in the field {FIELD} alone")
        if len(self.uploads) >= self.most:
            raise ApiError(413, "too_many_files", f"there are more than {self.most} files in one request")
        self.uploads.append(Upload(options[b"filename"].decode("utf-8", "replace")[-LONGEST_NAME:]))

    def _end(self) -> None:
        self.ended = True
