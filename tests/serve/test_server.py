"""A server in a process of its own: load with hostile requests, signals, and its own description as a test plan."""

import http.client
import importlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import httpx
import ports
import psutil
import pytest
import small
from conftest import Loaded

from xraylab.errors import ParamsError
from xraylab.inference.classifier import Classifier
from xraylab.predict import classifiers
from xraylab.serve import server
from xraylab.serve.guard import Guard
from xraylab.serve.limits import Limits
from xraylab.serve.models import Batching
from xraylab.serve.tls import Tls

Start = Callable[..., tuple["subprocess.Popen[str]", int]]


@pytest.fixture(scope="module")
def start(trained: Loaded) -> Iterator[Start]:
    """Starts `xraylab serve baseline/0` and waits until it says where it listens."""
    started: list[subprocess.Popen[str]] = []

    def begin(*options: str) -> tuple["subprocess.Popen[str]", int]:
        command = [sys.executable, "-m", "xraylab", "serve", "baseline/0", "--port", "0", "--workers", "2", *options]
        process = subprocess.Popen(command, cwd=trained[1].root, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("http://127.0.0.1:"):
                return process, int(line.split(maxsplit=1)[0].rpartition(":")[2])
        raise AssertionError("the server has ended")

    yield begin
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """bench/serve.py, whose load is that of the test, for the classes of the test's model."""
    monkeypatch.syspath_prepend(str(small.REPOSITORY / "bench"))
    return importlib.import_module("serve")


def test_a_port_in_use_is_an_error(trained: Loaded) -> None:
    classifier = classifiers.of_run(trained[1], "baseline")
    (port,) = ports.free(1)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ParamsError) as error:
        server.run([classifier], Guard("127.0.0.1", None, 0), port, None, Limits(), 1, Batching(), print)
    message = f"cannot listen at 127.0.0.1, port {port}: Address already in use; choose others with --host and --port"
    assert str(error.value) == message


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that it signed itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=here"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate), "-keyout", str(key)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return certificate, key


def test_with_a_certificate_it_speaks_https_alone(trained: Loaded, pair: tuple[Path, Path]) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    context, token = ssl.create_default_context(cafile=pair[0]), "a token of 24 characters"
    answers: list[object] = []

    def ask(port: int) -> None:
        try:
            with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=context) as client:
                answers.append(client.get("/health").status_code)
                answers.append(client.post("/login", data={"token": token}).headers["set-cookie"].split("; ")[1:])
            with pytest.raises(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/health")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    def tell(line: str) -> None:
        if line.startswith("https://127.0.0.1:"):
            threading.Thread(target=ask, args=[int(line.split(maxsplit=1)[0].rpartition(":")[2])]).start()

    classifier, guard = classifiers.of_run(trained[1], "baseline"), Guard("127.0.0.1", token, 0)
    server.run([classifier], guard, 0, None, Limits(), 1, Batching(), tell, Tls(*pair))
    for number, handler in before.items():
        signal.signal(number, handler)
    assert answers == [200, ["HttpOnly", "Path=/", "SameSite=strict", "Secure"]]


def test_a_certificate_without_its_key_is_an_error(pair: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = pair
    assert Tls.checked(None, None) is None
    assert Tls.checked(certificate, key) == Tls(certificate, key)
    with pytest.raises(ParamsError, match=r"^--certificate and --key belong together: give both, or neither$"):
        Tls.checked(certificate, None)
    with pytest.raises(ParamsError, match=r"absent\.pem: there is no such file"):
        Tls.checked(certificate, tmp_path / "absent.pem")
    locked = tmp_path / "locked.pem"
    command = ["openssl", "ec", "-in", key, "-aes128", "-passout", "pass:secret", "-out", locked]
    subprocess.run(command, check=True, capture_output=True)
    for wrong in (certificate, locked):
        with pytest.raises(ParamsError, match=r"are no certificate in PEM with its key, without a passphrase \("):
            Tls.checked(certificate, wrong)


@pytest.mark.slow
def test_under_load_with_hostile_requests_nothing_is_lost_or_wrong(
    start: Start, trained: Loaded, bench: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    model: Classifier = classifiers.of_run(trained[1], "baseline")
    assert tuple(model.classes) == bench.CLASSES
    process, port = start("--rate", "0", "--precision", "float32")
    contents = bench.films(8)
    calls = bench.mixed(bench.good(model, contents), bench.hostile(contents[0]), 60)
    assert {call.kind for call in calls} == {"film", *(call.kind for call in bench.hostile(contents[0]))}
    bench.send(port, calls, 20)
    before = bench.resident(process.pid)
    load = bench.send(port, calls, 20)
    after = bench.resident(process.pid)
    with capsys.disabled():
        print(f"\n60 requests in {load.seconds:.1f} s, {before} -> {after} MiB")  # noqa: T201
    assert (load.lost, load.wrong, load.hostile) == (0, 0, 6)
    assert after < before * 1.1 + 20
    _finishes_what_it_answers(process, port, contents[0])


def _finishes_what_it_answers(process: "subprocess.Popen[str]", port: int, film: bytes) -> None:
    """SIGTERM while a body is half sent: the request is answered, and the server ends well with its workers."""
    children = psutil.Process(process.pid).children(recursive=True)
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = head + film + b"\r\n--x--\r\n"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:1000])
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    connection.send(body[1000:])
    assert connection.getresponse().status == 200
    connection.close()
    assert process.wait(30) == 0
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert (len(gone) >= 2, alive) == (True, [])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends a process with its parent")
def test_workers_end_with_a_server_that_is_killed(start: Start) -> None:
    process, _ = start()
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.kill()
    assert psutil.wait_procs(children, timeout=10)[1] == []


@pytest.mark.slow
def test_its_description_holds_for_generated_requests(start: Start, tmp_path: Path) -> None:
    """Schemathesis sends what the description allows and what it does not; bounded, and the same each time."""
    config = tmp_path / "schemathesis.toml"
    accepted = 'positive_data_acceptance.expected-statuses = ["2xx", 422]'  # bytes that are no film
    refused = 'negative_data_rejection.expected-statuses = ["4xx"]'  # 413 among them: too many files
    config.write_text(f"[checks]\n{accepted}\n{refused}\n")
    _, port = start("--rate", "0")
    command = [
        Path(sys.executable).with_name("schemathesis"), "--config-file", config, "run", f"http://127.0.0.1:{port}/openapi.json",
        "--max-examples", "15", "--seed", "1", "--phases", "examples,coverage,fuzzing", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_what_is_sent_does_not_wait_for_the_client() -> None:
    """asyncio turns Nagle's algorithm off on sockets of this protocol alone."""
    with closing(server._bound("127.0.0.1", 0)) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert accepted.proto == socket.IPPROTO_TCP
