"""Metrics: one registry per process, handed around; series of declared methods exist from the first scrape.

Labels never carry a person, an organization or anything a stranger chooses: an unknown method, route or code counts as
`_OTHER`. Source: OpenTelemetry semantic conventions for RPC and HTTP; requirement O6.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import prometheus_client
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from libs.http1 import Limits, Request, Response, Server
from libs.observability import names

FORBIDDEN_LABELS = frozenset(
    {"user", "user_id", "organization", "organization_id", "account_id", "session_id", "email", "ip"}
)

_SCRAPE_LIMITS = Limits(body_bytes=0, connections=32)

MetricT = TypeVar("MetricT", bound=MetricWrapperBase)


class Metrics:
    """The metrics of one process on *registry* (a new one when None)."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        # A second series per counter that only repeats when the process started.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it untyped
        self.registry = CollectorRegistry() if registry is None else registry
        self._made: dict[str, MetricWrapperBase] = {}
        rpc = (names.RPC_METHOD_LABEL, names.RPC_STATUS_LABEL)
        self._rpc_started = self.counter(names.RPC_STARTED, "Calls begun; minus handled is calls in flight.", rpc[:1])
        self._rpc_handled = self.counter(names.RPC_HANDLED, "Calls ended.", rpc)
        self._rpc_seconds = self.histogram(names.RPC_DURATION, "Duration of calls, in seconds.", rpc)
        http = (names.HTTP_ROUTE_LABEL, names.HTTP_METHOD_LABEL, names.HTTP_STATUS_LABEL)
        self._http_seconds = self.histogram(names.HTTP_DURATION, "Duration of HTTP requests, in seconds.", http)
        self._started: dict[str, Counter] = {}
        self._handled: dict[tuple[str, str], Counter] = {}
        self._seconds: dict[tuple[str, str], Histogram] = {}
        self._routes: set[str] = set()
        self._http: dict[tuple[str, str, int], Histogram] = {}
        self.declare_rpc((names.OTHER,))

    def declare_rpc(self, methods: Iterable[str]) -> None:
        """Make the series of *methods* ("pkg.Service/Method"): counters of every code, at zero."""
        for method in (one.lstrip("/") for one in methods):
            self._started[method] = self._rpc_started.labels(method)
            for code in (*names.CODES, names.OTHER):
                self._handled[method, code] = self._rpc_handled.labels(method, code)
            # Sixteen series each: the other codes get theirs when they first happen; rates come from the counters.
            self._seconds[method, "OK"] = self._rpc_seconds.labels(method, "OK")

    def rpc_started(self, method: str) -> None:
        """Count a call of *method* as begun."""
        method = method.lstrip("/")
        (self._started.get(method) or self._started[names.OTHER]).inc()

    def rpc_handled(self, method: str, code: str, seconds: float) -> None:
        """Count a call of *method* as ended with *code* (a name, e.g. "NOT_FOUND") after *seconds*."""
        key = (method.lstrip("/"), code)
        counter = self._handled.get(key)
        if counter is None:
            key = (key[0] if key[0] in self._started else names.OTHER, code if code in names.CODES else names.OTHER)
            counter = self._handled[key]
        counter.inc()
        histogram = self._seconds.get(key)
        if histogram is None:
            histogram = self._seconds[key] = self._rpc_seconds.labels(*key)
        histogram.observe(seconds)

    def declare_http(self, routes: Iterable[str]) -> None:
        """Name the routes ("/v1/files/{path}") that get series of their own."""
        self._routes.update(routes)

    def http_handled(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one HTTP request on *route* that ended with *status* after *seconds*."""
        key = (route, method, status)
        series = self._http.get(key)
        if series is None:
            known = method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
            series = self._http_seconds.labels(
                route if route in self._routes else names.OTHER,
                method if known else names.OTHER,
                str(status) if 100 <= status <= 599 else names.OTHER,
            )
            if route in self._routes and known and 100 <= status <= 599:
                self._http[key] = series
        series.observe(seconds)

    def counter(self, name: str, doc: str, labels: Iterable[str] = ()) -> Counter:
        """The counter *name*, made on first use."""
        return self._make(Counter, name, doc, tuple(labels))

    def gauge(self, name: str, doc: str, labels: Iterable[str] = ()) -> Gauge:
        """The gauge *name*, made on first use."""
        return self._make(Gauge, name, doc, tuple(labels))

    def histogram(
        self, name: str, doc: str, labels: Iterable[str] = (), buckets: tuple[float, ...] = names.DURATION_SECONDS
    ) -> Histogram:
        """The histogram *name*, made on first use; buckets: inclusive upper bounds, by default for seconds."""
        found = self._made.get(name)
        if isinstance(found, Histogram):
            return found
        _refuse_labels(name, tuple(labels))
        made = Histogram(name, doc, tuple(labels), buckets=buckets, registry=self.registry)
        self._made[name] = made
        return made

    def _make(self, kind: type[MetricT], name: str, doc: str, labels: tuple[str, ...]) -> MetricT:
        found = self._made.get(name)
        if isinstance(found, kind):
            return found
        _refuse_labels(name, labels)
        made = kind(name, doc, labels, registry=self.registry)
        self._made[name] = made
        return made


def _refuse_labels(name: str, labels: tuple[str, ...]) -> None:
    personal = FORBIDDEN_LABELS.intersection(labels)
    if personal:
        raise ValueError(f"{name} would be labelled by {', '.join(sorted(personal))}")


def exposition(registry: CollectorRegistry) -> bytes:
    """All series of *registry* in Prometheus' text format."""
    return prometheus_client.generate_latest(registry)


class MetricsServer:
    """GET /metrics of *registry* on a private *address*; "" listens nowhere. A libs.process Part, the last to leave.

    refresh: waited for before each answer, for what is counted only when somebody looks; it must not raise.
    """

    def __init__(
        self, address: str, registry: CollectorRegistry, *, refresh: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._registry, self._refresh = registry, refresh
        self._server = Server(address, self._handle, limits=_SCRAPE_LIMITS, mode=0o600) if address else None

    @property
    def address(self) -> str:
        """Where it listens; after `start` with the port that was chosen."""
        return self._server.address if self._server else ""

    async def start(self) -> None:
        """Listen. Raises OSError when the address is taken."""
        if self._server:
            await self._server.start()

    def refuse(self) -> None:
        """Goes on answering: the end of a process is worth watching."""

    async def drain(self, seconds: float) -> None:
        """Goes on answering until `stop`."""

    async def stop(self) -> None:
        """Close the listener and its connections."""
        if self._server:
            await self._server.stop()

    async def _handle(self, request: Request) -> Response:
        if request.path != "/metrics":
            return Response(404)
        if request.method != "GET":
            return Response(405, [("allow", "GET")])
        if self._refresh is not None:
            await self._refresh()
        return Response(200, [("content-type", CONTENT_TYPE_LATEST)], exposition(self._registry))
