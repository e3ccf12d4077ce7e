"""The composition root: every part of the files service, in the order they start."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from holdfast.files.v1 import file_service_pb2, file_service_pb2_grpc
from holdfast.usertoken import Verifier, parse_keys
from libs import clock
from libs import ids as ids_
from libs.crypto.envelope import parse_roots
from libs.db import Database
from libs.jobqueue import Periodic, Timetable, Worker
from libs.jobqueue.figures import Figures
from libs.names import USER
from libs.observability import trace
from libs.observability.metric import Metrics, MetricsServer
from libs.page import Tokens
from libs.principal import User
from libs.process import App, Part
from libs.rpc.health import Health, Monitor
from libs.rpc.server import Server
from libs.secret import Watched
from services.files.adapters.keyring import Keyring
from services.files.adapters.objects import Objects
from services.files.adapters.s3 import S3Objects
from services.files.adapters.s3_keys import S3Keys
from services.files.config import Config
from services.files.domain.errors import FileNotFound
from services.files.domain.job import RenewKeys
from services.files.http.get import Get, Head
from services.files.http.put import Put
from services.files.http.server import HttpServer
from services.files.http.stages import Handle, Stages
from services.files.jobs.handlers import handlers
from services.files.ops.delete import Delete
from services.files.ops.download import Download
from services.files.ops.find import Find
from services.files.ops.keys import Keys
from services.files.ops.remove import Remove
from services.files.ops.upload import Times, Upload
from services.files.rpc.service import FileServicer

AUDIENCE = "files"
_KEY_THREADS = 8
_LATEST_USE_SECONDS = 3600.0
"""Beyond the age of the oldest backup: a replica may seal with a key that it remembers, and be slow about it."""
_ADD = file_service_pb2_grpc.add_FileServiceServicer_to_server
_SERVICE = file_service_pb2.DESCRIPTOR.services_by_name["FileService"]


def build(config: Config, /, *, now: clock.Clock = clock.now, ids: Callable[[], str] = ids_.new_id) -> App:
    """The service: gRPC, HTTP and worker in one process. Opens nothing and waits for nothing."""
    metrics = Metrics()
    tracer = trace.configure(config.service, config.otlp_endpoint, ratio=config.trace_ratio)
    database = Database.connect(config, now=now)
    objects, keys = _objects(config), _keys(config)
    keyring = _keyring(config, keys, ids)
    health = Health(("database", "objects", "keys"))
    verifier = Verifier(AUDIENCE, Watched(config.secret_path("user_token_keys"), parse_keys, private=config.production))
    verbs = _verbs(config, database, objects, keyring, ids)
    kept = timedelta(seconds=config.recovery_seconds + _LATEST_USE_SECONDS)
    figures = Figures(metrics, database, config.service)
    handled = handlers(Remove(database.begin, objects), Keys(database.begin, keyring, kept=kept), now=now)
    figures.declare(handled)
    parts: list[Part] = [
        tracer,
        MetricsServer(config.metrics_address, metrics.registry, refresh=figures.refresh),
        database,
        objects,
        keys,
        Monitor(health, {"database": database.check, "objects": objects.probe, "keys": keys.probe}),
        Worker(database, config.service, handled, observe=figures.observe),
        Timetable(database, config.service, [Periodic(RenewKeys(), every=timedelta(days=1), alone=True)]),
    ]
    if config.http_address:
        parts.append(HttpServer(config.http_address, _http(verbs, verifier, now, metrics, tracer)))
    parts.append(
        Server(
            config.grpc_address,
            [(_ADD, FileServicer(verbs.upload, verbs.download, verbs.find, verbs.delete), _SERVICE)],
            service=config.service,
            verifier=verifier,
            health=health,
            metrics=metrics,
            tracer=tracer,
            now=now,
        )
    )
    notice_seconds = config.edge_notice_seconds
    return App(config.service, parts, edge_notice_seconds=notice_seconds, drain_seconds=config.drain_seconds)


async def erase(config: Config, name: str) -> str:
    """Erase what the files of the user *name* say, once and for good; what was done, for a person.

    Raises InvalidArgument, FileNotFound when the user has stored nothing, and Unavailable.
    """
    named = USER.parse(name)
    who = User(named["organization"], named["user"], actor="operator")
    database, store = Database.connect(config, now=clock.now), _keys(config)
    keys = Keys(database.begin, _keyring(config, store, ids_.new_id), kept=timedelta())
    await database.start()
    try:
        if not await keys.known(who):
            raise FileNotFound("Nothing was erased: there is no such user, or no file of that user.")
        await keys.erase(who)
    finally:
        await database.stop()
        await store.stop()
    return f"erased: no file of {name} can be read any more, from here or from any backup"


@dataclass(frozen=True, slots=True)
class _Verbs:
    upload: Upload
    download: Download
    find: Find
    delete: Delete


def _verbs(config: Config, database: Database, objects: Objects, keyring: Keyring, ids: Callable[[], str]) -> _Verbs:
    recovery = timedelta(seconds=config.recovery_seconds)
    times = Times(
        upload=timedelta(seconds=config.upload_seconds),
        expiry=timedelta(seconds=config.upload_expiry_seconds),
        recovery=recovery,
        key=timedelta(seconds=config.key_life_seconds),
    )
    begin, limit, at_once = database.begin, config.max_file_bytes, config.uploads_at_once
    return _Verbs(
        Upload(begin, objects, keyring, ids, times=times, limit_bytes=limit, at_once=at_once),
        Download(begin, objects, keyring),
        Find(begin, Tokens(config.page_key.reveal())),
        Delete(begin, recovery=recovery),
    )


def _http(
    verbs: _Verbs, verifier: Verifier, now: clock.Clock, metrics: Metrics, tracer: trace.Tracer
) -> Callable[[Callable[[], bool]], Stages]:
    routes: dict[str, Handle] = {"PUT": Put(verbs.upload), "GET": Get(verbs.download), "HEAD": Head(verbs.find)}

    def stages(refusing: Callable[[], bool]) -> Stages:
        return Stages(routes, verifier=verifier, now=now, metrics=metrics, tracer=tracer, refusing=refusing)

    return stages


def _objects(config: Config) -> S3Objects:
    return S3Objects(
        endpoint=config.s3_endpoint,
        region=config.s3_region,
        bucket=config.s3_bucket,
        access_key=config.s3_access_key.text(),
        secret_key=config.s3_secret_key,
        ca_file=config.s3_ca_file,
        threads=config.s3_threads,
    )


def _keys(config: Config) -> S3Keys:
    return S3Keys(
        endpoint=config.s3_endpoint,
        region=config.s3_region,
        bucket=config.s3_keys_bucket,
        access_key=config.s3_keys_access_key.text(),
        secret_key=config.s3_keys_secret_key,
        ca_file=config.s3_ca_file,
        threads=_KEY_THREADS,
    )


def _keyring(config: Config, keys: S3Keys, ids: Callable[[], str]) -> Keyring:
    roots = Watched(config.secret_path("key_encryption_keys"), parse_roots, private=config.production)
    return Keyring(keys, roots, ids, remember_seconds=config.key_cache_seconds)
