"""A real restore in place, to a moment before the newest heartbeats: what had been done since is not done again."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

import grpc
import pytest
from click.testing import CliRunner, Result

from holdfast.backup.v1 import backup_service_pb2 as backup_pb
from holdfast.cli import main
from holdfast.jobs.v1 import job_service_pb2 as pb
from holdfast.jobs.v1.job_service_pb2_grpc import JobServiceStub
from libs.db import Database, Limits
from libs.jobqueue import put
from libs.jobqueue.claim import Claimer
from libs.jobqueue.completion import Told, settle
from libs.principal import User
from tests.jobs.samples import SendNote
from tests.support.backup import Archived, Operator, Service, make, wait_until
from tests.support.postgres import PASSWORDS, Login, Password
from tests.support.scratch import scratch

ANNA = User("oak", "anna")


@pytest.fixture
def alone(archived: Archived) -> Iterator[Archived]:
    """A cluster of this test's own, because it is to be restored; `archived` has installed what the service runs."""
    with scratch("r") as base:
        made = make(base)
        try:
            made.cluster.initialise()
            made.start()
            made.cluster.bootstrap(PASSWORDS)
            made.cluster.migrate(PASSWORDS["holdfast_owner"])
            made.pgbackrest("stanza-create")
            yield made
        finally:
            made.stop()


@asynccontextmanager
async def files(archived: Archived) -> AsyncIterator[Database]:
    """The files service's way in."""
    cluster = archived.cluster
    login = Login(
        service="files", database_host=str(cluster.socket_dir), database_port=cluster.port,
        database_name=cluster.database, database_user="holdfast_files",
        database_password=Password(PASSWORDS["holdfast_files"]),
    )  # fmt: skip
    made = Database.connect(login, limits=Limits(connections=2))
    try:
        yield made
    finally:
        await made.stop()


def rows(archived: Archived, query: str) -> list[tuple[Any, ...]]:
    with archived.cluster.admin(archived.cluster.database) as admin:
        return admin.execute(query.encode()).fetchall()


def epoch(archived: Archived) -> str:
    [(found,)] = rows(archived, "SELECT epoch FROM events.epoch")
    return str(found)


def restore(archived: Archived, at: datetime) -> None:
    """Put the cluster back to *at*, and let it serve."""
    archived.stop()
    target = f"--target={at.isoformat(sep=' ')}"
    archived.pgbackrest("restore", "--delta", "--type=time", target, "--target-action=promote")
    archived.start()
    wait_until(lambda: rows(archived, "SELECT pg_is_in_recovery()") == [(False,)], "the end of recovery")


async def call(service: Service, *words: str) -> Result:
    arguments = ["jobs", *words, "--socket", str(service.operator_socket)]
    return await asyncio.to_thread(CliRunner().invoke, main, arguments)


async def put_note(archived: Archived, text: str) -> str:
    async with files(archived) as db, db.begin(ANNA) as tx:
        return await put(tx, SendNote(text))


async def claimed(archived: Archived) -> list[str]:
    """Claim what can be claimed, and finish it."""
    async with files(archived) as db:
        found = await Claimer(db, "files", "w1").claim(10)
        if found:
            await settle(db, "files", [Told(one.lease, one.type, "done") for one in found])
        return [one.lease.job_id for one in found]


def guard(service: Service) -> pb.Guard:
    with grpc.insecure_channel(f"unix:{service.operator_socket}") as channel:
        return JobServiceStub(channel).GetGuard(pb.GetGuardRequest(), timeout=20).guard


def warnings(service: Service) -> str:
    with Operator(service) as operator:
        return "\n".join(operator.status().warnings)


class Past(NamedTuple):
    """moment: before `done` was done and `lost` was put. known: the newest heartbeat after that."""

    moment: datetime
    done: str
    lost: str
    known: int


async def live(service: Service) -> Past:
    """What happens before the loss; the service has ended when this returns."""
    alone = service.archived
    service.start()
    with Operator(service) as operator:
        taken = operator.back_up(backup_pb.BACKUP_TYPE_FULL)
        assert taken.state == backup_pb.STATE_SUCCEEDED
        # The engine chooses a backup by whole seconds.
        wait_until(lambda: time.time() > taken.end_time.seconds + 2, "a second after the backup")
        done = await put_note(alone, "done after the moment that is restored")
        operator.status(advance=True)
        [(moment,)] = rows(alone, "SELECT clock_timestamp()")
        operator.status(advance=True)
        # The control: before the restore the same claim finds the job.
        assert await claimed(alone) == [done]
        lost = await put_note(alone, "put after the moment that is restored")
        known = operator.status(advance=True).newest_heartbeat
    assert service.stop() == 0
    return Past(moment, done, lost, known)


@pytest.mark.control("B6", "no job of a restored database runs before an operator has released it")
@pytest.mark.control("B6", "the event epoch is bumped after a restore")
async def test_jobs_of_a_really_restored_database_wait_for_an_operator(alone: Archived) -> None:
    service = Service(alone, "jobs")
    first = epoch(alone)
    past = await live(service)
    assert epoch(alone) == first
    restore(alone, past.moment)
    assert rows(alone, "SELECT id, state FROM jobs.jobs") == [(past.done, "ready")]
    # Nobody has compared heartbeats yet, but the timeline is another one.
    assert await claimed(alone) == []
    assert epoch(alone) == first
    service.start()
    try:
        wait_until(lambda: guard(service).quarantined_jobs == 1, "the quarantine")
        held = guard(service)
        assert (held.state, held.jobs_may_run) == (pb.GUARD_STATE_HELD, False)
        assert str(past.known) in held.reason
        second = epoch(alone)
        assert second != first  # before anybody has released anything: events are appended meanwhile
        assert held.database_timeline == held.timeline + 1
        assert await claimed(alone) == []
        assert (await call(service, "guard")).exit_code == 1
        assert "No job runs" in warnings(service)
        assert past.done in (await call(service, "list", "--state", "quarantined")).stdout
        assert (await call(service, "release", "--requeue", "--yes")).exit_code == 0
        assert await claimed(alone) == [past.done]
        assert past.lost not in (await call(service, "list")).stdout
    finally:
        code = service.stop()
    assert code == 0, service.log.read_text()[-4000:]
    # What the ledger knew of the lost future holds nothing up any more.
    service.start()
    assert guard(service).jobs_may_run
    assert "No job runs" not in warnings(service)
    assert service.stop() == 0
    assert epoch(alone) == second
