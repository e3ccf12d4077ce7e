"""The Part that serves gRPC: stages, health, reflection, bounds, and a drain that loses nothing accepted."""

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from google.protobuf import descriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from holdfast.usertoken import ServiceVerifier, Verifier
from libs import clock
from libs.observability import log
from libs.observability.metric import Metrics
from libs.observability.trace import Tracer
from libs.rpc import stages
from libs.rpc.auth import Authenticator
from libs.rpc.call import Call as Call
from libs.rpc.call import Context as Context
from libs.rpc.call import draining as draining
from libs.rpc.call import policy as policy
from libs.rpc.call import principal as principal
from libs.rpc.call import user as user
from libs.rpc.channel import is_local
from libs.rpc.health import Health, HealthService
from libs.rpc.interceptor import InFlight, Stages
from libs.rpc.policy import PLUMBING, UndeclaredPolicy, all_methods
from libs.rpc.validate import Rules

AddFunction: TypeAlias = Callable[[Any, Any], None]
Served: TypeAlias = tuple[AddFunction, Any, descriptor.ServiceDescriptor]
_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process takes on. Bytes are per message, streams per connection, seconds are of a unary call."""

    max_message_bytes: int = 4 * 1024 * 1024
    max_concurrent_streams: int = 4096
    max_metadata_bytes: int = 32 * 1024
    unary_seconds: float = 30.0
    last_words_seconds: float = 0.5

    def options(self) -> list[tuple[str, int]]:
        """As gRPC wants them. Source: grpc_types.h of gRPC core."""
        return [
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.max_concurrent_streams", self.max_concurrent_streams),
            ("grpc.max_metadata_size", self.max_metadata_bytes),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            # One event loop per process, each with its own address (DECISIONS): two processes must never share a port
            # unseen.
            ("grpc.so_reuseport", 0),
        ]


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Files of mutual TLS; needed on every address that is not a Unix socket or loopback (requirement T9)."""

    certificate_file: str
    key_file: str
    client_ca_file: str

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that ask for a client certificate of *client_ca_file*."""
        pair = (Path(self.key_file).read_bytes(), Path(self.certificate_file).read_bytes())
        authority = Path(self.client_ca_file).read_bytes()
        return grpc.ssl_server_credentials([pair], root_certificates=authority, require_client_auth=True)


class Server:
    """Serves *servicers* at *address* (`unix:/path.sock` or `host:port`, port 0 for any) through the stages.

    servicers: (add function, servicer, service descriptor), e.g.
    `(file_service_pb2_grpc.add_FileServiceServicer_to_server, FileServicer(ops),
    file_service_pb2.DESCRIPTOR.services_by_name["FileService"])`.
    verifier: of user tokens for this service's audience. service_verifier: of service tokens, auth's alone.
    operator: the inner end of the local operator socket, as text for whom, e.g. "uid:1000" (libs.rpc.operator).
    start raises UndeclaredPolicy when a method may not be served as declared, RulesMissing when its bounds are unknown.
    """

    def __init__(
        self,
        address: str,
        servicers: Sequence[Served],
        *,
        service: str,
        verifier: Verifier | None,
        health: Health,
        metrics: Metrics,
        service_verifier: ServiceVerifier | None = None,
        operator: str = "",
        limits: Limits | None = None,
        tls: ServerTls | None = None,
        rules: Rules | None = None,
        tracer: Tracer | None = None,
        now: clock.Clock = clock.now,
    ) -> None:
        self._address = address
        self._servicers = tuple(servicers)
        self._service = service
        self._health = health
        self._metrics = metrics
        self._limits = limits or Limits()
        self._tls = tls
        self._rules = rules
        self._tracer = tracer
        self._flight = InFlight()
        self._auth = Authenticator(
            verifier=verifier, service_verifier=service_verifier, operator=operator, now=now, refused=_refused
        )
        self._server: grpc.aio.Server | None = None
        self.port = 0

    @property
    def in_flight(self) -> int:
        """Calls being served now."""
        return self._flight.count

    async def start(self) -> None:
        """Check policies and bounds of everything served, then listen; waits for no dependency."""
        self._check()
        self._metrics.declare_rpc([*self._methods(), *PLUMBING])
        interceptor = Stages(self._stages(), self._flight)
        server = grpc.aio.server(interceptors=[interceptor], options=self._limits.options())
        names = [descriptor.full_name for _, _, descriptor in self._servicers]
        recorder = _Recorder(server, interceptor)
        for add, servicer, _ in self._servicers:
            add(servicer, recorder)
        health_pb2_grpc.add_HealthServicer_to_server(HealthService(self._health, names), recorder)
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection([*names, health_name, reflection.SERVICE_NAME], server)
        self.port = self._listen(server)
        await server.start()
        self._server = server
        _log.info("serving", address=self._address, port=self.port)

    def refuse(self) -> None:
        """Health says NOT_SERVING; calls are still answered."""
        self._health.refuse()

    async def drain(self, seconds: float) -> None:
        """Tell the streams, take no new calls, and wait until those in flight have ended, *seconds* at most.

        Not left to gRPC's stop(grace): it closes the door before the edge has noticed, and is not graceful for
        handlers that abort (grpc/grpc#37239, #28999).
        """
        self._flight.draining.set()
        if not await self._flight.idle(seconds):
            _log.warning("calls cut off", calls=self._flight.count)

    async def stop(self) -> None:
        """Stop listening and end whatever is left."""
        if self._server is None:
            return
        self._flight.draining.set()
        await self._server.stop(self._limits.last_words_seconds if self._flight.count == 0 else 0)
        self._server = None
        if self._address.startswith("unix:"):
            remove_stale(Path(self._address.removeprefix("unix:")))

    def _methods(self) -> list[str]:
        return [
            f"/{service.full_name}/{method.name}" for _, _, service in self._servicers for method in service.methods
        ]

    def _check(self) -> None:
        declared = all_methods()
        faults: list[str] = []
        for method in self._methods():
            found = declared.get(method)
            faults += [f"{method} is not in the contract"] if found is None else self._auth.faults(method, found)
        if faults:
            raise UndeclaredPolicy("; ".join(faults))

    def _stages(self) -> list[stages.Stage]:
        return [
            stages.Correlation(),
            stages.Trace(self._tracer),
            stages.Log(),
            stages.Metric(self._metrics),
            stages.Errors(),
            stages.Deadline(self._limits.unary_seconds),
            stages.Auth(self._auth),
            stages.Validate(self._rules or Rules()),
        ]

    def _listen(self, server: grpc.aio.Server) -> int:
        if self._address.startswith("unix:"):
            remove_stale(Path(self._address.removeprefix("unix:")))
        if self._tls is not None:
            return server.add_secure_port(self._address, self._tls.credentials())
        if not is_local(self._address):
            raise ValueError(f"{self._address} is not on this machine: it needs TLS")
        return server.add_insecure_port(self._address)


class _Recorder:
    """Stands in for the server while servicers are added, so that every handler is wrapped before the first call
    comes.
    """

    def __init__(self, server: grpc.aio.Server, interceptor: Stages) -> None:
        self._server = server
        self._interceptor = interceptor

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        for name, handler in handlers.items():
            self._interceptor.prepare(f"/{service}/{name}", handler)
        self._server.add_registered_method_handlers(service, handlers)  # type: ignore[attr-defined]  # newer than the stubs


def remove_stale(socket: Path) -> None:
    """Remove the socket that a killed process left; anything that is not a socket stays and raises FileExistsError."""
    try:
        mode = os.lstat(socket).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{socket} is in the way of a socket")
    socket.unlink()


def _refused(why: str) -> None:
    _log.warning("token not believed", why=why)
