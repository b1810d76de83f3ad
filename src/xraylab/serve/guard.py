"""Access to the server: the Host and Origin headers, the token, and how many requests a client may send in a minute."""

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from xraylab.errors import ParamsError
from xraylab.serve.limits import ApiError

COOKIE = "xraylab_session"
PUBLIC = ("/", "/health", "/login", "/style.css", "/openapi.json")  # the page itself shows the form for the token
SHORTEST_TOKEN = 16
FAILURES = 10  # wrong tokens of one client in a minute
MOST_CLIENTS = 10_000
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_token(host: str, token: str | None) -> None:
    """Errors: ParamsError where other machines could reach the server without a token, or the token is short."""
    if token is None and not is_loopback(host):
        raise ParamsError(
            f"--host {host}: other machines could send requests: set a token of at least {SHORTEST_TOKEN} characters "
            "in the environment variable XRAYLAB_TOKEN, or with --token"
        )
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise ParamsError(f"the token needs at least {SHORTEST_TOKEN} printable ASCII characters")


@dataclass
class Rate:
    """So many requests of each client in a minute, as a bucket that fills again evenly; 0: any number."""

    a_minute: int
    clock: Callable[[], float] = time.monotonic
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)

    def wait(self, client: str) -> float:
        """Seconds until the client may send one; 0.0 is now."""
        left, then = self._left.get(client, (float(self.a_minute), self.clock()))
        left = min(left + (self.clock() - then) * self.a_minute / 60, float(self.a_minute))
        return 0.0 if not self.a_minute or left >= 1 else (1 - left) * 60 / self.a_minute

    def take(self, client: str) -> None:
        """Count one request."""
        if not self.a_minute:
            return
        now = self.clock()
        left, then = self._left.pop(client, (float(self.a_minute), now))
        self._left[client] = (min(left + (now - then) * self.a_minute / 60, float(self.a_minute)) - 1, now)
        if len(self._left) > MOST_CLIENTS:
            del self._left[next(iter(self._left))]  # the one that has been quiet longest


class Guard:
    """Refuses what may not be asked, before anything of the body is read."""

    def __init__(self, host: str, token: str | None, rate: int) -> None:
        check_token(host, token)
        self.host, self.token = host, token
        self.rate, self.failures = Rate(rate), Rate(FAILURES)
        self._session = hmac.new(secrets.token_bytes(32), (token or "").encode(), hashlib.sha256).hexdigest()

    def check(self, request: Request) -> None:
        """Errors: ApiError 403, 421, 429 and 401."""
        self._check_host(request)
        self._check_origin(request)
        client = request.client.host if request.client else ""
        self._check_rate(self.rate, client)
        self.rate.take(client)
        if self.token is not None and request.scope["path"] not in PUBLIC:
            self._check_token(request, client)

    def may_enter(self, request: Request) -> bool:
        """Return whether a request carries the session's cookie, or no token is needed."""
        return self.token is None or hmac.compare_digest(
            request.cookies.get(COOKIE, "").encode(), self._session.encode()
        )

    def log_in(self, request: Request, token: str, response: Response) -> bool:
        """Return whether this is the token; then the response sets the session's cookie. Errors: ApiError 429."""
        client = request.client.host if request.client else ""
        self._check_rate(self.failures, client)
        if not self._is_token(token):
            self.failures.take(client)
            return False
        response.set_cookie(
            COOKIE, self._session, httponly=True, samesite="strict", secure=request.scope["scheme"] == "https"
        )
        return True

    def _is_token(self, text: str) -> bool:
        return self.token is not None and hmac.compare_digest(text.encode(), self.token.encode())

    def _check_host(self, request: Request) -> None:
        """A page elsewhere whose name is made to lead to this machine names itself as the host (DNS rebinding)."""
        name = _host_name(request.headers.get("host", ""))
        if is_loopback(self.host) and not (is_loopback(name) or name == self.host):
            raise ApiError(421, "wrong_host", "this server answers to localhost alone")

    def _check_origin(self, request: Request) -> None:
        origin = request.headers.get("origin")
        if request.method in ("GET", "HEAD") or origin is None:
            return
        if _place(origin) != request.headers.get("host"):
            raise ApiError(403, "wrong_origin", "another site's page may not send requests to this server")

    def _check_rate(self, rate: Rate, client: str) -> None:
        wait = rate.wait(client)
        if wait:
            seconds = {"Retry-After": str(int(wait) + 1)}
            raise ApiError(429, "too_many_requests", f"more than {rate.a_minute} requests in a minute", seconds)

    def _check_token(self, request: Request, client: str) -> None:
        if self.may_enter(request):
            return
        self._check_rate(self.failures, client)
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(text.strip()):
            return
        if text:
            self.failures.take(client)
        message = "send the server's token: Authorization: Bearer TOKEN"
        raise ApiError(401, "token_needed", message, {"WWW-Authenticate": "Bearer"})


def _place(origin: str) -> str | None:
    """Host and port of an Origin header; None where it names none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _host_name(host: str) -> str:
    """The name of a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
