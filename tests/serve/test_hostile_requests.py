"""Requests that no browser sends: each has an answer of 4xx, and nothing of it is kept."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import ports
import pytest
import uvicorn
from starlette.types import Message, Scope

from xraylab.serve import app, server, uploads
from xraylab.serve.app import Service
from xraylab.serve.guard import Guard
from xraylab.serve.limits import FileError, Limits
from xraylab.serve.models import Batching
from xraylab.serve.pool import _received

TOKEN = "a token of 24 characters"
FORM = {"content-type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nabc\r\n'
Receive = Callable[[], Awaitable[Message]]


def service(token: str | None = None, **limits: Any) -> Service:
    """Without a model, which no request here comes to."""
    host = "127.0.0.1" if token is None else "0.0.0.0"
    return Service([], Guard(host, token, 0), Limits(**{"rate": 0, "seconds": 0.2} | limits), 1, Batching())


async def never() -> Message:
    await asyncio.sleep(60)
    raise AssertionError("not asked for")


def sending(*parts: bytes) -> Receive:
    """The parts of a body, and then nothing more."""
    messages = iter(parts)

    async def receive() -> Message:
        part = next(messages, None)
        return await never() if part is None else {"type": "http.request", "body": part, "more_body": True}

    return receive


def whole(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def ask(served: Service, method: str, path: str, headers: dict[str, str], receive: Receive) -> tuple[int, str]:
    """The status and code of the answer to a request whose headers no client would send."""
    each = {"host": "localhost"} | headers
    scope: Scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "scheme": "http", "http_version": "1.1", "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 5000),
        "headers": [(name.encode(), text.encode("latin-1")) for name, text in each.items()],
    }  # fmt: skip
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(cast(Any, app.create(served)(scope, receive, send)))
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(body)["error"]["code"] if body.startswith(b"{") else ""


REFUSED = {
    "slow body": ("/predict", FORM, sending(PART), 408, "body_too_slow"),
    "slow login": ("/login", {}, sending(b"token="), 408, "body_too_slow"),
    "many fields": ("/login", {}, whole(b"&".join([b"token=x"] * 500)), 401, ""),
    "large login": ("/login", {}, whole(b"token=" + b"x" * 5000), 413, "body_too_large"),
    "a long length": ("/predict", FORM | {"content-length": "9" * 5000}, never, 413, "body_too_large"),
    "a negative length": ("/predict", FORM | {"content-length": "-1"}, never, 413, "body_too_large"),
    "a length that is none": ("/predict", FORM | {"content-length": "\xb2"}, never, 413, "body_too_large"),
    "a small length of a large body": (
        "/predict", FORM | {"content-length": "1"}, sending(*[bytes(2**20)] * 3), 413, "body_too_large",
    ),
    "tiny parts": ("/predict", FORM, whole(PART * 10_000 + b"--x--"), 413, "too_many_files"),
    "an endless name": (
        "/predict", FORM, whole(PART.replace(b"a.png", b"a" * 10**6) + b"--x--"), 400, "bad_multipart",
    ),
    "a boundary of nothing": ("/predict", {"content-type": "multipart/form-data; boundary="}, whole(PART), 400, None),
    "a boundary within a part": ("/predict", FORM, whole(PART[:-5] + b"\r\n--y--"), 400, "bad_multipart"),
    "an origin that is none": ("/predict", FORM | {"origin": "http://[x"}, never, 403, "wrong_origin"),
    "a host that is none": ("/predict", FORM | {"host": "[x"}, never, 421, "wrong_host"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "headers", "receive", "status", "code"), REFUSED.values(), ids=REFUSED)
def test_a_request_is_refused_and_nothing_of_it_is_kept(
    path: str, headers: dict[str, str], receive: Receive, status: int, code: str | None
) -> None:
    served = service(body=2, files=4)
    answer = ask(served, "POST", path, headers, receive)
    assert answer[0] == status
    assert code in (None, answer[1])
    assert (served.admission.requests, served.admission.bytes) == (0, 0)


def test_with_a_token_a_host_that_is_none_is_no_failure_of_the_server() -> None:
    assert ask(service(TOKEN), "GET", "/model", {"host": "[x"}, never) == (401, "token_needed")


@pytest.mark.parametrize("name", ["../../x.png", "/etc/passwd", "a\x00.png", "\u202egnp.exe", "x" * 1000])
def test_the_name_of_an_upload_is_no_path(name: str) -> None:
    body = PART.replace(b"a.png", name.encode()) + b"--x--"
    (upload,) = uploads.parse(FORM["content-type"], body, 1)
    assert (upload.name, bytes(upload.content)) == (name[-uploads.LONGEST_NAME :], b"abc")


def test_a_client_cannot_add_counters() -> None:
    served = service()
    for number in range(50):
        ask(served, "GET", f"/{number}", {}, never)
        ask(served, f"M{number}", "/predict", {"content-type": str(number)}, whole(b""))
        ask(served, "POST", "/predict", {"content-type": str(number)}, whole(b""))
    lines = [line for line in served.metrics.text().decode().splitlines() if line.startswith("xraylab_requests_total{")]
    assert sorted(line.partition(" ")[0] for line in lines) == [
        'xraylab_requests_total{path="/predict",status="405"}',
        'xraylab_requests_total{path="/predict",status="415"}',
        'xraylab_requests_total{path="other",status="404"}',
    ]


def test_nor_can_a_decoder_that_was_taken_over() -> None:
    class Pipe:
        def recv_bytes(self, most: int) -> bytes:
            return json.dumps({"code": "x" * 1000, "message": "<script>"}).encode()

    with pytest.raises(FileError) as refused:
        _received(cast(Any, Pipe()), [8])
    assert (refused.value.code, refused.value.message) == ("decoder_failed", "the decoder failed")


def test_who_sends_no_headers_loses_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.2)
    (port,) = ports.free(1)
    config = uvicorn.Config(
        app.create(service()), port=port, http=server.Protocol, ws="none", lifespan="off", log_level="critical"
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    try:
        for begun in (b"", b"GET /health HTTP/1.1\r\nHost: local"):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                client.sendall(begun)
                with suppress(ConnectionResetError):
                    assert client.recv(1) == b""
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 404 ")
    finally:
        running.should_exit = True
        thread.join()
