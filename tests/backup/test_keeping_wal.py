"""WAL that is lost where no gap shows it, and WAL that waits for nobody: on a real archiving cluster."""

from datetime import timedelta

from services.backup.domain.schedule import Task
from services.backup.domain.status import window
from tests.support.keeping import Keeper
from tests.support.waiting import until


async def test_the_only_backup_without_its_own_wal_is_no_restorable_time_and_verification_says_so(one: Keeper) -> None:
    stored = await one.full()
    await one.advance(2)
    await one.kept.watch.look()
    assert one.kept.watch.open == []
    one.segment(int(stored.wal_start[16:], 16)).unlink()

    one.kept.scheduler.ask(Task.VERIFY)
    assert await one.kept.scheduler.look() is Task.VERIFY
    words = f"backup {stored.label} needs WAL segment {stored.wal_start}, which is not there"
    assert words in one.conditions()["repository_damaged"]
    one.clock.ahead = timedelta(minutes=16)
    await one.kept.watch.look()
    sample = await one.kept.watch.look()
    assert sample.broken
    assert [breach.first for breach in one.kept.watch.open] == [stored.wal_start]
    assert (sample.exposure_seconds, one.figure("rpo_exposure_seconds")) == (None, float("inf"))

    assert await one.kept.scheduler.look() is Task.FULL
    assert not (await one.kept.watch.look()).broken
    (ended,) = one.kept.watch.breaches
    seen = one.kept.watch.limited(window(await one.engine.inspect(), await one.heartbeats.recent(), now=one.clock()))
    assert ended.lost_until is not None
    assert seen.earliest == ended.lost_until + timedelta(seconds=1)


async def test_a_hole_that_grows_after_it_was_healed_is_found_again(one: Keeper) -> None:
    await one.full()
    await one.advance(3)
    one.segment(int((await one.engine.inspect()).archive_max[16:], 16) - 1).unlink()
    await one.kept.watch.look()
    assert (await one.kept.watch.look()).broken
    (first,) = one.kept.watch.open
    assert await one.kept.scheduler.look() is Task.FULL
    await one.advance()
    healing = (await one.engine.inspect()).fulls()[-1]
    for number in range(int(first.last[16:], 16) + 1, int(healing.wal_start[16:], 16) + 1):
        one.segment(number).unlink()

    one.clock.ahead = timedelta(minutes=16)
    await one.kept.watch.look()
    assert (await one.kept.watch.look()).broken
    assert [breach.last for breach in one.kept.watch.open] == [healing.wal_start]


async def test_a_segment_that_the_server_does_not_end_by_itself_is_ended(one: Keeper) -> None:
    # After a clean start PostgreSQL 15 looks at archive_timeout only once checkpoint_timeout has passed.
    await one.full()
    await one.advance()
    with one.archived.cluster.admin(one.archived.cluster.database) as connection:
        connection.execute("UPDATE backup.heartbeats SET created_at = created_at - interval '3 minutes'")
    beat = await one.heartbeats.beat()
    assert beat is not None

    async def archived() -> bool:
        await one.kept.watch.look()  # does nothing while the server still has something to archive
        return (await one.engine.inspect()).archive_max >= beat.wal

    await until(archived, "archiving of the segment that nobody had ended")
    before = await one.heartbeats.beat()
    assert before is not None
    await one.kept.watch.look()
    with one.archived.cluster.admin(one.archived.cluster.database) as connection:
        row = connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone()
    assert row == (before.wal,)
