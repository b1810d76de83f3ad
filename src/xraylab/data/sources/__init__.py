"""Sources of images: describe their content, and copy it to data/raw."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from xraylab import leftovers
from xraylab.data.sources import archives, https, kaggle, local, remotes
from xraylab.data.sources.address import Address, UnreachableError
from xraylab.errors import DataError

__all__ = ["KINDS", "Address", "UnreachableError", "copy", "describe", "locate", "previewed"]


class Kind(Protocol):
    """A module that knows sources of one kind."""

    def describe(self, address: Address) -> dict[str, Any]:
        """Describe the source's present content, cheaply. Errors: UnreachableError, DataError."""

    def copy(self, address: Address, target: Path, downloads: Path) -> dict[str, Any]:
        """Bring its files into the existing folder `target`, by way of the folder `downloads`; describe them."""


KINDS: dict[str, Kind] = {"https": https, "kaggle": kaggle}
"""Modules by scheme of the address; all other schemes of DVC and fsspec are handled by `remotes`."""


def locate(source: str, home: Path, sha256: str | None) -> Path | Address:
    """Resolve `data.source`: a path on this machine, relative ones read from `home`, or an address.

    Errors: DataError for an address that is refused, and for a `sha256` where none belongs.
    """
    address = Address(source, sha256, home)
    is_address = bool(re.match(r"kaggle:|[a-z][a-z0-9+.-]*://", source.lower()))
    if is_address:
        _refuse_address(address)
    if sha256 and not (is_address and address.scheme == "https"):
        raise DataError(f"data.sha256 belongs to an https address: set it to null while data.source is {source}")
    path = (None if address.scheme in KINDS else remotes.local_folder(address)) if is_address else Path(source)
    return address if path is None else home / path.expanduser()


def describe(source: Path | Address, hash_cache: Path) -> dict[str, Any]:
    """Describe the source's present content: its kind, its name, and a fingerprint of its files.

    `hash_cache` is a table that spares reading unchanged local files again. Errors: UnreachableError, DataError.
    """
    if isinstance(source, Path):
        return local.describe(source, hash_cache)
    return KINDS.get(source.scheme, remotes).describe(source)


@contextmanager
def previewed(source: Path, sample: int = 0) -> Iterator[Path | None]:
    """Preview a source before it is copied: a folder that holds what it would bring; None where nothing is there.

    For a table it is a temporary one, of links; for an archive one of all its names, in which only tables, texts and
    `sample` images, evenly spread, have their contents.
    """
    if not source.exists():
        yield None
        return
    if source.is_dir():
        local.refuse_odd(source)
        yield source
        return
    with leftovers.temporary_folder() as folder:
        if local.is_table(source):
            local.link_table(source, folder)
        else:
            archives.unpack(local.kind(source), source, folder, source, sample)
        yield folder


def copy(source: Path | Address, target: Path, downloads: Path) -> dict[str, Any]:
    """Copy the source's files into the existing folder `target`, archives unpacked; describe what was copied."""
    if isinstance(source, Path):
        return local.copy(source, target)
    return KINDS.get(source.scheme, remotes).copy(source, target, downloads)


def _refuse_address(address: Address) -> None:
    if address.scheme == "http":
        raise DataError(f"data.source: {address.url} is refused, since http can be changed on its way: write https://")
    if address.scheme not in KINDS and not remotes.is_known(address.scheme):
        raise DataError(
            f"data.source: {address.url}: neither DVC nor fsspec knows {address.scheme}://; name a folder, an archive, "
            "https://..., kaggle:..., or a remote such as s3://, gs://, azure://, ssh://, webdavs:// and remote://"
        )
    try:
        password = urlsplit(address.url).password
    except ValueError as error:
        raise DataError(f"data.source: {address.url} is no address ({error})") from None
    if password:
        raise DataError(
            f"data.source: the address on {urlsplit(address.url).hostname} holds a password, and params.yaml belongs "
            "to git: keep it in `dvc remote modify --local`, for https in ~/.netrc"
        )
