"""Counters of the server, for Prometheus: numbers alone, never a name."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one server, each named as GET /metrics has it."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("xraylab_requests", "Requests answered.", ["path", "status"], registry=registry)
        self.images = Counter("xraylab_images", "Images by outcome.", ["outcome"], registry=registry)
        self.errors = Counter("xraylab_errors", "Requests and files that failed, by code.", ["code"], registry=registry)
        self.seconds = Histogram(
            "xraylab_request_seconds",
            "Seconds from a request to its answer.",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batch = Histogram(
            "xraylab_batch_images", "Images that a network computed at once.", buckets=BATCHES, registry=registry
        )
        self.queue = Gauge("xraylab_queue_requests", "Requests that are read, wait or compute now.", registry=registry)
        self.restarts = Counter("xraylab_worker_restarts", "Decoding processes that were replaced.", registry=registry)

    def text(self) -> bytes:
        return generate_latest(self.registry)
