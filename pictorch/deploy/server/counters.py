"""What a server counts, in Prometheus' text format."""

from collections.abc import Callable, Collection
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
IMAGES = (1, 2, 4, 8, 16, 32, 64)


@final
class Counters:
    """One server's counters. `paths` are those that are counted by name; all others, which strangers may invent, are
    one."""

    def __init__(self, paths: Collection[str], waiting: Callable[[], float]) -> None:
        self.paths = frozenset(paths)
        self.registry = CollectorRegistry()
        requests = ("Requests answered, by path, method and status.", ("path", "method", "status"))
        self.requests = Counter("pictorch_requests", *requests, registry=self.registry)
        seconds = "From a request's headers to its answer."
        self.seconds = Histogram(
            "pictorch_request_seconds", seconds, ("path",), buckets=SECONDS, registry=self.registry
        )
        images = ("Images by the status of their answer.", ("status",))
        self.images = Counter("pictorch_images", *images, registry=self.registry)
        batch = "Images that the network computed together."
        self.batch = Histogram("pictorch_batch_images", batch, buckets=IMAGES, registry=self.registry)
        queue = "Images admitted and not answered yet."
        Gauge("pictorch_waiting_images", queue, registry=self.registry).set_function(waiting)
        ProcessCollector(registry=self.registry)  # memory, processor time, open files

    def request(self, path: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        path = path if path in self.paths else "other"
        method = method if method in ("GET", "POST") else "other"
        self.requests.labels(path, method, str(status)).inc()
        self.seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """Return all of them as Prometheus reads them."""
        return generate_latest(self.registry)
