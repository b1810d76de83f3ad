"""Kaggle is asked through its own client, for which a stand-in of the same calls is installed here."""

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import requests

from xraylab.data import sources
from xraylab.data.sources.address import UnreachableError
from xraylab.data.sources.kaggle import CLIENT
from xraylab.errors import DataError

LOGIN = (
    "get a token at https://www.kaggle.com/settings/api and keep it as ~/.kaggle/kaggle.json, "
    "or in KAGGLE_USERNAME and KAGGLE_KEY"
)


class Api:
    """What is used of kaggle.api.kaggle_api_extended.KaggleApi; it notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def authenticate(self) -> None:
        sys.stdout.write("a greeting that nobody wants in the log\n")

    def dataset_status(self, dataset: str, format: str | None = None) -> str:  # noqa: A002
        self.asked.append(f"{dataset} {format}")
        return json.dumps({"current_version_number": 7})

    def competition_list_files(self, competition: str, page_token: str | None = None, page_size: int = 20) -> Any:
        self.asked.append(f"{competition} {page_size}")
        return SimpleNamespace(files=[SimpleNamespace(name="a.zip", total_bytes=3, creation_date="2020-01-01")])

    def dataset_download_files(self, dataset: str, path: str, force: bool = False, quiet: bool = True) -> None:
        self._bring(Path(path, f"{dataset.split('/')[1]}.zip"), dataset)

    def competition_download_files(self, competition: str, path: str, force: bool = False, quiet: bool = True) -> None:
        self._bring(Path(path, f"{competition}.zip"), competition)

    def _bring(self, file: Path, asked: str) -> None:
        self.asked.append(asked)
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("A/1.png", asked)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    api = Api()
    install(monkeypatch, lambda: api)
    return api


def install(monkeypatch: pytest.MonkeyPatch, make: Callable[[], object]) -> None:
    module = ModuleType(CLIENT)
    module.KaggleApi = make  # type: ignore[attr-defined]
    for name in ("kaggle", "kaggle.api"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, CLIENT, module)


def describe(source: str, folder: Path) -> dict[str, Any]:
    return sources.describe(sources.locate(source, folder, None), folder / "hashes.json")


def fetch(source: str, folder: Path) -> str:
    (folder / "raw").mkdir()
    sources.copy(sources.locate(source, folder, None), folder / "raw", folder / "downloads")
    return (folder / "raw/A/1.png").read_text()


def problem(folder: Path, source: str = "kaggle:me/chest") -> str:
    with pytest.raises(UnreachableError) as caught:
        describe(source, folder)
    assert caught.value.name == source
    return str(caught.value)


def test_a_dataset_is_described_by_its_version(api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    described = describe("kaggle:me/chest", tmp_path)
    assert described == {"kind": "kaggle", "name": "kaggle:me/chest", "version": "7"}
    assert api.asked == ["me/chest json(current_version_number)"]
    assert capsys.readouterr().out == ""


def test_a_version_in_the_address_asks_nobody(tmp_path: Path) -> None:
    described = describe("kaggle:me/chest/3", tmp_path)
    assert described == {"kind": "kaggle", "name": "kaggle:me/chest/3", "version": "3"}


def test_a_competition_is_described_by_its_list_of_files(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = describe("kaggle:competitions/chest", tmp_path)
    assert describe("kaggle:competitions/chest", tmp_path) == first
    assert api.asked == ["chest 200"] * 2
    monkeypatch.setattr(api, "competition_list_files", lambda *_, **__: SimpleNamespace(files=[]))
    assert describe("kaggle:competitions/chest", tmp_path) != first


def test_a_dataset_is_fetched_in_the_version_that_was_described(api: Api, tmp_path: Path) -> None:
    assert fetch("kaggle:me/chest", tmp_path) == "me/chest/7"
    assert (tmp_path / "downloads/kaggle/me/chest/7/chest.zip").is_file()


def test_a_dataset_is_fetched_in_the_version_of_the_address(api: Api, tmp_path: Path) -> None:
    assert fetch("kaggle:me/chest/3", tmp_path) == "me/chest/3"
    assert api.asked == ["me/chest/3"]


def test_a_competition_is_fetched_whole(api: Api, tmp_path: Path) -> None:
    assert fetch("kaggle:competitions/chest", tmp_path) == "chest"
    assert (tmp_path / "downloads/kaggle/competitions/chest/chest.zip").is_file()


def test_a_download_that_brought_nothing_is_an_error(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_bring", lambda *_: None)
    with pytest.raises(DataError) as caught:
        fetch("kaggle:me/chest", tmp_path)
    assert str(caught.value) == (
        "data.source: kaggle:me/chest: Kaggle's client brought no chest.zip: download it by hand"
    )


@pytest.mark.parametrize("source", ["kaggle:chest", "kaggle:me/../x", "kaggle:me/chest/new", "kaggle:competitions/a/3"])
def test_another_form_of_address_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        describe(source, tmp_path)
    assert str(caught.value) == (
        f"data.source: {source} is none of kaggle:owner/dataset, kaggle:owner/dataset/version and "
        "kaggle:competitions/name"
    )


def test_without_the_client_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kaggle", None)
    assert problem(tmp_path) == (
        "data.source: kaggle:me/chest needs Kaggle's client, which is not installed: "
        f"`pip install kaggle`, then {LOGIN}"
    )


@pytest.mark.parametrize("error", [SystemExit(1), OSError("Could not find kaggle.json")])
def test_without_a_token_it_is_said_where_it_goes(
    error: BaseException, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "authenticate", lambda: failing(error))
    assert problem(tmp_path) == (
        f"data.source: kaggle:me/chest needs a Kaggle token, and the client finds none: {LOGIN}"
    )


def test_an_old_client_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(authenticate=lambda: None, dataset_status=lambda dataset: "ready")
    install(monkeypatch, lambda: old)
    assert problem(tmp_path) == (
        "data.source: kaggle:me/chest needs a newer client of Kaggle: `pip install --upgrade kaggle`"
    )


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, f"Kaggle does not know the token: {LOGIN}"),
        (403, "open its page on www.kaggle.com while logged in, and accept its rules or licence there"),
        (404, "look at its name; it may also be private"),
        (500, "try again later"),
    ],
)
def test_what_kaggle_answers_is_said_with_a_remedy(
    status: int, remedy: str, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = requests.Response()
    response.status_code = status
    monkeypatch.setattr(api, "dataset_status", lambda dataset, format: failing(requests.HTTPError(response=response)))  # noqa: A006
    assert problem(tmp_path) == f"data.source: kaggle:me/chest: Kaggle answers {status}: {remedy}"


def test_without_a_network_it_is_unreachable(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "authenticate", lambda: failing(requests.ConnectionError("no route")))
    assert problem(tmp_path) == (
        "data.source: kaggle:me/chest: Kaggle cannot be reached (no route): look at the network"
    )


def failing(error: BaseException) -> None:
    raise error
