"""Limits of the server, and the errors that it answers with."""

from collections.abc import Mapping
from dataclasses import dataclass

MEGABYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """Sizes in MiB and in millions of pixels, times in seconds."""

    body: int = 64
    """Of one request."""
    megapixels: int = 40
    """Of one image."""
    files: int = 64
    """In one request."""
    rate: int = 600
    """Requests of one client in a minute; 0: any number."""
    seconds: float = 60.0
    """To read one request, and to answer it."""
    decoding: float = 20.0
    """To decode one file; then the worker is killed."""
    queue: int = 64
    """Requests at once, the waiting ones among them."""
    memory: int = 2048
    """Memory that a worker may take besides its libraries."""
    bodies: int = 512
    """Of all requests that are being read or answered."""


class ApiError(Exception):
    """An answer that is an error: HTTP status, a code for programs and a sentence for people."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.code, self.message, self.headers = status, code, message, dict(headers or {})
        super().__init__(message)

    def content(self) -> dict[str, dict[str, str]]:
        return {"error": {"code": self.code, "message": self.message}}


class FileError(Exception):
    """A file that cannot be classified: a code for programs and a sentence for people."""

    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(message)
