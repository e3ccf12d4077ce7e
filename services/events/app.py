"""The composition root: every part of the events service, in the order they start."""

import asyncio
from collections.abc import Callable

from holdfast.events.v1 import event_service_pb2, event_service_pb2_grpc
from holdfast.usertoken import Keys, Verifier, mint_service_token, parse_keys
from libs import clock, eventlog, http1, process
from libs import ids as ids_
from libs.db import Database
from libs.db.listener import Listener
from libs.observability import trace
from libs.observability.metric import Metrics, MetricsServer
from libs.rpc.health import Health, Monitor
from libs.rpc.server import Server
from libs.secret import Watched
from services.events.adapters.sessions import AuthSessions, Sessions
from services.events.config import Config
from services.events.domain.limits import Limits
from services.events.http import frames
from services.events.http.endpoint import Endpoint
from services.events.ops.figures import Figures
from services.events.ops.hub import Hub
from services.events.ops.openings import Openings
from services.events.ops.publish import Publisher
from services.events.ops.sessions import SessionWatch
from services.events.ops.stream import Stream
from services.events.ops.subscriptions import Subscriptions
from services.events.rpc.servicer import EventServicer

_CALL_SECONDS = 3.0


def limits(config: Config) -> Limits:
    """The bounds of streams that *config* sets."""
    return Limits(
        heartbeat=config.heartbeat_seconds,
        write=config.write_seconds,
        life=config.life_seconds,
        poll=config.poll_seconds,
        lease=config.lease_seconds,
        session_check=config.session_check_seconds,
        session_grace=config.session_grace_seconds,
        database_grace=config.database_grace_seconds,
        streams=config.streams_per_user,
        connects=config.connects_per_minute,
    )


def build(
    config: Config,
    *,
    now: clock.Clock = clock.now,
    ids: Callable[[], str] = ids_.new_id,
    sessions: Sessions | None = None,
) -> process.App:
    """The service as *config* wants it; nothing has started. sessions: who knows which ones live, auth when None."""
    bounds = limits(config)
    metrics = Metrics()
    figures = Figures(metrics)
    database = Database.connect(config)
    auth = _auth(config, now)
    open_streams: set[Stream] = set()
    hub = Hub(database, encode=frames.event, limits=bounds)
    openings = Openings(database, replica=ids(), ids=ids, limits=bounds, held=lambda: _held(open_streams, bounds))
    subscriptions = Subscriptions(hub, openings, open_streams, limits=bounds, figures=figures)
    health = Health()
    tracer = trace.configure(config.service, config.otlp_endpoint, ratio=config.trace_ratio)
    parts: list[process.Part] = [
        tracer,
        database,
        auth,
        hub,
        Listener(database, [eventlog.CHANNEL], lambda _, user_id: hub.hint(user_id)),
        openings,
        subscriptions,
        SessionWatch(sessions or auth, open_streams, bounds),
        Monitor(health, {"database": database.check}),
        *_doors(config, Publisher(database), subscriptions, health, metrics, tracer, now),
    ]
    return process.App(
        "events", parts, edge_notice_seconds=config.edge_notice_seconds, drain_seconds=config.drain_seconds
    )


def _doors(
    config: Config,
    publisher: Publisher,
    subscriptions: Subscriptions,
    health: Health,
    metrics: Metrics,
    tracer: trace.Tracer,
    now: clock.Clock,
) -> list[process.Part]:
    verifier = Verifier("events", _keys(config, "user_token_keys"))
    served = (
        event_service_pb2_grpc.add_EventServiceServicer_to_server,
        EventServicer(publisher, subscriptions),
        event_service_pb2.DESCRIPTOR.services_by_name["EventService"],
    )
    doors: list[process.Part] = [
        MetricsServer(config.metrics_address, metrics.registry),
        Server(
            config.grpc_address, [served], service="events", verifier=verifier, health=health, metrics=metrics,
            tracer=tracer, now=now,
        ),
    ]  # fmt: skip
    if config.http_address:
        endpoint = Endpoint(subscriptions, verify=verifier.verify, metrics=metrics, now=now)
        # A little longer than ours, so that a slow reader is cut, and counted, by the stream itself.
        web = http1.Limits(connections=config.max_connections, write_seconds=config.write_seconds + 2)
        doors.append(http1.Server(config.http_address, endpoint, limits=web))
    return doors


def _auth(config: Config, now: clock.Clock) -> AuthSessions:
    credential = _keys(config, "service_credential")
    return AuthSessions(
        config.auth_address,
        service_token=lambda: mint_service_token("events", credential(), now()),
        timeout_seconds=_CALL_SECONDS,
        ca_file=config.auth_ca_file,
    )


def _keys(config: Config, field: str) -> Callable[[], Keys]:
    """The keys of a mounted file, read again whenever it changes."""
    return Watched(config.secret_path(field), parse_keys, private=config.production)


def _held(streams: set[Stream], bounds: Limits) -> list[tuple[tuple[str, str], str]]:
    """The leases worth keeping: of streams whose reader still takes what is written."""
    # A heartbeat is always due well within this, so only a stuck stream falls out.
    oldest = asyncio.get_running_loop().time() - bounds.heartbeat - bounds.write
    return [(stream.owner, stream.connection_id) for stream in streams if stream.flushed_at >= oldest]
