"""Whether this process can serve, by component; answered over gRPC health and watched by the supervisor's waits.

Nothing is assumed to be well: a component counts as faulty until it has been reported well once.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.errors import AppError, Kind
from libs.observability import log
from libs.rpc.call import Call

Probe = Callable[[], Awaitable[object]]
_log = log.get(__name__)
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NOT_YET = "not reported yet"


class NoSuchService(AppError):
    """Health was asked about a service that is not served here."""

    kind, reason = Kind.NOT_FOUND, "UNIMPLEMENTED"


class Health:
    """The state of one process: serving when every component is well and nobody has said refuse.

    components: names that have to be reported well before the process serves.
    """

    def __init__(self, components: Iterable[str] = ()) -> None:
        self._faults: dict[str, str] = dict.fromkeys(components, NOT_YET)
        self._refusing = False
        self._changed = asyncio.Event()

    @property
    def serving(self) -> bool:
        """Whether calls should come here."""
        return not self._faults and not self._refusing

    def faults(self) -> dict[str, str]:
        """What is wrong, by component; empty when all is well."""
        return dict(self._faults)

    def set(self, component: str, ok: bool, why: str = "") -> None:
        """Report *component* well, or not well because of *why*; a change is logged once."""
        before = self._faults.get(component)
        if ok and before is not None:
            del self._faults[component]
            _log.info("component well", component=component)
        elif not ok and before != (why or "not well"):
            self._faults[component] = why or "not well"
            _log.warning("component not well", component=component, why=self._faults[component])
        self._tell()

    def refuse(self) -> None:
        """NOT_SERVING from now on, whatever the components say."""
        self._refusing = True
        self._tell()

    @property
    def changed(self) -> asyncio.Event:
        """Set by the next report after this was asked for: ask, look, then wait, and no report is missed."""
        return self._changed

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # grpc_health has no types
    """grpc.health.v1 for one process; "" and every served service have the same answer. Source: grpc health/v1."""

    def __init__(self, health: Health, services: Iterable[str]) -> None:
        self._health = health
        self._services = frozenset(services) | {""}

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Call) -> health_pb2.HealthCheckResponse:
        """SERVING or NOT_SERVING; NOT_FOUND for a service that is not here."""
        if request.service not in self._services:
            raise NoSuchService("No such service.")
        return self._answer()

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Call
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The state now and after each change, until the caller leaves or the server stops."""
        if request.service not in self._services:
            yield health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            await context.draining.wait()
            return
        last = None
        while True:
            changed = self._health.changed
            answer = self._answer()
            if answer.status != last:
                last = answer.status
                yield answer
            await changed.wait()

    def _answer(self) -> health_pb2.HealthCheckResponse:
        return health_pb2.HealthCheckResponse(status=_SERVING if self._health.serving else _NOT_SERVING)


class Monitor:
    """A Part that asks each probe every second and reports it; a component that comes back is believed at once.

    A probe is well when it returns nothing or an empty list; a list of faults, an exception or no answer in time is
    not well.
    """

    def __init__(
        self, health: Health, probes: Mapping[str, Probe], *, every_seconds: float = 1.0, timeout_seconds: float = 3.0
    ) -> None:
        self._health = health
        self._probes = dict(probes)
        self._every_seconds = every_seconds
        self._timeout_seconds = timeout_seconds
        self._tasks: list[asyncio.Task[None]] = []
        for component in probes:
            health.set(component, False, NOT_YET)

    async def start(self) -> None:
        """Begin to ask; waits for no answer."""
        self._tasks = [asyncio.create_task(self._watch(name, probe)) for name, probe in self._probes.items()]

    def refuse(self) -> None:
        """Nothing to do: the server refuses."""

    async def drain(self, seconds: float) -> None:
        """Nothing to do: probes hold nothing."""

    async def stop(self) -> None:
        """Stop asking."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _watch(self, component: str, probe: Probe) -> None:
        while True:
            why = await self._ask(probe)
            self._health.set(component, not why, why)
            await asyncio.sleep(self._every_seconds)

    async def _ask(self, probe: Probe) -> str:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await probe()
        except TimeoutError:
            return f"no answer in {self._timeout_seconds:g} s"
        except Exception as fault:
            return f"{type(fault).__name__}: {fault}"
        return "; ".join(str(each) for each in answer) if isinstance(answer, list) else ""
