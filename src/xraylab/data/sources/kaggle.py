"""Datasets and competitions of Kaggle, through its own client where the user has installed and configured it."""

import contextlib
import importlib
import inspect
import io
import json
import re
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from xraylab.data.sources import archives
from xraylab.data.sources.address import Address, UnreachableError
from xraylab.errors import DataError

if TYPE_CHECKING:
    from requests import RequestException

CLIENT = "kaggle.api.kaggle_api_extended"
SLUG = r"[A-Za-z0-9][\w-]*"
LISTED = 200
"""Number of a competition's files in its description: one answer of Kaggle."""
LOGIN = (
    "get a token at https://www.kaggle.com/settings/api and keep it as ~/.kaggle/kaggle.json, "
    "or in KAGGLE_USERNAME and KAGGLE_KEY"
)
REMEDIES = {
    401: f"Kaggle does not know the token: {LOGIN}",
    403: "open its page on www.kaggle.com while logged in, and accept its rules or licence there",
    404: "look at its name; it may also be private",
}


def describe(address: Address) -> dict[str, Any]:
    """A dataset's version, or the hash of a competition's list of files. A version in the address needs no network."""
    owner, name, version = _parts(address)
    about = {"kind": "kaggle", "name": address.url}
    if owner == "competitions":
        with _connected(address) as api:
            return about | {"files": _files(api, name)}
    return about | {"version": version or _version(address, owner, name)}


def copy(address: Address, target: Path, downloads: Path) -> dict[str, Any]:
    """Unpack into the existing folder `target`. The archive stays below `downloads/kaggle`, by owner, name, version."""
    owner, name, _ = _parts(address)
    described = describe(address)
    version = described.get("version")
    folder = downloads.joinpath("kaggle", owner, name, version or "")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        with _connected(address) as api:
            _download(api, owner, name, version, folder)
        archives.bring(_downloaded(folder, name, address), f"{name}.zip", target, address.url)
    return described


def _parts(address: Address) -> tuple[str, str, str | None]:
    match = re.fullmatch(rf"kaggle:({SLUG})/({SLUG})(?:/(\d+))?", address.url)
    if not match or (match[1] == "competitions" and match[3]):
        raise DataError(
            f"data.source: {address.url} is none of kaggle:owner/dataset, kaggle:owner/dataset/version and "
            "kaggle:competitions/name"
        )
    return match[1], match[2], match[3]


@contextlib.contextmanager
def _connected(address: Address) -> Iterator[Any]:
    """The client, logged in; what goes wrong while it is used becomes an UnreachableError."""
    from requests import RequestException  # noqa: PLC0415 - slow, and seldom needed

    try:
        yield _client(address)
    except RequestException as error:
        raise _unreachable(error, address) from None


def _unreachable(error: "RequestException", address: Address) -> UnreachableError:
    if error.response is None:
        what, remedy = f"Kaggle cannot be reached ({error})", "look at the network"
    else:
        status = error.response.status_code
        what, remedy = f"Kaggle answers {status}", REMEDIES.get(status, "try again later")
    return UnreachableError(f"{address.url}: {what}", remedy, address.url)


def _client(address: Address) -> Any:
    """The client ends the process where it finds no token, and says so at length: both are caught here."""
    from requests import RequestException  # noqa: PLC0415

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            api = importlib.import_module(CLIENT).KaggleApi()
            api.authenticate()
    except ImportError:
        what = f"{address.url} needs Kaggle's client, which is not installed"
        raise UnreachableError(what, f"`pip install kaggle`, then {LOGIN}", address.url) from None
    except RequestException:
        raise
    except (SystemExit, OSError):
        what = f"{address.url} needs a Kaggle token, and the client finds none"
        raise UnreachableError(what, LOGIN, address.url) from None
    return api


def _version(address: Address, owner: str, name: str) -> str:
    """The number of the dataset's newest version."""
    with _connected(address) as api:
        if "format" not in inspect.signature(api.dataset_status).parameters:
            what = f"{address.url} needs a newer client of Kaggle"
            raise UnreachableError(what, "`pip install --upgrade kaggle`", address.url)
        status = json.loads(api.dataset_status(f"{owner}/{name}", format="json(current_version_number)"))
    return str(status["current_version_number"])


def _files(api: Any, competition: str) -> str:
    listed = api.competition_list_files(competition, page_size=LISTED).files
    rows = sorted([file.name, file.total_bytes, str(file.creation_date)] for file in listed)
    return sha256(json.dumps(rows).encode()).hexdigest()


def _download(api: Any, owner: str, name: str, version: str | None, folder: Path) -> None:
    """The client itself continues what was interrupted, and leaves a finished file alone."""
    quiet = not sys.stderr.isatty()
    if owner == "competitions":
        api.competition_download_files(name, path=str(folder), quiet=quiet)
    else:
        api.dataset_download_files(f"{owner}/{name}/{version}", path=str(folder), quiet=quiet)


def _downloaded(folder: Path, name: str, address: Address) -> Path:
    file = folder / f"{name}.zip"
    if not file.is_file():
        raise DataError(f"data.source: {address.url}: Kaggle's client brought no {file.name}: download it by hand")
    return file
