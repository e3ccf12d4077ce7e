"""What keeps backups, in this process: a cluster and a repository of its own, a clock the test sets, real pgBackRest.

The engine runs as the user Postgres runs as; everything else is this process. Tests here break repositories, which is
why they share neither cluster nor repository with the others.
"""

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from deploy.stack.postgres import Cluster, binaries
from libs import ids
from libs.db import Database
from libs.observability.metric import Metrics, exposition
from services.backup.adapters.circumstances import Circumstances
from services.backup.adapters.exclusive import Exclusive
from services.backup.adapters.journal import Journal
from services.backup.adapters.ledger import Ledger
from services.backup.adapters.lock import EngineLock
from services.backup.adapters.pgbackrest import PgBackRest
from services.backup.domain.backup import Backup
from services.backup.domain.repository import BackupType, Stored
from services.backup.domain.schedule import Rules
from services.backup.ops.attester import Attester
from services.backup.ops.backups import Backups
from services.backup.ops.evidence import Evidence
from services.backup.ops.guard import Guard
from services.backup.ops.heartbeats import Heartbeats
from services.backup.ops.keeping import Keeping, Means, keeping
from services.backup.ops.record import Recorder
from tests.support import evidence as signed
from tests.support.backup import HEARTBEAT_KEY, STANZA, Archived, become, make
from tests.support.postgres import PASSWORDS, Login, Password, _ensure_user
from tests.support.scratch import scratch
from tests.support.waiting import DEADLINE_SECONDS, until

_SINCE_FULL = timedelta(minutes=30)


def rules() -> Rules:
    """Half an hour into a full backup's slot, at whatever time of day tests run: the next slot is hours away."""
    now = datetime.now(UTC)
    day = timedelta(hours=now.hour, minutes=now.minute, seconds=now.second)
    return Rules(
        full_at=(day - _SINCE_FULL) % timedelta(days=1),
        window=timedelta(0),
        between=timedelta(hours=6),
        first_full=timedelta(0),
        expire=timedelta(hours=6),
        verify=timedelta(days=1),
    )


@dataclass(slots=True)
class Clock:
    """Real time, and what the test adds to it."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def wrapper(base: Path) -> Path:
    """A program that is pgbackrest run by the user Postgres runs as."""
    path = base / "pgbackrest"
    if not path.exists():
        path.write_text(f'#!/bin/sh\nexec {" ".join(become())} pgbackrest "$@"\n', encoding="utf-8")
        path.chmod(0o755)
    return path


def login(cluster: Cluster) -> Login:
    """The service's own login."""
    return Login(
        service="backup",
        database_host=str(cluster.socket_dir),
        database_port=cluster.port,
        database_name=cluster.database,
        database_user="holdfast_backup",
        database_password=Password(PASSWORDS["holdfast_backup"]),
    )


@dataclass(slots=True)
class Keeper:
    """One instance of what keeps backups, with a state directory of its own: as on a host of its own."""

    archived: Archived
    state: Path
    engine: PgBackRest
    clock: Clock
    database: Database
    heartbeats: Heartbeats
    evidence: Evidence
    backups: Backups
    metrics: Metrics
    kept: Keeping
    exclusive: "partial[Exclusive]"

    def figure(self, name: str) -> float:
        """The value of one series of the metrics, labels included in *name*."""
        lines = exposition(self.metrics.registry).decode().splitlines()
        (found,) = [line for line in lines if line.rpartition(" ")[0] == f"holdfast_backup_{name}"]
        return float(found.rpartition(" ")[2])

    def conditions(self) -> dict[str, str]:
        """What stands wrong, by name."""
        return {one.name.value: one.text for one in self.kept.conditions.standing()}

    async def full(self) -> Stored:
        """A full backup, taken past everything that is tested."""
        return await self.engine.backup(BackupType.FULL, _nothing)

    async def advance(self, count: int = 1) -> None:
        """*count* heartbeats, each in a segment of its own that is archived."""
        for _ in range(count):
            await self.heartbeats.beat()
            with self.archived.cluster.admin(self.archived.cluster.database) as connection:
                row = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
            assert row is not None
            await until(lambda name=str(row[0]): self._archived(name), f"archiving of {row[0]}")  # type: ignore[misc]  # lambda

    async def _archived(self, name: str) -> bool:
        return (await self.engine.inspect()).archive_max >= name

    def segment(self, number: int) -> Path:
        """The object of the archive's segment of this position."""
        (found,) = self.archived.repository.rglob(f"00000001{0:08X}{number:08X}-*")
        return found


def _nothing(_: float) -> None:
    return


def keeper(
    archived: Archived,
    name: str,
    *,
    clock: Clock | None = None,
    stanza: str = STANZA,
    configs: tuple[Path, Path, Path] | None = None,
    io_seconds: int = 60,
) -> Keeper:
    """A new instance; two of them are two hosts. configs: of the identities that add, read and delete."""
    state, clock = archived.base / f"keeper-{name}", clock or Clock()
    state.mkdir(mode=0o700)
    files = configs or (archived.config, archived.config, archived.config)
    engine = PgBackRest(str(wrapper(archived.base)), stanza, *files, io_seconds=io_seconds)
    database, metrics = Database.connect(login(archived.cluster)), Metrics()
    heartbeats = Heartbeats(
        database,
        Ledger(state / "heartbeats"),
        guard=Guard(database),
        key=HEARTBEAT_KEY,
        period_seconds=60,
        now=clock,
    )
    evidence = Evidence(signed.journal(state / "evidence"), [], period_seconds=60, now=clock)
    evidence.journal.load()
    recorder = Recorder(database)
    lock = partial(EngineLock, state / "engine.lock")
    exclusive = partial(Exclusive, lock, database.settings(), stanza, binaries())
    attester = Attester(evidence, Circumstances(engine, Path("/usr/bin"), {}))
    backups = Backups(
        engine, Journal(state / "backups", Backup.from_json), exclusive, recorder, attester, now=clock, ids=ids.new_id
    )
    means = Means(database, engine, exclusive, heartbeats, evidence, recorder, metrics, state, clock)
    kept = keeping(means, backups, rules(), inventory=timedelta(minutes=15), seed=STANZA, enabled=True)
    return Keeper(archived, state, engine, clock, database, heartbeats, evidence, backups, metrics, kept, exclusive)


@pytest.fixture(scope="session")
def mould() -> Iterator[Archived]:
    """A migrated, archiving cluster with its stanza made, stopped; `own_cluster` is a copy of it in the same place."""
    _ensure_user("holdfast")
    with scratch("k") as base:
        found = make(base)
        found.cluster = replace(found.cluster, settings={**found.cluster.settings, "fsync": "off"})
        found.cluster.initialise()
        found.start()
        try:
            found.cluster.bootstrap(PASSWORDS)
            found.cluster.migrate(PASSWORDS["holdfast_owner"])
            found.pgbackrest("stanza-create")
        finally:
            found.stop()
        found.state.rename(base / "mould")
        yield found


@pytest.fixture
def own_cluster(mould: Archived) -> Iterator[Archived]:
    """This test's own cluster and repository."""
    subprocess.run(["cp", "-a", mould.base / "mould", mould.state], check=True)
    mould.start()
    try:
        yield mould
    finally:
        if mould.server is not None:
            # In order it would wait for the archive, which a test may have broken.
            mould.cluster.stop(mould.server, immediate=True)
            mould.server = None
        for made in (mould.state, *mould.base.glob("keeper-*")):
            _remove(made)


def _remove(folder: Path) -> None:
    """An archive command that outlives its server may write there for another moment."""
    until = time.monotonic() + DEADLINE_SECONDS
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=time.monotonic() < until)


async def gather(*keepers: Keeper) -> list[object]:
    """One look of each scheduler, all at once."""
    return list(await asyncio.gather(*(one.kept.scheduler.look() for one in keepers)))


@pytest.fixture
async def one(own_cluster: Archived) -> AsyncIterator[Keeper]:
    """What keeps the repository of a cluster of its own."""
    made = keeper(own_cluster, "one")
    yield made
    await made.database.stop()


@pytest.fixture
async def two(own_cluster: Archived) -> AsyncIterator[Keeper]:
    """The same on another host."""
    made = keeper(own_cluster, "two")
    yield made
    await made.database.stop()
