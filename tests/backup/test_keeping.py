"""Schedule, retention and the watch, on a real archiving cluster with a real encrypted repository."""

import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from libs.principal import System
from services.backup.domain.errors import BackupBusy, EngineFailed
from services.backup.domain.exposure import minute
from services.backup.domain.plan import STOP_PRECISION
from services.backup.domain.repository import BackupType
from services.backup.domain.schedule import Task
from services.backup.domain.status import window
from services.backup.ops import watch
from tests.support.backup import STANZA, Archived
from tests.support.keeping import Clock, Keeper, gather
from tests.support.waiting import until

DAY = timedelta(days=1)


async def fulls(one: Keeper) -> list[str]:
    return [stored.label for stored in (await one.engine.inspect()).fulls()]


def broken_off(good: Path, left: Path) -> None:
    """Make *left* what *good* would have left, had it been broken off near its end."""
    subprocess.run(["cp", "-a", str(good), str(left)], check=True)
    (left / "backup.manifest").unlink()


@pytest.mark.control("B1", "a full backup is taken every day by itself")
async def test_a_full_backup_is_taken_every_day_by_itself_and_once(one: Keeper) -> None:
    assert await one.kept.scheduler.look() is Task.FULL
    assert len(await fulls(one)) == 1
    assert await one.kept.scheduler.look() is None
    one.clock.ahead = DAY
    done = [await one.kept.scheduler.look() for _ in range(5)]
    assert (done[0], done.count(Task.FULL), done[-1]) == (Task.FULL, 1, None)
    assert len(await fulls(one)) == 2
    # Back by ten days: neither a storm nor a stall.
    one.clock.ahead = -10 * DAY
    done = [await one.kept.scheduler.look() for _ in range(5)]
    assert (done.count(Task.FULL), done[-1]) == (1, None)
    assert len(await fulls(one)) == 3
    assert one.figure('runs_total{outcome="failed",task="full"}') == 0


async def test_two_schedulers_never_take_two_backups(one: Keeper, two: Keeper) -> None:
    """Two instances with state directories of their own, as on two hosts: only Postgres stands between them."""
    assert sorted(map(str, await gather(one, two))) == sorted(map(str, [Task.FULL, None]))
    assert len(await fulls(one)) == 1
    assert [await gather(one, two) for _ in range(2)]
    assert len(await fulls(one)) == 1
    # Whoever gets the lock looks again: the other may have been first.
    late = await two.backups.take(System("tests"), BackupType.FULL, needed=lambda held: not held.fulls())
    assert (late, len(await fulls(one))) == (None, 1)


async def test_another_host_is_shut_out_while_a_backup_runs_and_told_what_runs(one: Keeper, two: Keeper) -> None:
    lock, other = one.exclusive(), two.exclusive()
    await lock.take("backup 7")
    assert lock.shared
    with pytest.raises(BackupBusy, match="backup 7 is running on another host"):
        await other.take("expire")
    with pytest.raises(BackupBusy, match="backup 7 is running"):
        await one.exclusive().take("expire")
    await lock.free()
    await other.take("expire")
    await other.free()


async def test_without_postgres_the_lock_of_the_machine_stands_alone(one: Keeper, own_cluster: Archived) -> None:
    await one.full()
    own_cluster.stop()
    lock = one.exclusive()
    await lock.take("verify")
    assert not lock.shared
    with pytest.raises(BackupBusy):
        await one.exclusive().take("expire")
    await lock.free()
    # Expiry and verification need no database; the look itself needs none either.
    one.kept.scheduler.ask(Task.VERIFY)
    assert await one.kept.scheduler.look() is Task.VERIFY
    one.kept.scheduler.ask(Task.EXPIRE)
    assert await one.kept.scheduler.look() is Task.EXPIRE
    assert one.conditions() == {}
    assert (await one.kept.watch.look()).waiting is None


@pytest.mark.control("B5", "expiry runs whether or not backups succeed, and nothing outlives thirty days")
async def test_backups_of_more_than_thirty_days_ago_go_and_the_last_good_one_stays(one: Keeper) -> None:
    first, second = await one.full(), await one.full()
    one.clock.ahead = 31 * DAY
    await one.kept.watch.look()
    assert "data_past_ceiling" in one.conditions()
    one.kept.scheduler.ask(Task.EXPIRE)
    assert await one.kept.scheduler.look() is Task.EXPIRE
    assert await fulls(one) == [second.label]
    assert first.label not in (await one.engine.listing()).labels()
    assert second.label in one.conditions()["last_good_past_ceiling"]

    # A newer good one frees it.
    third = await one.full()
    one.kept.scheduler.ask(Task.EXPIRE)
    await one.kept.scheduler.look()
    assert await fulls(one) == [third.label]
    one.clock.ahead = timedelta(0)
    one.kept.scheduler.ask(Task.EXPIRE)
    await one.kept.scheduler.look()
    await one.kept.watch.look()
    assert (await fulls(one), one.conditions()) == ([third.label], {})
    # With the backups went the WAL that only they needed: the engine's own retention would have kept it for weeks.
    assert min((await one.engine.listing()).segments("15-1")) == third.wal_start


@pytest.mark.control("B5", "when backups fail the last good one is kept and a critical condition says so")
async def test_when_backups_fail_expiry_goes_on_and_the_last_good_one_is_kept_and_told(one: Keeper) -> None:
    good = await one.full()
    one.clock.ahead = 31 * DAY
    one.archived.stop()
    assert await one.kept.scheduler.look() is Task.FULL
    attempt = one.kept.scheduler.attempts[Task.FULL]
    assert (attempt.ok, attempt.again, attempt.failures) == (False, True, 1)
    assert "the database does not answer (code 56)" in one.conditions()["backup_failing"]
    one.kept.scheduler.ask(Task.EXPIRE)
    done = [await one.kept.scheduler.look() for _ in range(3)]
    assert done == [Task.EXPIRE, None, None]  # the backup waits for its next try
    assert await fulls(one) == [good.label]
    assert good.label in one.conditions()["last_good_past_ceiling"]
    assert one.figure('condition{condition="last_good_past_ceiling"}') == 1
    assert one.figure('task_good_timestamp_seconds{task="expire"}') == pytest.approx(one.clock().timestamp(), abs=60)

    one.archived.start()
    one.clock.ahead += timedelta(minutes=2)
    assert await one.kept.scheduler.look() is Task.FULL
    assert "backup_failing" not in one.conditions()
    assert len(await fulls(one)) == 2


@pytest.mark.control("B5", "what is too old is found by listing the repository itself, and alarms")
async def test_a_forgotten_object_that_no_list_of_the_engine_names_is_found(one: Keeper) -> None:
    await one.full()
    one.clock.ahead = 29 * DAY
    await one.kept.watch.look()
    assert (one.conditions(), one.figure("objects_past_ceiling")) == ({}, 0)
    forgotten = one.archived.repository / "backup" / "holdfast" / "20260101-000000F" / "bundle" / "1"
    forgotten.parent.mkdir(parents=True)
    forgotten.write_bytes(b"left behind")
    one.clock.ahead = 29 * DAY + timedelta(minutes=16)
    await one.kept.watch.look()
    assert "1 objects" in one.conditions()["data_past_ceiling"]
    assert one.figure("objects_past_ceiling") == 1
    assert one.figure("oldest_data_age_seconds") > 86400 * 300


@pytest.mark.control("B2", "a hole in the archive breaks the RPO, is recorded, and is ended by a full backup at once")
async def test_a_hole_in_the_archive_is_found_recorded_and_ended_by_a_full_backup_at_once(one: Keeper) -> None:
    stored = await one.full()
    await one.advance(3)
    restorable = (await one.heartbeats.recent())[-2]
    await one.kept.watch.look()
    assert (one.kept.watch.open, one.figure("rpo_broken")) == ([], 0)
    await one.advance(2)
    victim = one.segment(int(restorable.wal[16:], 16) + 1)
    victim.unlink()

    later = Clock(timedelta(minutes=16))
    one.clock.ahead = later.ahead
    assert not (await one.kept.watch.look()).broken  # seen once: it might still arrive
    sample = await one.kept.watch.look()
    assert sample.broken
    (breach,) = one.kept.watch.open
    assert (breach.first, breach.count, breach.lost_from) == (victim.name[:24], 1, restorable.created_at)
    assert breach.first in one.conditions()["rpo_broken"]
    assert one.figure("rpo_broken") == 1
    # What lies behind the hole counts as lost, though all of it is archived.
    assert sample.exposure_seconds == pytest.approx((one.clock() - restorable.created_at).total_seconds(), abs=5)

    assert await one.kept.scheduler.look() is Task.FULL
    # It took one full backup after another until the watch, which looks once a minute, saw the first.
    assert await one.kept.scheduler.look() is None
    healed = await one.kept.watch.look()
    (ended,) = one.kept.watch.breaches
    newest = (await one.engine.inspect()).fulls()[-1]
    assert (ended.healed_by, ended.lost_until, one.kept.watch.open) == (newest.label, newest.ended_at, [])
    assert not healed.broken
    assert (one.conditions(), one.figure("rpo_broken")) == ({}, 0)
    seen = one.kept.watch.limited(window(await one.engine.inspect(), await one.heartbeats.recent(), now=one.clock()))
    begin = max(restorable.created_at, stored.ended_at + STOP_PRECISION)
    assert [(cut.first, cut.lost_from, cut.lost_until) for cut in seen.lost] == [(ended.first, begin, ended.lost_until)]
    assert restorable.sequence in {beat.sequence for beat in seen.recent}
    assert not [beat for beat in seen.recent if seen.lost[0].covers(beat.created_at)]
    assert one.evidence.holds("rpo_breach", f"breaches/{ended.id}")
    assert one.evidence.holds("rpo_breach_ended", f"breaches/{ended.id}")
    # The hole itself stays in the archive, and is not declared again.
    one.clock.ahead *= 3
    assert [(await one.kept.watch.look()).broken for _ in range(3)] == [False] * 3


async def test_what_the_engine_says_it_dropped_is_a_hole_before_anything_follows_it(one: Keeper) -> None:
    await one.full()
    await one.advance()
    newest = (await one.engine.inspect()).archive_max
    dropped = f"{newest[:16]}{int(newest[16:], 16) + 1:08X}"
    log = one.archived.state / "pgbackrest" / "log" / "holdfast-archive-push-async.log"
    with log.open("a", encoding="utf-8") as file:
        file.write(f"P00   WARN: dropped WAL file '{dropped}' because archive queue exceeded 1GB\n")
    await one.kept.watch.look()
    assert (await one.kept.watch.look()).broken
    assert one.kept.watch.open[0].first == dropped


@pytest.mark.control("B1", "every byte of the repository is read again on a timer of its own")
async def test_a_flipped_byte_is_found_by_verification_although_the_engine_exits_with_zero(one: Keeper) -> None:
    await one.full()
    await one.advance(2)
    one.kept.scheduler.ask(Task.VERIFY)
    assert await one.kept.scheduler.look() is Task.VERIFY
    assert (one.conditions(), one.kept.scheduler.attempts[Task.VERIFY].fault) == ({}, "")

    bundle = next(one.archived.repository.rglob("bundle/1"))
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(content)
    one.kept.scheduler.ask(Task.VERIFY)
    assert await one.kept.scheduler.look() is Task.VERIFY
    assert "damaged" in one.conditions()["repository_damaged"]
    assert "verify_failing" in one.conditions()
    attempt = one.kept.scheduler.attempts[Task.VERIFY]
    assert (attempt.ok, attempt.again, attempt.good_at is not None) == (False, False, True)

    content[len(content) // 2] ^= 1
    bundle.write_bytes(content)
    one.kept.scheduler.ask(Task.VERIFY)
    await one.kept.scheduler.look()
    assert one.conditions() == {}


async def test_what_broken_off_backups_left_is_not_resumed_and_goes_with_the_next_expiry(one: Keeper) -> None:
    good = await one.full()
    beside = one.archived.repository / "backup" / STANZA
    left = {"20261121-000000F", "20271121-000000F"}
    for label in left:
        broken_off(beside / good.label, beside / label)
    found = await one.engine.verify()
    assert (found.faults, set(found.leftovers) <= left) == ((), True)
    assert (await one.engine.listing()).labels() == {good.label, *left}
    await one.engine.expire()
    assert (await one.engine.listing()).labels() == {good.label}


async def test_lost_lists_of_the_repository_are_told_and_no_backup_is_begun(one: Keeper) -> None:
    await one.full()
    for path in one.archived.repository.rglob("backup.info*"):
        path.unlink()
    await one.kept.watch.look()
    assert "a file of the repository is missing" in one.conditions()["repository_unreadable"]
    assert await one.kept.scheduler.look() is None
    with pytest.raises(EngineFailed):
        await one.engine.backup(BackupType.FULL, lambda _: None)


async def test_a_wrong_cipher_pass_is_told_as_such(one: Keeper) -> None:
    await one.full()
    right = one.archived.config.read_text()
    one.archived.config.write_text(right.replace("repo1-cipher-pass=only", "repo1-cipher-pass=not-only"))
    await one.kept.watch.look()
    assert "cipher pass" in one.conditions()["repository_unreadable"]
    one.archived.config.write_text(right)
    await one.kept.watch.look()
    assert one.conditions() == {}


async def test_a_server_that_is_another_one_gets_its_stanza_upgraded_and_a_full_backup_at_once(one: Keeper) -> None:
    other = replace(one.archived.cluster, data_dir=one.archived.state / "other")
    other.initialise()
    shutil.rmtree(one.archived.repository / "archive")
    shutil.rmtree(one.archived.repository / "backup")
    one.archived.pgbackrest("stanza-create", "--no-online", f"--pg1-path={other.data_dir}")
    one.archived.pgbackrest("backup", "--type=full", "--no-online", f"--pg1-path={other.data_dir}")
    assert len(await fulls(one)) == 1
    assert await one.kept.scheduler.look() is Task.FULL
    held = await one.engine.inspect()
    assert (held.database_id, len(held.backups), len(held.fulls())) == (2, 2, 1)
    assert one.kept.scheduler.attempts[Task.FULL].slot == "database 2"


async def test_exposures_measured_while_the_database_was_away_are_added_when_it_is_back(one: Keeper) -> None:
    await one.full()
    await one.advance()
    begin = minute(one.clock())
    await one.kept.watch.look()
    one.archived.stop()
    one.clock.ahead = timedelta(minutes=1)
    alone = await one.kept.watch.look()
    assert (await one.kept.exposures.history(begin - DAY, begin + DAY, timedelta(minutes=1)))[-1] == alone
    one.archived.start()
    one.clock.ahead = timedelta(minutes=2)
    await one.kept.watch.look()
    with one.archived.cluster.admin(one.archived.cluster.database) as connection:
        rows = connection.execute("SELECT waiting IS NULL FROM backup.exposures ORDER BY minute").fetchall()
    assert rows == [(False,), (True,), (False,)]
    found = await one.kept.exposures.history(begin - DAY, begin + DAY, timedelta(days=1))
    assert max(sample.exposure_seconds or 0 for sample in found) > 100
    # Older than 35 days is forgotten.
    one.clock.ahead = 36 * DAY
    await one.kept.watch.look()
    assert len(await one.kept.exposures.history(begin - DAY, begin + 40 * DAY, timedelta(minutes=1))) == 1


@pytest.mark.control("B2", "RPO and RTO are measured continuously between drills")
async def test_exposure_is_recorded_minute_by_minute_between_drills_by_itself(
    one: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one.full()
    await one.advance()
    assert watch._LOOK_SECONDS == 60
    monkeypatch.setattr(watch, "_LOOK_SECONDS", 0.05)  # the test's clock goes on by minutes meanwhile
    every = timedelta(minutes=1)

    def turn() -> datetime:
        """Set the test's clock to its next whole minute, and say which that is."""
        at = minute(one.clock()) + every
        one.clock.ahead = at - datetime.now(UTC)
        return at

    begin = turn()
    await one.kept.watch.start()

    async def seen(count: int) -> None:
        async def enough() -> bool:
            return len(await one.kept.exposures.history(begin, begin + DAY, every)) >= count

        await until(enough, f"the sample of minute {count}")

    try:
        await seen(1)
        for number in range(1, 5):
            turn()
            await seen(number + 1)
        # The control: it is counted from the newest heartbeat that is archived.
        await one.advance()
        newest = (await one.heartbeats.recent())[-1]
        await until(lambda: _exposed_since(one, newest.created_at), "an exposure since the newest heartbeat")
    finally:
        await one.kept.watch.stop()
    told = await one.kept.exposures.history(begin, begin + 5 * every, every)
    assert [(sample.minute - begin) // every for sample in told] == [0, 1, 2, 3, 4]
    spent = [sample.exposure_seconds or 0.0 for sample in told]
    assert spent == sorted(spent)
    assert spent[-1] - spent[1] > 2 * 60


async def _exposed_since(one: Keeper, at: datetime) -> bool:
    return one.figure("watch_timestamp_seconds") - one.figure("rpo_exposure_seconds") >= at.timestamp()


def test_the_watch_looks_at_each_whole_minute_however_long_a_look_took() -> None:
    at = datetime(2026, 11, 22, 4, 7, tzinfo=UTC)
    assert watch._until_next(at) == 60
    assert watch._until_next(at + timedelta(seconds=59.5)) == pytest.approx(0.5)
    assert minute(at + timedelta(seconds=1) + timedelta(seconds=watch._until_next(at + timedelta(seconds=1)))) > at
