"""A source that is not a file or folder of this machine, and what it means that it cannot be reached."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from xraylab.errors import DataError


@dataclass(frozen=True)
class Address:
    """`data.source` as written; `sha256` is what an https file must have, `home` the study whose DVC config counts."""

    url: str
    sha256: str | None
    home: Path

    @property
    def scheme(self) -> str:
        return self.url.partition(":")[0].lower()

    @property
    def name(self) -> str:
        """The last part of the path, without the query: the name that a downloaded file gets."""
        parts = urlsplit(self.url)
        return parts.path.rstrip("/").rpartition("/")[2] or parts.netloc


class UnreachableError(DataError):
    """The source cannot be seen from this machine now. `what` says so; `name` is what its description would hold."""

    def __init__(self, what: str, remedy: str, name: str) -> None:
        super().__init__(f"data.source: {what}: {remedy}")
        self.what = what
        self.name = name
