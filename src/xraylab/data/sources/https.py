"""A file on the web, known by its SHA-256: downloaded once, verified before anything reads it."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from xraylab import files, progress
from xraylab.data.sources import archives
from xraylab.data.sources.address import Address
from xraylab.errors import DataError

if TYPE_CHECKING:
    from requests import Response, Session

PREFIXES = ("https://",)
"""Prefix that a download and all of its redirects must have."""
TIMEOUT = (10, 60)
"""Seconds to connect, and to wait for the next bytes."""
BLOCK = 1 << 20
REMEDIES = {
    401: "it asks for a login: put yours into ~/.netrc, or download the file and name it",
    403: "it may ask for a login or an agreement: download the file and name it",
    404: "look at the address",
}


def describe(address: Address) -> dict[str, Any]:
    """The file's name and the SHA-256 that it must have: no network is needed."""
    return {"kind": "https", "name": address.name, "sha256": _sha256(address)}


def copy(address: Address, target: Path, downloads: Path) -> dict[str, Any]:
    """Bring the file into the existing folder `target`, unpacked. It stays in `downloads`, named by its SHA-256.

    What an interrupted download left there is continued. Errors: DataError, also for a file of another SHA-256.
    """
    downloads.mkdir(parents=True, exist_ok=True)
    file = downloads / _sha256(address)
    with FileLock(f"{file}.lock"):
        if file.exists():
            _verify(file, address)
        else:
            part = Path(f"{file}.part")
            _download(address.url, part)
            _verify(part, address)
            part.rename(file)
    archives.bring(file, address.name, target, address.url)
    return describe(address)


def _sha256(address: Address) -> str:
    if address.sha256 is None:
        raise DataError(
            f"data.source: {address.url} is refused without data.sha256, the SHA-256 of the file as 64 hex digits: "
            "copy it from the publisher's page; if there is none, download the file once yourself, look at it, and "
            "take what `sha256sum FILE` says (`shasum -a 256 FILE` on macOS)"
        )
    return address.sha256


def _verify(file: Path, address: Address) -> None:
    digest = files.sha256(file)
    if digest != address.sha256:
        file.unlink()
        raise DataError(
            f"data.source: {address.url} is not the file that data.sha256 names; it was deleted, and nothing unpacked",
            [f"data.sha256: {address.sha256}", f"downloaded:  {digest}"],
        )


def _download(url: str, part: Path) -> None:
    """Write the whole of `url` to `part`, going on behind what is there already, where the server can."""
    from requests.exceptions import InvalidSchema, RequestException  # noqa: PLC0415 - not needed to describe

    try:
        with _session() as session:
            _receive(session, url, part)
    except InvalidSchema:
        raise DataError(f"data.source: {url} leads to an address that is not https, which is refused") from None
    except RequestException as error:
        raise DataError(
            f"data.source: {url} cannot be downloaded ({error}): run it again, and it goes on where it stopped"
        ) from None
    except OSError as error:
        raise DataError(f"data.source: {part} cannot be written ({error.strerror})") from None


def _session() -> "Session":
    """A session that knows no other addresses than those of `PREFIXES`, wherever it is redirected."""
    from requests import Session  # noqa: PLC0415
    from requests.adapters import HTTPAdapter  # noqa: PLC0415

    session = Session()
    session.adapters.clear()
    for prefix in PREFIXES:
        session.mount(prefix, HTTPAdapter())
    return session


def _receive(session: "Session", url: str, part: Path) -> None:
    start = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if start and response.status_code == 416:
            return  # nothing is behind what is there: the SHA-256 says whether that is the file
        _refuse_status(response, url)
        resumed = _first_byte(response) == start
        size = int(response.headers.get("Content-Length", 0))
        archives.refuse_overfull(url, size, part.parent)
        blocks: Iterable[bytes] = response.iter_content(BLOCK)
        with part.open("ab" if resumed else "wb") as file:
            for block in progress.bar(blocks, -(-size // BLOCK), "downloading the source (MiB)"):
                file.write(block)


def _refuse_status(response: "Response", url: str) -> None:
    if not response.ok:
        status = response.status_code
        remedy = REMEDIES.get(status, "try again later")
        raise DataError(f"data.source: {url} answers {status} {response.reason}: {remedy}")


def _first_byte(response: "Response") -> int:
    """The offset of the answer in the file: 0 unless it is partial (status 206)."""
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match and response.status_code == 206 else 0
