"""One host at a time works on the repository: what becomes of the lock in a real Postgres that is asked in vain."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from services.backup.domain.errors import BackupBusy, EngineAway
from services.backup.domain.schedule import Task
from tests.support.backup import Archived
from tests.support.keeping import Keeper, wrapper
from tests.support.waiting import until

_HELD = "locktype = 'advisory' AND granted"
_KEY = f"SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE {_HELD}"


@pytest.fixture
def slow(own_cluster: Archived) -> Iterator[Path]:
    """What pgBackRest's backups and expiries are instead: each writes its process id here and never ends."""
    program, begun = wrapper(own_cluster.base), own_cluster.base / "begun"
    was = program.read_text(encoding="utf-8")
    waits = f'case " $* " in *" backup "*|*" expire "*) echo $$ > {begun}; exec sleep 600;; esac'
    program.write_text(was.replace("\n", f"\n{waits}\n", 1), encoding="utf-8")
    yield begun
    program.write_text(was, encoding="utf-8")
    begun.unlink(missing_ok=True)


def told(cluster: Archived, statement: str) -> Any:
    """The first value a superuser is answered, None without one."""
    with cluster.cluster.admin(cluster.cluster.database) as connection:
        done = connection.execute(statement.encode())
        row = done.fetchone() if done.description else None
        return row[0] if row else None


def end_holder(cluster: Archived) -> None:
    """End the session that holds the lock."""
    assert told(cluster, f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE {_HELD}")


def lives(begun: Path) -> bool:
    """Whether the process that wrote its id to *begun* is there."""
    return Path(f"/proc/{begun.read_text(encoding='utf-8').strip()}").exists()


async def queue(cluster: Archived) -> tuple[psycopg.AsyncConnection[Any], "asyncio.Task[Any]"]:
    """Another host's session that gets the lock as soon as its holder's ends."""
    session = await psycopg.AsyncConnection.connect(
        host=str(cluster.cluster.socket_dir),
        port=cluster.cluster.port,
        dbname=cluster.cluster.database,
        user="postgres",
        application_name="holdfast-backup expire",
        autocommit=True,
    )
    getting = asyncio.create_task(session.execute("SELECT pg_advisory_lock(%s)", [told(cluster, _KEY)]))
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    await until(lambda: told(cluster, waits) == 1, "waiting for the lock")
    return session, getting


async def test_a_lock_that_is_held_is_busy_also_when_nobody_says_by_whom(
    one: Keeper, two: Keeper, own_cluster: Archived
) -> None:
    """The refusal was taken for a Postgres that is away, and the work began."""
    lock = one.exclusive()
    await lock.take("backup 7")
    told(own_cluster, "REVOKE SELECT ON pg_stat_activity FROM PUBLIC")
    with pytest.raises(BackupBusy, match="on another host"):
        await two.exclusive().take("expire")
    await lock.free()
    other = two.exclusive()
    await other.take("expire")
    await other.free()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("CONNECTION LIMIT 0", "too many connections"),
        ("PASSWORD 'another'", "password authentication failed"),
        ("NOLOGIN", "not permitted to log in"),
    ],
)
async def test_a_postgres_that_answers_and_refuses_us_is_not_away(
    change: str, words: str, one: Keeper, two: Keeper, own_cluster: Archived
) -> None:
    """Another host may hold the lock there: one began beside it."""
    lock, other = one.exclusive(), two.exclusive()
    await lock.take("backup 7")
    told(own_cluster, f"ALTER ROLE holdfast_backup {change}")
    with pytest.raises(EngineAway, match=words):
        await other.take("expire")
    await lock.free()
    assert not other.shared
    # The machine's lock was let go of.
    own_cluster.stop()
    await other.take("expire")
    await other.free()


@pytest.mark.parametrize(("task", "condition"), [(Task.EXPIRE, "expire_failing"), (Task.FULL, "backup_failing")])
async def test_work_whose_lock_went_to_another_host_is_broken_off_and_has_failed(
    task: Task, condition: str, one: Keeper, own_cluster: Archived, slow: Path
) -> None:
    """It went on beside the other, and was recorded as good."""
    one.kept.scheduler.ask(task)
    looking = asyncio.create_task(one.kept.scheduler.look())
    await until(lambda: slow.exists() and lives(slow), "the engine's start")
    session, getting = await queue(own_cluster)
    try:
        with capture_logs() as logs:
            end_holder(own_cluster)
            await until(looking.done, "the end of the work")
        assert await looking is task
        assert "Busy: expire is running on another host" in one.conditions()[condition]
        assert "lock_lost" in [line["event"] for line in logs]
        assert not lives(slow)
        assert not one.kept.scheduler.attempts[task].ok
    finally:
        looking.cancel()
        await asyncio.gather(looking, getting, return_exceptions=True)
        await session.close()
    lock = one.exclusive()
    await lock.take("verify")
    await lock.free()


async def test_work_is_not_begun_when_its_lock_has_gone_before(one: Keeper, own_cluster: Archived) -> None:
    lock, begun = one.exclusive(), asyncio.Event()

    async def work() -> None:
        begun.set()

    await lock.take("backup 7")
    session, getting = await queue(own_cluster)
    try:
        end_holder(own_cluster)
        await until(lambda: "lock" not in [task.get_name() for task in asyncio.all_tasks()], "the watcher's end")
        with pytest.raises(EngineAway, match="this host had lost the repository's lock"):
            await lock.guard(work())
        assert not begun.is_set()
    finally:
        await asyncio.gather(getting, return_exceptions=True)
        await session.close()
        await lock.free()
    await lock.take("backup 7")
    await lock.guard(work())
    assert begun.is_set()
    await lock.free()


async def test_a_lost_lock_that_is_free_is_taken_again_and_told_of(
    one: Keeper, two: Keeper, own_cluster: Archived
) -> None:
    lock = one.exclusive()
    await lock.take("backup 7")
    work = asyncio.create_task(lock.guard(asyncio.sleep(600)))
    with capture_logs() as logs:
        end_holder(own_cluster)
        await until(lambda: "lock_taken_again" in [line["event"] for line in logs], "a second lock")
    of_lock = [line["event"] for line in logs if line["event"].startswith("lock_")]
    assert of_lock == ["lock_lost", "lock_taken_again"]
    with pytest.raises(BackupBusy, match="backup 7 is running on another host"):
        await two.exclusive().take("expire")
    assert not work.done()
    work.cancel()
    await asyncio.wait({work})
    assert work.cancelled()
    await lock.free()


async def test_a_lock_is_freed_also_by_a_task_that_is_being_cancelled(one: Keeper, two: Keeper) -> None:
    lock, other = one.exclusive(), two.exclusive()
    await lock.take("backup 7")

    async def freed() -> None:
        asyncio.current_task().cancel()  # type: ignore[union-attr]  # there is one
        await lock.free()

    ending = asyncio.create_task(freed())
    await asyncio.wait({ending})
    assert ending.cancelled()

    async def taken() -> bool:
        with suppress(BackupBusy):
            await other.take("expire")
            return True
        return False

    await until(taken, "the end of the first session")
    await other.free()


async def test_work_goes_on_while_postgres_is_away_and_has_the_lock_when_it_is_back(
    one: Keeper, two: Keeper, own_cluster: Archived
) -> None:
    held, begun_without = one.exclusive(), two.exclusive()
    await held.take("verify")
    work = asyncio.create_task(held.guard(asyncio.sleep(600)))
    own_cluster.stop()
    await until(lambda: not held.shared, "the loss of the lock")
    own_cluster.start()
    await until(lambda: held.shared, "the lock's return")
    assert not work.done()
    # Begun while nobody could be asked, and broken off as soon as somebody can.
    own_cluster.stop()
    await begun_without.take("expire")
    other = asyncio.create_task(begun_without.guard(asyncio.sleep(600)))
    own_cluster.start()
    done, _ = await asyncio.wait({work, other}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    with pytest.raises(EngineAway, match="is running on another host"):
        await done.pop()
    work.cancel()
    other.cancel()
    await asyncio.gather(work, other, return_exceptions=True)
    await held.free()
    await begun_without.free()
