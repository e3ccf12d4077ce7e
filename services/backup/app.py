"""The composition root: every part of the backup service, in the order they start."""

import functools
import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from holdfast.backup.v1 import (
    backup_service_pb2,
    backup_service_pb2_grpc,
    evidence_service_pb2,
    evidence_service_pb2_grpc,
    upkeep_service_pb2,
    upkeep_service_pb2_grpc,
)
from holdfast.jobs.v1 import job_service_pb2, job_service_pb2_grpc
from holdfast.usertoken import Verifier, parse_keys
from libs import clock, page, process
from libs import ids as ids_
from libs.db import Database
from libs.observability import trace
from libs.observability.metric import Metrics, MetricsServer
from libs.rpc.health import Health, Monitor
from libs.rpc.operator import Front, operators
from libs.rpc.server import Limits, Served, Server
from libs.secret import Watched
from services.backup.adapters.circumstances import Circumstances
from services.backup.adapters.copy import Servers
from services.backup.adapters.escrow import Escrow
from services.backup.adapters.evidence_journal import EvidenceJournal
from services.backup.adapters.exclusive import Exclusive
from services.backup.adapters.isolation import Isolation
from services.backup.adapters.journal import Journal
from services.backup.adapters.ledger import Ledger
from services.backup.adapters.lock import EngineLock
from services.backup.adapters.objects import Store
from services.backup.adapters.offsite import Bucket, Offsite
from services.backup.adapters.pgbackrest import PgBackRest
from services.backup.adapters.rescue import CONFIG, none, rescuer
from services.backup.adapters.smoke import Smoke
from services.backup.config import Config
from services.backup.domain.backup import Backup
from services.backup.domain.drill import Drill, Kind
from services.backup.domain.escrow import proven_at
from services.backup.domain.evidence import Signer
from services.backup.domain.schedule import Rules
from services.backup.ops import evidence_figures, forecast_figures
from services.backup.ops.attester import Attester
from services.backup.ops.backups import Backups
from services.backup.ops.drill_figures import DrillFigures
from services.backup.ops.drills import Drills
from services.backup.ops.escrow_figures import EscrowFigures
from services.backup.ops.evidence import Evidence, Mirror
from services.backup.ops.evidence_chains import EvidenceChains
from services.backup.ops.evidence_mirrors import DatabaseMirror, StoreMirror
from services.backup.ops.evidence_reader import EvidenceReader
from services.backup.ops.guard import Guard
from services.backup.ops.heartbeats import Heartbeats
from services.backup.ops.jobs import Jobs
from services.backup.ops.keeper import Keeper
from services.backup.ops.keeping import Keeping, Means, keeping
from services.backup.ops.marks import Marks
from services.backup.ops.record import Recorder
from services.backup.ops.recovery import Recovery
from services.backup.ops.run import Tools
from services.backup.ops.timetable import Timetable
from services.backup.rpc.backups import BackupServicer
from services.backup.rpc.drills import DrillServicer
from services.backup.rpc.evidence import EvidenceServicer
from services.backup.rpc.jobs import JobServicer
from services.backup.rpc.upkeep import UpkeepServicer

# Advancing the archive waits for it; every other call is short.
_CALL_MARGIN_SECONDS = 30.0


def build(config: Config, *, now: clock.Clock = clock.now, ids: Callable[[], str] = ids_.new_id) -> process.App:
    """The service as *config* wants it; nothing has started."""
    database = Database.connect(config)
    guard = Guard(database)
    lock, engine = functools.partial(EngineLock, Path(config.state_dir) / "engine.lock"), _engine(config)
    means = _means(config, database, engine, guard, lock, now)
    attester = Attester(means.evidence, _circumstances(config, engine))
    taken, drilled = _journals(means.state)
    backups = Backups(engine, taken, means.lock, means.recorder, attester, now=now, ids=ids)
    tools, figures = _tools(config, engine, means.state), DrillFigures(means.metrics)
    drills = Drills(
        tools, drilled, lock, means.heartbeats, means.recorder, backups.label, figures, attester, now=now, ids=ids
    )  # fmt: skip
    kept = _keeping(config, means, backups)
    drills.breaches = lambda: kept.watch.breaches
    recovery = _recovery(config, means, guard, backups, drills, kept)
    evidence_figures.show(means.metrics, means.evidence)
    forecast_figures.show(means.metrics, kept.watch, drills, now=now)
    tokens, health = page.Tokens(config.page_key.reveal()), Health()
    reader = EvidenceServicer(EvidenceReader(means.evidence, EvidenceChains(database), means.recorder, now=now))
    served = _served(BackupServicer(backups, recovery, tokens), DrillServicer(drills, tokens), reader)
    served += [_served_upkeep(kept, means.recorder, now), _served_jobs(database, guard, tokens)]
    tracer = trace.configure(config.service, config.otlp_endpoint, ratio=config.trace_ratio)
    parts: list[process.Part] = [
        tracer,
        database,
        means.evidence,
        Keeper(EngineLock(means.state / "service.lock"), lock, backups, drills, tools),
        kept.watch,
        kept.scheduler,
        _timetable(config, means, drills, figures),
        guard,
        means.heartbeats,
        _marks(config, database, means.metrics, now),
        Monitor(health, {"database": database.check}),
        *_doors(config, served, means.metrics, health, tracer, now),
        MetricsServer(config.metrics_address, means.metrics.registry),
    ]
    notice_seconds = config.edge_notice_seconds
    return process.App("backup", parts, edge_notice_seconds=notice_seconds, drain_seconds=config.drain_seconds)


def _means(
    config: Config,
    database: Database,
    engine: PgBackRest,
    guard: Guard,
    lock: Callable[[], EngineLock],
    now: clock.Clock,
) -> Means:
    """What everything here works with."""
    state = Path(config.state_dir)
    binaries = Path(config.postgres_binaries)
    exclusive = functools.partial(Exclusive, lock, database.settings(), config.stanza, binaries)
    beats = Heartbeats(
        database,
        Ledger(state / "heartbeats"),
        guard=guard,
        key=config.heartbeat_key.reveal(),
        period_seconds=config.heartbeat_seconds,
        now=now,
    )
    evidence = _evidence(config, state, database, now)
    return Means(database, engine, exclusive, beats, evidence, Recorder(database), Metrics(), state, now)


def _journals(state: Path) -> tuple[Journal[Backup], Journal[Drill]]:
    return Journal(state / "backups", Backup.from_json), Journal(state / "drills", Drill.from_json)


def _recovery(config: Config, means: Means, guard: Guard, backups: Backups, drills: Drills, kept: Keeping) -> Recovery:
    escrow = Escrow(Path(config.escrow_records) if config.escrow_records else None)
    EscrowFigures(means.metrics, escrow, lambda: proven_at(drills.list()))
    return Recovery(
        means.database,
        means.engine,
        means.heartbeats,
        guard,
        backups,
        drills,
        means.evidence,
        escrow,
        kept.watch,
        kept.conditions,
        state=means.state,
        archive_wait_seconds=config.archive_wait_seconds,
        now=means.now,
    )


def _timetable(config: Config, means: Means, drills: Drills, figures: DrillFigures) -> Timetable:
    jitter = _seconds(config.drill_jitter_seconds)
    return Timetable(drills, means.engine, figures, every=_every(config), jitter=jitter, now=means.now)


def _marks(config: Config, database: Database, metrics: Metrics, now: clock.Clock) -> Marks:
    told = metrics.gauge(
        "holdfast_backup_mark_timestamp_seconds",
        "When the newest period's high-water mark was there; the service's start before the first, NaN without marks.",
    )
    told.set(math.nan)
    period, key = config.marks_seconds, config.heartbeat_key.reveal()
    return Marks(database, key=key, period_seconds=period, taken=lambda at: told.set(at.timestamp()), now=now)


def _engine(config: Config) -> PgBackRest:
    written = Path(config.pgbackrest_config)
    read = Path(config.pgbackrest_drill_config or config.pgbackrest_config)
    return PgBackRest(
        config.pgbackrest_program,
        config.stanza,
        config=written,
        restore_config=read,
        expire_config=Path(config.pgbackrest_expire_config or config.pgbackrest_config),
        retention_days=config.retention_days,
        io_seconds=config.engine_io_seconds,
    )


def _evidence(config: Config, state: Path, database: Database, now: clock.Clock) -> Evidence:
    journal = EvidenceJournal(state / "evidence", Signer(config.evidence_key.reveal()))
    mirrors: list[Mirror] = [DatabaseMirror(database)]
    if config.evidence_endpoint:
        bucket = Bucket(
            endpoint=config.evidence_endpoint,
            region=config.evidence_region,
            name=config.evidence_bucket,
            ca_file=config.evidence_ca_file,
            access_key=config.evidence_access_key,
            secret_key=config.evidence_secret_key,
        )
        mirrors.append(StoreMirror(Offsite(bucket, state / "evidence" / "offsite.json"), now=now))
    return Evidence(journal, mirrors, period_seconds=config.evidence_seconds, now=now)


def _keeping(config: Config, means: Means, backups: Backups) -> Keeping:
    hours, minutes = (int(part) for part in config.full_backup_at.split(":"))
    rules = Rules(
        full_at=timedelta(hours=hours, minutes=minutes),
        window=_seconds(config.full_backup_window_seconds),
        between=_seconds(config.differential_seconds),
        first_full=_seconds(config.first_backup_seconds),
        expire=_seconds(config.expire_seconds),
        verify=_seconds(config.verify_seconds),
    )
    inventory = _seconds(config.inventory_seconds)
    return keeping(means, backups, rules, inventory=inventory, seed=config.stanza, enabled=config.schedule)


def _every(config: Config) -> dict[Kind, timedelta]:
    """Which drills run by themselves, and how often; the rare one goes first when both are due."""
    wanted = {Kind.DEEP: config.drill_deep_seconds, Kind.LIGHT: config.drill_light_seconds}
    return {kind: _seconds(seconds) for kind, seconds in wanted.items() if seconds}


def _seconds(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def _circumstances(config: Config, engine: PgBackRest) -> Circumstances:
    configs = {"engine": engine.config, "engine_read": engine.restore_config}
    return Circumstances(engine, Path(config.postgres_binaries), configs)


def _tools(config: Config, engine: PgBackRest, state: Path) -> Tools:
    files = [config.pgbackrest_config, config.pgbackrest_expire_config, config.pgbackrest_drill_config]
    hidden = [*config.hidden_paths, str(state), config.run_dir, config.secrets_dir, *files, config.database_host]
    hidden.append(config.escrow_opened)
    servers = Servers(
        binaries=Path(config.postgres_binaries),
        superuser=config.postgres_superuser,
        database=config.database_name,
        isolation=Isolation.unknown(),
        hidden=tuple(Path(path) for path in hidden if path.startswith("/")),
        recovery_seconds=config.recovery_seconds,
    )
    socket = f"{config.database_host}/.s.PGSQL.{config.database_port}"
    production = f"unix:{socket}" if socket.startswith("/") else f"tcp:{config.database_host}:{config.database_port}"
    outside = [production, f"file:{config.pgbackrest_config}", *config.drill_probes]
    if config.escrow_opened:
        outside.append(f"file:{config.escrow_opened}/{CONFIG}")
    copies = state / "copies"
    return Tools(
        engine=engine,
        servers=servers,
        drills_dir=copies,
        run_dir=Path(config.run_dir),
        key=config.heartbeat_key.reveal(),
        outside=tuple(outside),
        spare_bytes=config.drill_spare_bytes,
        store=_store(config),
        smoke=_smoke(config),
        rescue=rescuer(Path(config.escrow_opened), engine) if config.escrow_opened else none,
    )


def _smoke(config: Config) -> Smoke:
    secrets, canary = (Path(text) if text else None for text in (config.smoke_secrets, config.smoke_canary))
    return Smoke(secrets, canary, config.smoke_seconds)


def _store(config: Config) -> Store:
    return Store(
        endpoint=config.files_endpoint,
        region=config.files_region,
        bucket=config.files_bucket,
        ca_file=config.files_ca_file,
        access_key=config.files_access_key,
        secret_key=config.files_secret_key,
        keys_bucket=config.keys_bucket,
        keys_access_key=config.keys_access_key,
        keys_secret_key=config.keys_secret_key,
    )


def _served(backups: BackupServicer, drills: DrillServicer, evidence: EvidenceServicer) -> list[Served]:
    services = backup_service_pb2.DESCRIPTOR.services_by_name
    kept = evidence_service_pb2.DESCRIPTOR.services_by_name["EvidenceService"]
    return [
        (backup_service_pb2_grpc.add_BackupServiceServicer_to_server, backups, services["BackupService"]),
        (backup_service_pb2_grpc.add_DrillServiceServicer_to_server, drills, services["DrillService"]),
        (evidence_service_pb2_grpc.add_EvidenceServiceServicer_to_server, evidence, kept),
    ]


def _served_upkeep(kept: Keeping, recorder: Recorder, now: clock.Clock) -> Served:
    servicer = UpkeepServicer(kept.scheduler, kept.watch, kept.conditions, kept.exposures, recorder, now=now)
    service = upkeep_service_pb2.DESCRIPTOR.services_by_name["UpkeepService"]
    return upkeep_service_pb2_grpc.add_UpkeepServiceServicer_to_server, servicer, service


def _served_jobs(database: Database, guard: Guard, tokens: page.Tokens) -> Served:
    servicer = JobServicer(Jobs(database), guard, tokens)
    service = job_service_pb2.DESCRIPTOR.services_by_name["JobService"]
    return (job_service_pb2_grpc.add_JobServiceServicer_to_server, servicer, service)


def _doors(
    config: Config,
    served: list[Served],
    metrics: Metrics,
    health: Health,
    tracer: trace.Tracer,
    now: clock.Clock,
) -> list[process.Part]:
    """gRPC for operators who signed in, and the socket for those of this machine."""
    limits = Limits(unary_seconds=config.archive_wait_seconds + _CALL_MARGIN_SECONDS)
    keys = Watched(config.secret_path("user_token_keys"), parse_keys, private=config.production)
    remote = Server(
        config.grpc_address, served,
        service="backup", verifier=Verifier("backup", keys), health=health, metrics=metrics, limits=limits,
        tracer=tracer, now=now,
    )  # fmt: skip

    def inner(address: str, operator: str) -> process.Part:
        # Its health stands alone: an operator is served when the database is what is broken.
        own = Health()
        return Server(
            address, served,
            service="backup", verifier=None, operator=operator, health=own, metrics=metrics, limits=limits,
            tracer=tracer, now=now,
        )  # fmt: skip

    if not config.operator_socket:
        return [remote]
    return [remote, Front(Path(config.operator_socket), inner, uids=operators(map(int, config.operator_uids)))]
