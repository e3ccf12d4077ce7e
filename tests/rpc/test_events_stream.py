"""A user's stream over server-sent events, through the whole service on a real database."""

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import Sequence

import psycopg
import pytest

from holdfast.events.v1 import event_service_pb2 as pb
from libs import eventlog, http1
from libs.config import load
from libs.principal import User
from libs.process import App
from services.events.config import Config
from tests.support.events import SECONDS, Block, Replica, SessionBook, World, append, parent, token, until


def offsets(blocks: Sequence[Block]) -> list[int]:
    return [int(block.id.split(".")[1]) for block in blocks]


@pytest.mark.control("E1", "an event reaches its owner's open stream")
async def test_an_appended_event_reaches_its_owners_open_stream(world: World) -> None:
    who = world.user()
    async with world.replica() as replica:
        reader, opened = await replica.opened(who)
        assert (reader.status, opened.split(".")[1]) == (200, "0")
        await append(world.files, who, {"name": "한글"}, type="file.created")
        event = await reader.event()
        assert (event.id, event.event, event.data) == (opened.split(".")[0] + ".1", "file.created", {"name": "한글"})
        assert reader.headers["content-type"].startswith("text/event-stream")
        assert (reader.headers["cache-control"], reader.headers["x-accel-buffering"]) == ("no-store", "no")
        assert "content-encoding" not in reader.headers


@pytest.mark.control("E1", "a resumed stream goes on exactly where it stopped")
@pytest.mark.parametrize("by_query", [False, True])
async def test_a_resumed_stream_goes_on_exactly_where_it_stopped(world: World, by_query: bool) -> None:
    who = world.user()
    async with world.replica() as replica:
        await world.append(who, 5)
        first, _ = await replica.opened(who, "earliest")
        seen = await first.events(3)
        await first.close()
        second = await replica.follow(who, seen[-1].id, by_query=by_query)
        await world.append(who, 1)
        assert offsets(seen) + offsets(await second.events(3)) == [1, 2, 3, 4, 5, 6]


async def test_the_header_of_a_reconnect_wins_over_the_query_of_the_first_connection(world: World) -> None:
    who = world.user()
    async with world.replica() as replica:
        await world.append(who, 3)
        _, now = await replica.opened(who)
        epoch = now.split(".")[0]
        headers = [("x-user-token", token(who)), ("last-event-id", f"{epoch}.2")]
        reader = await replica.connect(headers, f"?last_event_id={epoch}.1")
        assert offsets([await reader.event()]) == [3]


async def test_a_stream_without_a_token_begins_now(world: World) -> None:
    who = world.user()
    async with world.replica() as replica:
        await world.append(who, 3)
        reader, opened = await replica.opened(who)
        assert opened.endswith(".3")
        await world.append(who, 1)
        assert offsets([await reader.event()]) == [4]


@pytest.mark.control("E1", "a late commit is not skipped")
async def test_an_event_whose_transaction_commits_late_is_not_skipped(world: World) -> None:
    who = world.user()
    async with world.replica(poll_seconds=0.05) as replica:
        reader, _ = await replica.opened(who)
        async with world.files.begin(who) as slow:
            ids = {"organization_id": who.organization_id, "user_id": who.user_id}
            await eventlog.append(slow, **ids, type="sample.slow", data={})
            quick = asyncio.create_task(append(world.files, who, {}, type="sample.quick"))
            # The second publisher is seen waiting for the first one's counter, so it cannot commit before it.
            waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%events.append%%'"
            await until(lambda: bool(world.sql(waiting)))
        await quick
        events = await reader.events(2)
        assert [event.event for event in events] == ["sample.slow", "sample.quick"]
        assert offsets(events) == [1, 2]


@pytest.mark.control("E1", "nothing is lost or doubled between replay and live")
async def test_readers_that_join_while_events_are_published_get_each_exactly_once(world: World) -> None:
    who, count = world.user(), 200
    async with world.replica(streams_per_user=100, connects_per_minute=1000, poll_seconds=0.02) as replica:
        publishing = asyncio.create_task(world.append(who, count))

        async def join() -> list[int]:
            reader = await replica.follow(who, "earliest")
            stop = random.randrange(1, count)
            seen = await reader.events(stop)
            await reader.close()
            resumed = await replica.follow(who, seen[-1].id)
            return offsets(seen + await resumed.events(count - stop))

        results = await asyncio.gather(*(join() for _ in range(20)))
        assert await publishing == list(range(1, count + 1))
        assert all(result == list(range(1, count + 1)) for result in results)


@pytest.mark.control("E1", "loss is told in the stream")
async def test_a_reader_from_before_a_restore_is_told_so_and_goes_on(world: World) -> None:
    who = world.user()
    async with world.replica(poll_seconds=0.05) as replica:
        await world.append(who, 2)
        live, before = await replica.opened(who)
        resumed = await replica.follow(who, before)
        assert (await resumed.block()) is not None  # the same token holds while the epoch does
        world.sql("SELECT events.change_epoch('restored for a test')")
        told = await live.event()
        assert (told.event, told.data) == ("reset", {"cause": "epoch_changed", "oldest": 1, "newest": 2})
        late = await replica.follow(who, before)
        assert (await late.event()).data["cause"] == "epoch_changed"
        await world.append(who, 1)
        for reader in (live, late):
            event = await reader.event()
            assert (offsets([event]), event.id == before) == ([3], False)


@pytest.mark.control("E1", "loss is told in the stream")
async def test_a_token_older_than_what_is_kept_is_told_so(world: World) -> None:
    who = world.user()
    async with world.replica() as replica:
        await world.append(who, 1)
        _, first = await replica.opened(who)
        world.sql("UPDATE events.streams SET kept_events = 3 WHERE user_id = %s", who.user_id)
        await world.append(who, 3)
        kept = await replica.follow(who, first)
        assert offsets([await kept.event()]) == [2]
        await world.append(who, 1)
        reader = await replica.follow(who, first)
        told = await reader.event()
        assert (told.event, told.data) == ("reset", {"cause": "too_old", "oldest": 3, "newest": 5})
        assert told.id.endswith(".5")
        oldest = await replica.follow(who, "earliest")
        assert offsets(await oldest.events(3)) == [3, 4, 5]


@pytest.mark.control("E1", "loss is told in the stream")
async def test_an_offset_that_was_never_given_out_is_told_so(world: World) -> None:
    who = world.user()
    async with world.replica() as replica:
        await world.append(who, 1)
        _, first = await replica.opened(who)
        reader = await replica.follow(who, first.replace(".1", ".9"))
        assert (await reader.event()).data == {"cause": "unknown", "oldest": 1, "newest": 1}


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ([], "", 401),
        ([("x-user-token", "{token}"), ("x-user-token", "{token}")], "", 401),
        ([("x-user-token", "{token}, {token}")], "", 401),
        ([("x-user-token", "{forged}")], "", 401),
        ([("x-user-token", "{token}"), ("last-event-id", "1.x")], "", 400),
        ([("x-user-token", "{token}")], "?last_event_id=a.1%0d%0aevent:x", 400),
    ],
)
async def test_a_permanent_refusal_is_no_stream(
    world: World, headers: list[tuple[str, str]], query: str, status: int
) -> None:
    who = world.user()
    words = {"token": token(who), "forged": token(who, aud="files")}
    async with world.replica() as replica:
        sent = [(name, value.format(**words)) for name, value in headers]
        assert (await replica.connect(sent, query)).status == status
        assert (await replica.connect([("x-user-token", token(who))])).status == 200
        assert (await replica.connect([("x-user-token", token(who))], method="POST")).status == 405


@pytest.mark.control("T8", "an event of another user is never written")
async def test_an_event_of_another_user_closes_the_stream_instead_of_being_written(world: World) -> None:
    who, other = world.user(), world.user()
    async with world.replica(poll_seconds=0.05) as replica:
        await world.append(other, 5)
        live, start = await replica.opened(who)
        await world.append(who, 1)
        assert offsets([await live.event()]) == [1]
        # The fault: row-level security stops filtering, so another user's rows come out of every read.
        world.sql("ALTER POLICY own_rows ON events.entries USING (true)")
        try:
            await world.append(who, 1)
            seen = [*await live.ended(), *await (await replica.follow(who, start)).ended()]
        finally:
            world.sql(
                "ALTER POLICY own_rows ON events.entries USING ("
                " organization_id = (SELECT NULLIF(current_setting('holdfast.organization_id', true), ''))"
                " AND user_id = (SELECT NULLIF(current_setting('holdfast.user_id', true), '')))"
            )
        assert all(block.data is None or block.data["n"] == 1 for block in seen)
        assert len([block for block in seen if block.event]) <= 2  # own events only, however the rows were mixed
        again, _ = await replica.opened(who, start)
        assert offsets(await again.events(2)) == [1, 2]


@pytest.mark.control("E1", "a slow reader is cut and costs bounded memory")
async def test_a_reader_that_stops_reading_is_cut_and_costs_bounded_memory(world: World) -> None:
    who = world.user()
    async with world.replica(write_seconds=0.3, poll_seconds=0.02) as replica:
        quick, start = await replica.opened(who)
        stuck, _ = await replica.opened(who)
        stuck._reader._transport.pause_reading()  # type: ignore[attr-defined]  # asyncio keeps it private
        leases = "SELECT count(*) FROM events.leases WHERE user_id = %s AND expires_at > clock_timestamp()"
        assert world.sql(leases, who.user_id) == [(2,)]
        reading = asyncio.create_task(quick.events(100))
        for _ in range(100):
            await append(world.files, who, {"text": "x" * 50_000})
            assert max(buffered(replica), default=0) < 150_000
        assert offsets(await reading) == list(range(1, 101))
        await until(lambda: world.sql(leases, who.user_id) == [(1,)])
        again = await replica.follow(who, start)
        assert offsets(await again.events(100)) == list(range(1, 101))


def buffered(replica: Replica) -> list[int]:
    server = replica.part(http1.Server)
    return [connection.stream.buffered for connection in server._connections if connection.stream]


async def test_the_wake_up_is_sent_after_the_commit_and_only_then(world: World) -> None:
    who = world.user()
    ids = {"organization_id": who.organization_id, "user_id": who.user_id}
    async with world.database.session("holdfast_events") as listening:
        await listening.execute(f"LISTEN {eventlog.CHANNEL}".encode())
        with contextlib.suppress(RuntimeError):
            async with world.files.begin(who) as tx:
                await eventlog.append(tx, **ids, type="sample.undone", data={})
                raise RuntimeError("undone")
        async with world.files.begin(who) as tx:
            await eventlog.append(tx, **ids, type="sample.told", data={})
            world.sql(f"SELECT pg_notify('{eventlog.CHANNEL}', 'still uncommitted')")
        heard = [notice.payload async for notice in listening.notifies(timeout=SECONDS, stop_after=2)]
    assert heard == ["still uncommitted", who.user_id]


async def test_a_wake_up_delivers_long_before_the_next_poll(world: World) -> None:
    who = world.user()
    async with world.replica(poll_seconds=10) as replica:
        reader, _ = await replica.opened(who)
        await replica.stub(who).Publish(published(who, "{}"))
        assert offsets([await reader.event()]) == [1]


@pytest.mark.control("E1", "a lost wake-up delays an event and loses none")
async def test_polling_alone_delivers_when_listening_is_cut(world: World) -> None:
    who = world.user()
    async with world.replica(poll_seconds=0.05) as replica:
        reader, _ = await replica.opened(who)
        world.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%'")
        for _ in range(2):
            world.append_silently(who)
        assert offsets(await reader.events(2)) == [1, 2]


@pytest.mark.control("E1", "an absent database delays streams and ends none within its grace")
async def test_an_absent_database_refuses_new_streams_for_a_while_and_recovers_without_a_restart(world: World) -> None:
    who = world.user()
    name = world.database.name
    async with world.replica(poll_seconds=0.05, heartbeat_seconds=0.2) as replica:
        live, _ = await replica.opened(who)
        await world.append(who, 1)
        assert offsets([await live.event()]) == [1]
        with world.database.cluster.admin() as elsewhere:
            elsewhere.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
            elsewhere.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            refused = await replica.follow(who)
            assert (refused.status, b"event: refused" in refused.body, b"retry: " in refused.body) == (200, True, True)
            beat = await live.block()
            assert beat is not None
            assert beat.event == ""
            elsewhere.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
        await world.append(who, 1)
        assert offsets([await live.event()]) == [2]
        assert (await replica.follow(who)).status == 200


async def test_streams_end_when_the_database_stays_away_longer_than_its_grace(world: World) -> None:
    who, name = world.user(), world.database.name
    async with world.replica(poll_seconds=0.05, database_grace_seconds=0.1) as replica:
        live, _ = await replica.opened(who)
        with world.database.cluster.admin() as elsewhere:
            elsewhere.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
            elsewhere.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            try:
                assert (await live.ended())[-1].data == {"cause": "unavailable"}
            finally:
                elsewhere.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())


async def test_silence_is_broken_by_comments(world: World) -> None:
    who = world.user()
    async with world.replica(heartbeat_seconds=0.1) as replica:
        reader, opened = await replica.opened(who)
        beats = [await reader.block() for _ in range(2)]
        assert [(beat.id, beat.event, bool(beat.comments)) for beat in beats if beat] == [(opened, "", True)] * 2


async def test_a_streams_life_ends_with_a_goodbye_and_a_time_to_return(world: World) -> None:
    who = world.user()
    async with world.replica(life_seconds=1) as replica:
        last = (await (await replica.follow(who)).ended())[-1]
        assert (last.event, last.data, last.retry.isdigit()) == ("goodbye", {"cause": "rotation"}, True)


async def test_a_draining_server_says_goodbye_to_its_streams(world: World) -> None:
    who = world.user()
    async with world.replica() as replica:
        reader, opened = await replica.opened(who)
        ending = asyncio.create_task(replica.app.shutdown())
        last = (await reader.ended())[-1]
        assert (last.id, last.event, last.data) == (opened, "goodbye", {"cause": "draining"})
        await ending


def published(who: User, data: str) -> pb.PublishRequest:
    return pb.PublishRequest(parent=parent(who), event=pb.Event(type="sample.told", data=data))


@pytest.mark.control("E1", "a stopping server tells its streams")
async def test_a_process_told_to_stop_says_goodbye_and_leaves_with_exit_code_0(world: World) -> None:
    who = world.user()
    environment = world.environment("process", {})
    # Not all of this process's environment: the service refuses a HOLDFAST_ name that it does not know.
    inherited = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.events", env=inherited | environment, stderr=asyncio.subprocess.PIPE
    )
    replica = Replica(
        App("reader", [], edge_notice_seconds=0, drain_seconds=0), load(Config, environment), SessionBook()
    )
    try:
        await logged(process, b'"parts"')
        reader, _ = await replica.opened(who)
        await world.append(who, 1)
        assert offsets([await reader.event()]) == [1]
        process.send_signal(signal.SIGTERM)
        assert (await reader.ended())[-1].data == {"cause": "draining"}
        await logged(process, b'"stopped"')
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await replica.stop()


async def logged(process: asyncio.subprocess.Process, word: bytes) -> None:
    """Wait until the process has logged a line with *word*."""
    assert process.stderr is not None
    said = b""
    async with asyncio.timeout(SECONDS):
        while word not in (line := await process.stderr.readline()):
            assert line, said
            said += line


async def test_nobody_but_append_can_write_a_stream(world: World) -> None:
    who = world.user()
    await world.append(who, 1)
    for service in ("files", "events"):
        async with world.database.session(f"holdfast_{service}") as connection:
            for table, column in (("entries", "type"), ("streams", "newest_offset")):
                for statement in (f"UPDATE events.{table} SET {column} = {column}", f"DELETE FROM events.{table}"):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        await connection.execute(statement.encode())
