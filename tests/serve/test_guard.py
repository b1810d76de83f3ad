"""Who may ask: tokens, cookies, the Host and Origin headers, and the rate of requests."""

from collections.abc import Iterator

import pytest
import serving
from conftest import Loaded
from starlette.testclient import TestClient

from xraylab.errors import ParamsError
from xraylab.inference.classifier import Classifier
from xraylab.predict import classifiers
from xraylab.serve.guard import Guard, Rate, is_loopback
from xraylab.serve.limits import Limits

TOKEN = "a token of 24 characters"


@pytest.fixture(scope="module")
def classifier(trained: Loaded) -> Classifier:
    return classifiers.of_run(trained[1], "baseline")


@pytest.fixture(scope="module")
def here(classifier: Classifier) -> Iterator[TestClient]:
    with serving.client(serving.service(classifier)) as client:
        yield client


@pytest.fixture
def elsewhere(classifier: Classifier) -> Iterator[TestClient]:
    """A server for other machines; each test has its own count of wrong tokens."""
    with serving.client(serving.service(classifier, host="0.0.0.0", token=TOKEN)) as client:
        yield client


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org", ""])
def test_an_address_for_other_machines_needs_a_token(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ParamsError, match="other machines could send requests: set a token of at least 16 characters"):
        Guard(host, None, 0)
    with pytest.raises(ParamsError, match="the token needs at least 16 printable ASCII characters"):
        Guard(host, "short", 0)
    Guard(host, TOKEN, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "[::1]"])
def test_this_machines_addresses_need_none(host: str) -> None:
    Guard(host, None, 0)


def test_without_the_token_there_is_no_answer(elsewhere: TestClient) -> None:
    film = serving.files(("a.png", serving.png()))
    for path in ("/model", "/metrics", "/app.js"):
        assert elsewhere.get(path).status_code == 401
    refused = elsewhere.post("/predict", files=film)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert elsewhere.post("/predict", files=film, headers={"Authorization": f"Bearer {TOKEN}x"}).status_code == 401
    assert elsewhere.post("/predict", files=film, headers={"Authorization": f"Basic {TOKEN}"}).status_code == 401
    assert elsewhere.post("/predict", files=film, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert elsewhere.get("/health").json() == {"status": "ok"}


def test_the_page_asks_for_the_token_and_sets_a_cookie(elsewhere: TestClient) -> None:
    assert (elsewhere.get("/").status_code, 'name="token"' in elsewhere.get("/").text) == (401, True)
    wrong = elsewhere.post("/login", data={"token": "wrong"})
    assert (wrong.status_code, "set-cookie" in wrong.headers, "This is not the token." in wrong.text) == (
        401,
        False,
        True,
    )
    right = elsewhere.post("/login", data={"token": TOKEN}, follow_redirects=False)
    assert (right.status_code, right.headers["location"]) == (303, "/")
    cookie = right.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    assert (elsewhere.get("/").status_code, elsewhere.get("/model").status_code) == (200, 200)


def test_guessing_is_slowed_down(elsewhere: TestClient) -> None:
    statuses = [elsewhere.get("/model", headers={"Authorization": f"Bearer {n}"}).status_code for n in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    assert elsewhere.post("/login", data={"token": TOKEN}).status_code == 429


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "[x"])
def test_a_name_that_was_made_to_lead_here_is_refused(here: TestClient, host: str) -> None:
    answer = here.get("/health", headers={"Host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "wrong_host")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000"])
def test_this_machines_own_names_are_not(here: TestClient, host: str) -> None:
    assert here.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:8001", "http://localhost"])
def test_another_sites_page_may_not_post(here: TestClient, origin: str) -> None:
    answer = here.post("/predict", files=serving.files(("a.png", serving.png())), headers={"Origin": origin})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "wrong_origin")


def test_the_servers_own_page_may(here: TestClient) -> None:
    headers = {"Origin": "http://localhost:8000"}
    answer = here.post("/predict", files=serving.files(("a.png", serving.png())), headers=headers)
    assert answer.status_code == 200


def test_every_answer_has_the_headers_that_protect_the_page(here: TestClient) -> None:
    for answer in (
        here.get("/"),
        here.get("/nothing"),
        here.get("/predict"),
        here.get("/health", headers={"Host": "x"}),
    ):
        policy = answer.headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} <= set(policy)
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


def test_errors_are_json(here: TestClient) -> None:
    for answer, status, code in (
        (here.get("/nothing"), 404, "not_found"),
        (here.get("/static/../app.py"), 404, "not_found"),
        (here.get("/predict"), 405, "method_not_allowed"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert here.get("/predict").headers["allow"] == "POST"


def test_a_client_may_send_so_many_requests_a_minute(classifier: Classifier) -> None:
    with serving.client(serving.service(classifier, limits=Limits(rate=2))) as client:
        statuses = [client.get("/health").status_code for _ in range(3)]
        last = client.get("/health")
    assert (statuses, last.headers["retry-after"]) == ([200, 200, 429], "30")


def test_the_allowance_fills_again_evenly() -> None:
    now = [0.0]
    rate = Rate(60, lambda: now[0])
    for _ in range(60):
        assert rate.wait("a") == 0
        rate.take("a")
    assert (rate.wait("a"), rate.wait("b")) == (pytest.approx(1.0), 0)
    now[0] = 0.5
    assert rate.wait("a") == pytest.approx(0.5)
    now[0] = 3.0
    for _ in range(3):
        assert rate.wait("a") == 0
        rate.take("a")
    assert rate.wait("a") == pytest.approx(1.0)
