"""A disk that refuses the journals: long work still ends, its copy goes, and whoever waits is told.

The directory of a journal that has been moved away refuses each write, as a full disk does.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from holdfast.backup.v1 import backup_service_pb2 as pb
from libs.principal import System
from services.backup.domain.progress import State
from services.backup.domain.repository import BackupType
from tests.support.backup import Archived, Operator, Service, refused, service_user
from tests.support.keeping import Keeper, keeper
from tests.support.waiting import DEADLINE_SECONDS


@contextmanager
def refusing(*journals: Path) -> Iterator[None]:
    """Nothing can be written to *journals* meanwhile."""
    for one in journals:
        one.rename(one.with_suffix(".away"))
    try:
        yield
    finally:
        for one in journals:
            one.with_suffix(".away").rename(one)


@pytest.fixture
async def one(own_cluster: Archived) -> AsyncIterator[Keeper]:
    made = keeper(own_cluster, "one")
    yield made
    await made.database.stop()


def test_a_drill_whose_journal_is_refused_still_ends_and_removes_its_copy(service: Service) -> None:
    with Operator(service) as operator:
        assert operator.back_up(pb.BACKUP_TYPE_FULL).state == pb.STATE_SUCCEEDED
        operator.status(advance=True)
        begun = operator.begin_drill()
        with refusing(service.state / "drills"):
            *_, ended = operator.watch(begun.name)
            assert ended.state == pb.STATE_SUCCEEDED, ended
            assert service.leftovers == []
            with refused(grpc.StatusCode.FAILED_PRECONDITION, "DISK_SHORT"):
                operator.begin_drill()
        assert operator.drill().state == pb.STATE_SUCCEEDED


def test_a_service_starts_over_what_it_cannot_read_and_says_where_that_is(service: Service) -> None:
    """A file of root's in a journal, and one bad byte among the heartbeats, had each ended it for ever."""
    beats, refused_to_us = service.state / "heartbeats" / "heartbeats.jsonl", service.state / "drills" / "00.json"
    cut_short = service.state / "drills" / "01.json"
    with Operator(service) as operator:
        newest = operator.status(advance=True).newest_heartbeat
    assert service.stop() == 0
    refused_to_us.touch(mode=0o600)
    cut_short.write_text('{"id": "01', encoding="utf-8")
    os.chown(cut_short, *service_user())
    with beats.open("ab") as file:
        file.write(b"\xff\xfe\n")
    service.start()
    with Operator(service) as operator:
        status = operator.status(advance=True)
        assert status.newest_heartbeat > newest
        (warning,) = [one for one in status.warnings if "cannot be read" in one]
        told = service.log.read_text(encoding="utf-8")
        for name in (str(refused_to_us), str(cut_short.with_suffix(".unreadable")), str(beats)):
            assert name in told
        assert warning.startswith(f"2 documents of this service cannot be read, {refused_to_us} first")
        refused_to_us.unlink()
        cut_short.with_suffix(".unreadable").unlink()
        assert not any("cannot be read" in one for one in operator.status().warnings)


async def test_a_backup_whose_journal_is_refused_ends_for_whoever_watches_it(one: Keeper) -> None:
    begun = await one.backups.create(System("backup"), BackupType.FULL)
    with refusing(one.state / "backups"):
        async with asyncio.timeout(DEADLINE_SECONDS * 3):
            *_, ended = [each async for each in one.backups.watch(begun.id)]
    assert ended.state is State.SUCCEEDED


async def test_a_scheduled_backup_that_the_disk_refuses_is_told_though_that_cannot_be_written_either(
    one: Keeper,
) -> None:
    with refusing(*(one.state / name for name in ("backups", "attempts", "conditions"))):
        await one.kept.scheduler.look()
        assert "Make room in" in one.conditions()["backup_failing"]
        assert one.figure('condition{condition="backup_failing"}') == 1
        assert one.figure('runs_total{outcome="failed",task="full"}') == 1
