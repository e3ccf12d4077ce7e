"""Open streams over a restore: the backup service finds it, and readers are told in their own stream."""

from pathlib import Path

import pytest

from services.backup.adapters.ledger import Ledger
from services.backup.ops.guard import Guard
from services.backup.ops.heartbeats import Heartbeats
from tests.store.test_guard import go_back
from tests.support.events import World


@pytest.mark.control("B6", "the event epoch is bumped after a restore")
@pytest.mark.control("E1", "loss is told in the stream")
async def test_open_streams_are_reset_by_the_heartbeat_that_finds_a_restore_and_by_no_other(
    world: World, tmp_path: Path
) -> None:
    who = world.user()
    await world.append(who, 2)
    backup = world.database.connect("backup")
    guard = Guard(backup)
    heart = Heartbeats(
        backup, Ledger(tmp_path), guard=guard, key=b"k" * 32, period_seconds=60, now=lambda: pytest.fail("no clock")
    )
    async with world.replica(poll_seconds=0.05) as replica:
        live, before = await replica.opened(who)
        for _ in range(3):
            await heart.beat()
        await world.append(who, 1)
        event = await live.event()
        assert (event.event, event.id.split(".")) == ("sample.told", [before.split(".")[0], "3"])
        # Offset 3 is another event now: a reader that went on by number alone would take the new one for the old.
        world.sql("UPDATE events.entries SET data = '{}' WHERE user_id = %s AND event_offset = 3", who.user_id)
        go_back(world.database, 2)
        await heart.beat()
        told = await live.event()
        assert (told.event, told.data) == ("reset", {"cause": "epoch_changed", "oldest": 1, "newest": 3})
        late = await replica.follow(who, event.id)
        assert (await late.event()).data["cause"] == "epoch_changed"
    await guard.stop()
