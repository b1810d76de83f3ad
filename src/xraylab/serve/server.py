"""Serve models until a signal ends it."""

import asyncio
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import closing

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from xraylab.errors import ParamsError
from xraylab.inference.classifier import Classifier
from xraylab.serve import app, models
from xraylab.serve.app import Service
from xraylab.serve.guard import Guard
from xraylab.serve.limits import Limits
from xraylab.serve.models import Batching
from xraylab.serve.tls import Tls

CONNECTIONS = 512
HEADER_SECONDS = 10.0  # for the headers of a request: who sends them slowly would hold all connections


def run(
    classifiers: Sequence[Classifier],
    guard: Guard,
    port: int,
    point: str | None,
    limits: Limits,
    workers: int,
    batching: Batching,
    tell: Callable[[str], object],
    tls: Tls | None = None,
) -> None:
    """Answer requests until SIGTERM or SIGINT, then finish those that are being answered; with `tls` over HTTPS.

    Errors: ParamsError for an address that is in use, DataError for an unknown operating point.
    """
    service = Service(models.served(classifiers, point), guard, limits, workers, batching)
    with closing(_bound(guard.host, port)) as listening:
        config = uvicorn.Config(
            app.create(service),
            http=Protocol,
            ws="none",
            loop="asyncio",
            lifespan="on",
            access_log=False,  # addresses and queries are nobody's business
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=int(limits.seconds),
            ssl_certfile=tls.certificate if tls else None,
            ssl_keyfile=tls.key if tls else None,
        )
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again at its end, which is a good one
            signal.signal(number, lambda *_: None)
        server = _Server(config, lambda: _say(service, listening, "https" if tls else "http", tell))
        server.run(sockets=[listening])
    if not server.started:
        raise ParamsError("the server did not start; the lines above say why")


class Protocol(H11Protocol):
    """HTTP by h11: the same everywhere, with a limit on the size of headers, and here on the time that they take."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self._deadline is not None:
            self._deadline.cancel()

    def _watch(self) -> None:
        """Set a deadline where a request is to come, and remove it where one is there."""
        waiting = self.cycle is None or self.cycle.response_complete
        if waiting and self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.abort)
        elif not waiting and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say where it listens, once it does."""
        await super().startup(sockets)
        if self.started:
            self.ready()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends at once on sockets that name their protocol; on others an answer's body waits 40 ms for its headers
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host.strip("[]"), port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise ParamsError(
            f"cannot listen at {host}, port {port}: {reason}; choose others with --host and --port"
        ) from None
    return listening


def _say(service: Service, listening: socket.socket, scheme: str, tell: Callable[[str], object]) -> None:
    host, port = listening.getsockname()[:2]
    for model in service.models:
        tell(f"{model.name}: {', '.join(model.classifier.classes)}; operating point: {model.point or 'none'}")
        for note in model.classifier.notes:
            tell(note)
    tell(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}  {app.RESEARCH}")
