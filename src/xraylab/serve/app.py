"""The HTTP API and the page, as an ASGI application."""

import asyncio
import base64
import sys
import time
import traceback
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from importlib import resources
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xraylab.data.pixels import Gray
from xraylab.explain import overlays
from xraylab.inference.classifier import Classifier
from xraylab.serve import openapi, uploads
from xraylab.serve.guard import HEADERS, Guard
from xraylab.serve.limits import ApiError, FileError, Limits
from xraylab.serve.metrics import Metrics
from xraylab.serve.models import Batcher, Batching, ServedModel, class_names, point_names
from xraylab.serve.pool import Decoded, Pool
from xraylab.serve.uploads import Admission, Upload

STATIC = {"/style.css": "text/css", "/app.js": "text/javascript", "/viewer.js": "text/javascript"}
LOGIN_BODY = 4096
LARGEST_PREVIEW = 2048
RESEARCH = "For research, not for diagnosis."


class Service:
    """Shared by all requests: the models, the workers, the counters."""

    def __init__(
        self, models: Sequence[ServedModel], guard: Guard, limits: Limits, workers: int, batching: Batching
    ) -> None:
        self.models, self.guard, self.limits, self.workers = list(models), guard, limits, workers
        self.metrics, self.admission = Metrics(), Admission(limits)
        self.metrics.queue.set_function(lambda: self.admission.requests)
        self.executor = ThreadPoolExecutor(1, "network")  # one computation at a time, with all threads of torch
        self.batchers = [
            Batcher(each.classifier, self.executor, batching, self.metrics.batch.observe) for each in models
        ]
        self.pool: Pool | None = None

    @asynccontextmanager
    async def running(self, app: Starlette) -> AsyncIterator[None]:
        """Start the workers and the batching; end them with the server."""
        each = [model.classifier.record["images"] for model in self.models]
        references = [model.classifier.reference for model in self.models if model.classifier.reference]
        looks = any(reference.hashes for reference in references)
        self.pool = Pool(each, bool(references), looks, self.workers, self.limits, self.metrics.restarts.inc)
        for batcher in self.batchers:
            batcher.start()
        try:
            yield
        finally:
            for batcher in self.batchers:
                await batcher.stop()
            self.pool.close()
            self.executor.shutdown(cancel_futures=True)

    async def classify(self, upload: Upload, query: "Query") -> dict[str, Any]:
        """A file's part of the answer, whatever becomes of it."""
        content, upload.content = upload.content, bytearray()
        try:
            assert self.pool is not None  # noqa: S101 - `running` has started it
            decoded = await self.pool.decode(upload.name, content, query.preview, query.explain is not None)
        except FileError as error:
            self.metrics.images.labels("refused").inc()
            self.metrics.errors.labels(error.code).inc()
            return {"name": upload.name, "error": {"code": error.code, "message": error.message}}
        finally:
            del content
        numbers = range(len(self.models))
        results = await asyncio.gather(*(self._result(number, decoded, query) for number in numbers))
        self.metrics.images.labels("classified").inc()
        facts = {"width": decoded.width, "height": decoded.height, "format": decoded.format, "mode": decoded.mode}
        answer: dict[str, Any] = {"name": upload.name, **facts, "results": results}
        return answer | ({"preview": decoded.preview} if decoded.preview is not None else {})

    async def _result(self, number: int, decoded: Decoded, query: "Query") -> dict[str, Any]:
        """One model's answer for a decoded file."""
        model, image = self.models[number], decoded.images[number]
        row = await self.batchers[number].score(image, decoded.facts)
        result = model.answer(row.p, row.warnings, query.points[number])
        if query.explain in model.classifier.classes:
            work = partial(_overlay, model.classifier, image, query.explain)
            png = await asyncio.get_running_loop().run_in_executor(self.executor, work)
            result["overlay"] = {"class": query.explain, "box": decoded.boxes[number], "png": png}
        return result


def _overlay(classifier: Classifier, image: Gray, class_: str) -> str:
    """Where the evidence for a class is: a PNG in base64, to lay over the image."""
    return base64.b64encode(overlays.heat_layer(overlays.heatmaps(classifier, image[None], [class_])[0])).decode()


class Query:
    """The checked query of POST /predict."""

    def __init__(self, request: Request, models: Sequence[ServedModel]) -> None:
        unknown = sorted(set(request.query_params) - {"explain", "point", "preview"})
        if unknown or len(request.query_params.multi_items()) > len(request.query_params):
            raise _invalid("the query may hold explain, point and preview, each once")
        self.explain = request.query_params.get("explain")
        classes = class_names(models)
        if self.explain is not None and self.explain not in classes:
            raise _invalid(f"explain must be one of: {', '.join(classes)}")
        self.points = _points(request.query_params.get("point"), models)
        self.preview = _number(request.query_params.get("preview", "0"))


def _points(text: str | None, models: Sequence[ServedModel]) -> list[str | None]:
    """The operating point of each model: its own where it has none of the name that the request has."""
    if text is None:
        return [model.point for model in models]
    names = point_names(models)
    if text not in names:
        raise _invalid(f"point must be one of: {', '.join(names)}" if names else "no model has operating points")
    return [text if text in model.classifier.thresholds.names else model.point for model in models]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 4 or int(text) > LARGEST_PREVIEW:
        raise _invalid(f"preview must be a whole number of pixels from 0 to {LARGEST_PREVIEW}")
    return int(text)


def _invalid(message: str) -> ApiError:
    return ApiError(422, "invalid_query", message)


async def predict(request: Request) -> Response:
    """POST /predict: 200 where at least one file could be classified, 422 where none could."""
    service: Service = request.app.state.service
    query, limits = Query(request, service.models), service.limits
    taken: list[int] = []
    with service.admission as admission:
        try:
            body = await uploads.read_body(request, limits.body * 2**20, admission, taken, limits.seconds)
            async with asyncio.timeout(limits.seconds):
                files = uploads.parse(request.headers.get("content-type", ""), body, limits.files)
                del body
                answers = await asyncio.gather(*(service.classify(file, query) for file in files))
        except TimeoutError:
            raise ApiError(504, "timeout", f"the answer took longer than {limits.seconds:g} s") from None
        finally:
            admission.give_back(sum(taken))
    status = 200 if any("error" not in each for each in answers) else 422
    return JSONResponse({"note": RESEARCH, "files": answers}, status)


async def health(request: Request) -> Response:
    """GET /health."""
    service: Service = request.app.state.service
    well = all(batcher.running() for batcher in service.batchers)
    return JSONResponse({"status": "ok" if well else "failing"}, 200 if well else 503)


async def metrics(request: Request) -> Response:
    """GET /metrics."""
    return Response(request.app.state.service.metrics.text(), media_type="text/plain; version=1.0.0; charset=utf-8")


async def model(request: Request) -> Response:
    """GET /model."""
    service: Service = request.app.state.service
    return JSONResponse({"note": RESEARCH, "models": [each.describe() for each in service.models]})


async def description(request: Request) -> Response:
    """GET /openapi.json."""
    service: Service = request.app.state.service
    explain, point = class_names(service.models), point_names(service.models)
    token = service.guard.token is not None
    return JSONResponse(openapi.document(service.limits, explain, point, LARGEST_PREVIEW, token))


async def log_in(request: Request) -> Response:
    """POST /login: the token from the page's form becomes a cookie."""
    service: Service = request.app.state.service
    with service.admission as admission:
        taken: list[int] = []
        try:
            body = await uploads.read_body(request, LOGIN_BODY, admission, taken, service.limits.seconds)
        finally:
            admission.give_back(sum(taken))
    token = parse_qs(body.decode("ascii", "replace")).get("token", [""])[0]
    response = RedirectResponse("/", 303)
    if service.guard.log_in(request, token, response):
        return response
    return _page("login.html", 401, b' role="alert" hidden', b' role="alert"')


async def page(request: Request) -> Response:
    """GET /: the page, or where a token is needed first, the form for it."""
    service: Service = request.app.state.service
    return _page("index.html") if service.guard.may_enter(request) else _page("login.html", 401)


def _page(name: str, status: int = 200, old: bytes = b"", new: bytes = b"") -> Response:
    return Response(_static(name).replace(old, new), status, media_type="text/html")


def _static(name: str) -> bytes:
    return (resources.files("xraylab.serve") / "static" / name).read_bytes()


async def static(request: Request) -> Response:
    """One of the page's files."""
    path: str = request.scope["path"]
    return Response(_static(path.removeprefix("/")), media_type=STATIC[path])


class Shell:
    """The outermost layer: checks, headers, counters, and an answer in JSON to every error; its text is not logged."""

    def __init__(self, app: ASGIApp, service: Service, paths: Sequence[str]) -> None:
        self.app, self.service, self.paths = app, service, set(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.monotonic(), [0]

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                message["headers"] += [(name.lower().encode(), text.encode()) for name, text in HEADERS.items()]
            await send(message)

        try:
            await self._answer(scope, receive, with_headers)
        except ClientDisconnect:
            status[0] = 499
        except Exception as error:  # its text could quote an upload, so only its kind and place are printed
            _print_place(error)
        path = scope["path"] if scope["path"] in self.paths else "other"
        self.service.metrics.requests.labels(path, str(status[0])).inc()
        self.service.metrics.seconds.labels(path).observe(time.monotonic() - start)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self.service.guard.check(Request(scope))
        except ApiError as error:
            await _response(error, self.service)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _print_place(error: Exception) -> None:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    sys.stderr.write(f"error: {type(error).__name__} in {frame.name}, {frame.filename}:{frame.lineno}\n")


def _response(error: ApiError, service: Service) -> JSONResponse:
    service.metrics.errors.labels(error.code).inc()
    return JSONResponse(error.content(), error.status, error.headers)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - registered for it alone
    return _response(error, request.app.state.service)


async def _internal_error(request: Request, error: Exception) -> Response:
    return _response(ApiError(500, "internal", "the server failed on this request"), request.app.state.service)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it alone
    codes = {404: "not_found", 405: "method_not_allowed"}
    problem = ApiError(error.status_code, codes.get(error.status_code, "http"), str(error.detail), error.headers)
    return _response(problem, request.app.state.service)


def create(service: Service) -> ASGIApp:
    """The application of a service."""
    routes = [
        Route("/", page),
        Route("/predict", predict, methods=["POST"]),
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/model", model),
        Route("/openapi.json", description),
        Route("/login", log_in, methods=["POST"]),
        *(Route(path, static) for path in STATIC),
    ]
    handlers = {ApiError: _api_error, HTTPException: _http_error, Exception: _internal_error}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=service.running)
    app.state.service = service
    return Shell(app, service, [route.path for route in routes])
