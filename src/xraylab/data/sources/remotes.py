"""Remotes of DVC (s3, gs, azure, ssh, webdav, remote://name ...) with its credentials, and what else fsspec knows."""

import json
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from xraylab import leftovers, progress
from xraylab.data.sources import archives
from xraylab.data.sources.address import Address, UnreachableError
from xraylab.data.sources.members import is_hidden, safe_paths
from xraylab.errors import DataError, XraylabError

ALIASES = {"az": "azure", "gcs": "gs"}
"""Other names of what DVC knows."""
ONE_BY_ONE = ("ftp", "sftp", "smb")
"""Schemes with a single connection in fsspec, which cannot download two files at a time."""
CHECKSUMS = ("ETag", "etag", "md5", "md5Hash", "Content-MD5", "content_md5", "checksum", "sha")
TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
"""Names that file systems use: the first that a file has tells when it changed."""
Listing = dict[str, dict[str, Any]]


def describe(address: Address) -> dict[str, Any]:
    """Number of files, bytes, and one SHA-256 over names, sizes and checksums or times. Nothing is downloaded."""
    with _reach(address):
        system, path = _open(address)
        return _description(address, _list(system, path, address))


def _description(address: Address, infos: Listing) -> dict[str, Any]:
    rows = [[name, info["size"], _stamp(info)] for name, info in sorted(infos.items())]
    return {
        "kind": "remote",
        "name": address.url,
        "files": len(rows),
        "bytes": _size(infos),
        "sha256": sha256(json.dumps(rows).encode()).hexdigest(),
    }


def copy(address: Address, target: Path, downloads: Path) -> dict[str, Any]:
    """Bring the files into the existing folder `target`; one that is an archive is unpacked, and not kept."""
    with _reach(address):
        system, path = _open(address)
        infos = _list(system, path, address)
        if [info["name"].strip("/") for info in infos.values()] != [path.strip("/")]:
            _download(address, system, infos, target)
        else:
            downloads.mkdir(parents=True, exist_ok=True)
            with leftovers.temporary_folder(downloads) as folder:
                _download(address, system, infos, folder)
                archives.bring(folder / address.name, address.name, target, address.url)
        system.invalidate_cache()
        described = _description(address, infos)
        if _description(address, _list(system, path, address)) != described:
            raise DataError(f"data.source: {address.url} changed while it was downloaded: run this again")
    return described


def local_folder(address: Address) -> Path | None:
    """The folder that a file:// address or a DVC remote on this machine's own disk means; None for any other."""
    rest = address.url.partition("://")[2]
    if address.scheme in ("file", "local"):
        return Path(rest)
    if address.scheme != "remote":
        return None
    name, _, below = rest.partition("/")
    url = _config(address.home)["remote"].get(name.lower(), {}).get("url", "://")
    return local_folder(replace(address, url=f"{url}/{below}")) if "://" in url else Path(url, below)


def is_known(scheme: str) -> bool:
    """Return whether DVC or fsspec knows the scheme, whose package may still be missing."""
    from dvc.config_schema import REMOTE_SCHEMAS  # type: ignore[import-untyped] # noqa: PLC0415 - slow, and seldom needed
    from fsspec.registry import known_implementations  # type: ignore[import-untyped] # noqa: PLC0415

    return scheme in ALIASES or scheme in REMOTE_SCHEMAS or scheme in known_implementations


@contextmanager
def _reach(address: Address) -> Iterator[None]:
    """Turn errors into UnreachableError; the file systems' errors have no class in common but Exception."""
    try:
        yield
    except XraylabError:
        raise
    except ImportError as error:
        package = re.search(r"'(dvc-\w+)'", str(error))
        remedy = f"`pip install {package[1]}`" if package else f"{error}"
        raise UnreachableError(f"{address.url} needs a package that is not installed", remedy, address.url) from None
    except FileNotFoundError:
        raise UnreachableError(f"{address.url} does not exist", "look at the address", address.url) from None
    except Exception as error:
        what = f"{address.url} cannot be reached ({type(error).__name__}: {error})"
        remedy = (
            "look at the address, the network, and the remote's settings and credentials "
            "(`dvc config --list`, `dvc remote modify --local`)"
        )
        raise UnreachableError(what, remedy, address.url) from error


def _config(home: Path) -> Any:
    """DVC's configuration as it stands in the study, credentials of config.local and of the user included."""
    from dvc.config import Config, ConfigError  # type: ignore[import-untyped] # noqa: PLC0415
    from dvc.exceptions import NotDvcRepoError  # type: ignore[import-untyped] # noqa: PLC0415
    from dvc.repo import Repo  # type: ignore[import-untyped] # noqa: PLC0415

    try:
        folder = Repo.find_dvc_dir(str(home))
    except NotDvcRepoError:
        folder = None
    try:
        return Config(dvc_dir=folder)
    except ConfigError as error:
        raise DataError(f"data.source: DVC's configuration cannot be read ({error}): mend it") from None


def _open(address: Address) -> tuple[Any, str]:
    """A file system of fsspec's kind, and the path on it."""
    from dvc.config_schema import REMOTE_SCHEMAS  # noqa: PLC0415
    from dvc.fs import parse_external_url  # type: ignore[import-untyped] # noqa: PLC0415
    from fsspec.core import url_to_fs  # type: ignore[import-untyped] # noqa: PLC0415

    scheme = ALIASES.get(address.scheme, address.scheme)
    if scheme not in REMOTE_SCHEMAS:
        system, path = url_to_fs(address.url, skip_instance_cache=True)
    else:
        wrapped, path = parse_external_url(f"{scheme}:{address.url.partition(':')[2]}", config=_config(address.home))
        system = wrapped.fs
    return system, path


def _list(system: Any, path: str, address: Address) -> Listing:
    """List the file system's information about every visible file, by its name below `path`, or by its own name."""
    info = system.info(path)
    if info["type"] != "directory":
        return {address.name: info}
    base = path.strip("/")
    infos = {
        name.strip("/").removeprefix(base).lstrip("/"): info
        for name, info in system.find(path, detail=True).items()
        if info["type"] == "file" and not name.endswith("/")
    }
    paths = safe_paths(address.url, list(infos))
    visible = {name: infos[name] for name, each in zip(infos, paths, strict=True) if not is_hidden(each)}
    if not visible:
        raise FileNotFoundError(path)
    return visible


def _stamp(info: dict[str, Any]) -> str:
    return next((str(info[key]) for key in (*CHECKSUMS, *TIMES) if info.get(key)), "")


def _size(infos: Listing) -> int:
    """Bytes of all files; those that a server does not tell count nothing."""
    return sum(info["size"] or 0 for info in infos.values())


def _download(address: Address, system: Any, infos: Listing, target: Path) -> None:
    archives.refuse_overfull(address.url, _size(infos), target)
    paths = safe_paths(address.url, list(infos))

    def download(job: tuple[Path, dict[str, Any]]) -> None:
        path, info = job
        path.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(info["name"], str(path))
        if info["size"] not in (None, path.stat().st_size):
            raise DataError(f"data.source: {address.url}: {path.name} came in part: run it again")

    jobs = [(target / path, info) for path, info in zip(paths, infos.values(), strict=True)]
    text = "downloading the source"
    if address.scheme in ONE_BY_ONE:
        deque(map(download, progress.bar(jobs, len(jobs), text)), 0)
    else:
        deque(progress.thread_map(download, jobs, text), 0)
