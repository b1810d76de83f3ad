"""A download is verified, continued, kept, and refused where it is not what was declared. A local server stands in."""

import re
import threading
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from xraylab.data import sources
from xraylab.data.sources import https
from xraylab.data.sources.address import Address
from xraylab.errors import DataError

ADDRESS = "https://example.org/set/x.zip"


class Server(ThreadingHTTPServer):
    """Serves `content` at every path but a few, with or without ranges, and notes the ranges asked for."""

    content = b""
    ranges = True
    cut = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        found = re.match(r"/(\d{3})", self.path)
        if found:
            self.send_response(int(found[1]))
            if found[1] == "302":
                self.send_header("Location", self.server.url.replace("127.0.0.1", "localhost") + "/x.zip")
            self.end_headers()
            return
        self._send(int(asked[6:-1]) if asked and self.server.ranges else 0)

    def _send(self, start: int) -> None:
        content = self.server.content
        if start and start >= len(content):
            self.send_response(416)
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.server.cut or None])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with zipfile.ZipFile(tmp_path / "packed", "w") as archive:
        archive.writestr("A/1.png", b"content" * 1000)
    (tmp_path / "raw").mkdir()
    with Server() as server:
        server.content = (tmp_path / "packed").read_bytes()
        monkeypatch.setattr(https, "PREFIXES", (server.url,))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server: Server, folder: Path, path: str = "/set/x.zip", digest: str | None = None) -> Path:
    digest = digest or sha256(server.content).hexdigest()
    https.copy(Address(server.url + path, digest, folder), folder / "raw", folder / "downloads")
    return folder / "raw"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_description_is_what_was_declared_and_needs_no_network(tmp_path: Path) -> None:
    address = sources.locate(f"{ADDRESS}?download=1", tmp_path, "ab" * 32)
    described = sources.describe(address, tmp_path / "hashes.json")
    assert described == {"kind": "https", "name": "x.zip", "sha256": "ab" * 32}


def test_without_a_declared_hash_it_is_refused(tmp_path: Path) -> None:
    address = sources.locate(ADDRESS, tmp_path, None)
    for act in (sources.describe, lambda *arguments: sources.copy(*arguments, tmp_path / "downloads")):
        with pytest.raises(DataError) as caught:
            act(address, tmp_path)
        assert str(caught.value) == (
            f"data.source: {ADDRESS} is refused without data.sha256, the SHA-256 of the file as 64 hex digits: copy it "
            "from the publisher's page; if there is none, download the file once yourself, look at it, and take what "
            "`sha256sum FILE` says (`shasum -a 256 FILE` on macOS)"
        )


@pytest.mark.parametrize("path", ["/set/x.zip?download=1", "/files/17/content", "/x.zip/"])
def test_an_archive_is_unpacked_by_whatever_name_it_comes(path: str, server: Server, tmp_path: Path) -> None:
    assert (fetch(server, tmp_path, path) / "A/1.png").read_bytes() == b"content" * 1000


def test_a_single_file_comes_as_it_is(server: Server, tmp_path: Path) -> None:
    server.content = b"image,patient\n"
    assert (fetch(server, tmp_path, "/patients.csv") / "patients.csv").read_bytes() == b"image,patient\n"


def test_a_second_fetch_needs_no_network(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    assert names(tmp_path / "downloads") == [sha256(server.content).hexdigest()]
    (tmp_path / "raw").rename(tmp_path / "first")
    (tmp_path / "raw").mkdir()
    fetch(server, tmp_path)
    assert (names(tmp_path / "raw"), server.asked) == (["A"], [None])


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on_where_the_server_can(
    ranges: bool, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(https, "BLOCK", 50)
    server.cut, server.ranges = 100, ranges
    with pytest.raises(DataError, match=r"cannot be downloaded \(.*\): run it again, and it goes on where it stopped"):
        fetch(server, tmp_path)
    digest = sha256(server.content).hexdigest()
    assert (tmp_path / f"downloads/{digest}.part").read_bytes() == server.content[:100]
    server.cut = 0
    assert (fetch(server, tmp_path) / "A/1.png").is_file()
    assert server.asked == [None, "bytes=100-"]
    assert names(tmp_path / "downloads") == [digest]


def test_a_download_interrupted_after_its_last_byte_is_whole(server: Server, tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / f"downloads/{sha256(server.content).hexdigest()}.part").write_bytes(server.content)
    assert (fetch(server, tmp_path) / "A/1.png").is_file()


def test_a_file_of_another_hash_is_deleted_and_both_are_said(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch(server, tmp_path, digest="ab" * 32)
    assert str(caught.value) == (
        f"data.source: {server.url}/set/x.zip is not the file that data.sha256 names; it was deleted, and nothing "
        f"unpacked\n  - data.sha256: {'ab' * 32}\n  - downloaded:  {sha256(server.content).hexdigest()}"
    )
    assert (names(tmp_path / "downloads"), names(tmp_path / "raw")) == ([], [])


def test_a_kept_file_that_was_damaged_is_not_used(server: Server, tmp_path: Path) -> None:
    digest = sha256(server.content).hexdigest()
    fetch(server, tmp_path)
    (tmp_path / "downloads" / digest).write_bytes(b"damaged")
    with pytest.raises(DataError, match=f"data.sha256: {digest}\n  - downloaded:  {sha256(b'damaged').hexdigest()}"):
        fetch(server, tmp_path)
    assert names(tmp_path / "downloads") == []


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("404 Not Found", "look at the address"),
        ("401 Unauthorized", "it asks for a login: put yours into ~/.netrc, or download the file and name it"),
        ("403 Forbidden", "it may ask for a login or an agreement: download the file and name it"),
        ("503 Service Unavailable", "try again later"),
    ],
)
def test_a_refusal_of_the_server_is_said_with_a_remedy(
    status: str, remedy: str, server: Server, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        fetch(server, tmp_path, f"/{status[:3]}")
    assert str(caught.value) == f"data.source: {server.url}/{status[:3]} answers {status}: {remedy}"


def test_a_redirect_to_what_is_not_https_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch(server, tmp_path, "/302")
    assert str(caught.value) == f"data.source: {server.url}/302 leads to an address that is not https, which is refused"


def test_only_https_is_spoken_unless_a_test_says_otherwise(tmp_path: Path) -> None:
    assert https.PREFIXES == ("https://",)
    with pytest.raises(DataError, match="leads to an address that is not https"):
        https.copy(Address("http://127.0.0.1:9/x.zip", "0" * 64, tmp_path), tmp_path, tmp_path / "downloads")
