"""The composition root: every part of the auth service, in the order they start."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from holdfast.auth.v1 import auth_service_pb2, auth_service_pb2_grpc, token_service_pb2, token_service_pb2_grpc
from holdfast.usertoken import parse_keys
from libs import clock, http1, jobqueue, process
from libs import ids as ids_
from libs.db import Database
from libs.jobqueue.figures import Figures
from libs.observability import trace
from libs.observability.metric import Metrics, MetricsServer
from libs.rpc.health import Health, Monitor
from libs.rpc.server import Server
from libs.secret import Watched
from services.auth.adapters.hasher import Hasher
from services.auth.adapters.mail import Mail, SmtpMail
from services.auth.adapters.minting import Minter
from services.auth.config import Config
from services.auth.domain import keyring
from services.auth.domain.admission import Guard
from services.auth.domain.job import SendAlreadyRegistered, SendVerification
from services.auth.domain.keyring import Key, Keyring
from services.auth.http.check import Check
from services.auth.jobs import Mails
from services.auth.ops.admission import Admission
from services.auth.ops.exchange import Exchange
from services.auth.ops.feed import EpochFeed
from services.auth.ops.issue import Issuer
from services.auth.ops.registration import Registration
from services.auth.ops.sessions import Sessions
from services.auth.ops.sign_in import SignIn
from services.auth.rpc.auth_servicer import AuthServicer
from services.auth.rpc.token_servicer import TokenServicer


@dataclass(frozen=True, slots=True)
class _Base:
    """What most of the operations are made of."""

    config: Config
    database: Database
    now: clock.Clock
    ids: Callable[[], str]
    cookie_keys: Callable[[], Keyring]
    csrf_key: Key
    minter: Minter


def build(
    config: Config,
    *,
    now: clock.Clock = clock.now,
    ids: Callable[[], str] = ids_.new_id,
    mail: Mail | None = None,
) -> process.App:
    """The service as *config* wants it; nothing has started. mail: how mail leaves, SMTP when None."""
    base = _base(config, now, ids)
    metrics, health = Metrics(), Health()
    tracer = trace.configure(config.service, config.otlp_endpoint, ratio=config.trace_ratio)
    hasher = _hasher(config)
    registration = Registration(
        begin=base.database.begin, put=jobqueue.put, hasher=hasher, mail=mail or _smtp(config), ids=ids,
        product=config.product_name, link=config.verify_page,
    )  # fmt: skip
    mails = Mails(registration)
    handlers: dict[type[Any], jobqueue.Handler[Any]] = {
        SendVerification: mails.send_verification,
        SendAlreadyRegistered: mails.send_already_registered,
    }
    feed = EpochFeed(begin=base.database.begin)
    figures = Figures(metrics, base.database, "auth")
    figures.declare(handlers)
    parts: list[process.Part] = [
        tracer,
        base.database,
        hasher,
        feed,
        jobqueue.Worker(base.database, service="auth", handlers=handlers, observe=figures.observe),
        Monitor(health, {"database": base.database.check}),
        _server(base, hasher, registration, health, metrics, tracer),
        MetricsServer(config.metrics_address, metrics.registry, refresh=figures.refresh),
    ]
    if config.http_address:
        parts.append(_check_server(base, feed))
    return process.App(
        "auth", parts, edge_notice_seconds=config.edge_notice_seconds, drain_seconds=config.drain_seconds
    )


def _base(config: Config, now: clock.Clock, ids: Callable[[], str]) -> _Base:
    roots = Watched(config.secret_path("root_keys"), parse_keys, private=config.production)
    cookie_keys = Watched(config.secret_path("cookie_keys"), keyring.parse, private=config.production)
    return _Base(
        config=config,
        database=Database.connect(config, now=now),
        now=now,
        ids=ids,
        cookie_keys=cookie_keys.get,
        csrf_key=Key("csrf", config.csrf_key.reveal()),
        minter=Minter(roots.get, now=now, ids=ids),
    )


def _hasher(config: Config) -> Hasher:
    return Hasher(
        workers=config.hash_workers,
        queue=config.hash_queue,
        queue_seconds=config.hash_queue_seconds,
        memory_kib=config.argon2_memory_kib,
        time_cost=config.argon2_time_cost,
        parallelism=config.argon2_parallelism,
    )


def _smtp(config: Config) -> SmtpMail:
    return SmtpMail(
        host=config.smtp_host,
        port=config.smtp_port,
        tls=config.smtp_tls,
        sender=config.mail_from,
        user=config.smtp_user,
        password=config.smtp_password.text() if config.smtp_password else "",
        ca_file=config.smtp_ca_file,
    )


def _server(
    base: _Base, hasher: Hasher, registration: Registration, health: Health, metrics: Metrics, tracer: trace.Tracer
) -> Server:
    begin, lifetimes = base.database.begin, base.config.lifetimes()
    issuer = Issuer(
        cookie_keys=base.cookie_keys, csrf_key=base.csrf_key, lifetimes=lifetimes, now=base.now, ids=base.ids
    )
    sessions = Sessions(begin=begin, issuer=issuer, lifetimes=lifetimes)
    sign_in = SignIn(begin=begin, hasher=hasher, issuer=issuer, lifetimes=lifetimes, ids=base.ids)
    people = AuthServicer(registration=registration, sign_in=sign_in, sessions=sessions, now=base.now)
    tokens = TokenServicer(exchange=Exchange(begin=begin, minter=base.minter), sessions=sessions)
    return Server(
        base.config.grpc_address,
        [
            (
                auth_service_pb2_grpc.add_AuthServiceServicer_to_server, people,
                auth_service_pb2.DESCRIPTOR.services_by_name["AuthService"],
            ),
            (
                token_service_pb2_grpc.add_TokenServiceServicer_to_server, tokens,
                token_service_pb2.DESCRIPTOR.services_by_name["TokenService"],
            ),
        ],
        service="auth",
        verifier=base.minter.verifier("auth"),
        service_verifier=base.minter.service_verifier(),
        health=health,
        metrics=metrics,
        tracer=tracer,
        now=base.now,
    )  # fmt: skip


def _check_server(base: _Base, feed: EpochFeed) -> http1.Server:
    admission = Admission(
        begin=base.database.begin,
        feed=feed,
        minter=base.minter,
        cookie_keys=base.cookie_keys,
        guard=Guard(base.config.origins(), base.csrf_key),
        now=base.now,
    )
    check = Check(admission)
    return http1.Server(base.config.http_address, check.handle, quick=check.quick, on_error=check.failed)
