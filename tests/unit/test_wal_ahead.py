"""Fetching WAL ahead of a replay: how far, and what its own failures mean."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from services.backup.adapters.wal_ahead import IN_A_ROW, MOST, WalAhead
from services.backup.domain import wal
from services.backup.domain.errors import EngineFailed


def segment(position: int) -> str:
    return wal.name(1, position)


class Archive:
    """Has the segments *held*; counts what was fetched, in order."""

    def __init__(self, held: Iterable[int]) -> None:
        self.held = {segment(one) for one in held}
        self.fetched: list[str] = []
        self.away: set[str] = set()

    async def fetch(self, name: str, destination: Path) -> bool:
        self.fetched.append(name)
        if name in self.away:
            raise EngineFailed("The store is away.", command="archive-get")
        if name in self.held:
            await asyncio.to_thread(destination.write_text, name, encoding="ascii")
        return name in self.held


@pytest.fixture
def archive() -> Archive:
    return Archive(range(250, 262))


@pytest.fixture
async def ahead(archive: Archive, tmp_path: Path) -> AsyncIterator[WalAhead]:
    (tmp_path / "ahead").mkdir()
    made = WalAhead(archive.fetch, tmp_path / "ahead")
    yield made
    await made.stop()


async def asked(ahead: WalAhead, archive: Archive, position: int, folder: Path) -> str:
    """What a copy asks for and gets: "ahead", "fetched", or "" for nothing."""
    name, destination = segment(position), folder / "RECOVERYXLOG"
    if await ahead.take(name, destination):
        how = "ahead"
    else:
        how = "fetched" if await archive.fetch(name, destination) else ""
    if how:
        assert await asyncio.to_thread(destination.read_text, encoding="ascii") == name
        ahead.served(name)
        await asyncio.gather(*ahead._fetching.values(), return_exceptions=True)
    return how


async def test_a_long_replay_is_fetched_ahead_and_never_by_more_than_the_bound(
    ahead: WalAhead, archive: Archive, tmp_path: Path
) -> None:
    told = []
    for position in range(250, 262):
        told.append(await asked(ahead, archive, position, tmp_path))
        beyond = max(map(wal.number, archive.fetched)) - position
        assert beyond == (MOST if position >= 250 + IN_A_ROW - 1 else 0)
        assert len(ahead._fetching) <= MOST
    assert told == ["fetched"] * IN_A_ROW + ["ahead"] * (12 - IN_A_ROW)
    assert len(archive.fetched) == len(set(archive.fetched))


async def test_a_short_replay_fetches_what_was_asked_for_alone(
    ahead: WalAhead, archive: Archive, tmp_path: Path
) -> None:
    for position in (250, 251, 255, 256, 251):
        assert await asked(ahead, archive, position, tmp_path) == "fetched"
    assert archive.fetched == [segment(one) for one in (250, 251, 255, 256, 251)]


@pytest.mark.parametrize("how", ["absent", "away"])
async def test_a_segment_that_could_not_be_fetched_ahead_is_fetched_when_it_is_asked_for(
    ahead: WalAhead, archive: Archive, tmp_path: Path, how: str
) -> None:
    if how == "absent":
        archive.held.remove(segment(253))
    else:
        archive.away.add(segment(253))
    for position in (250, 251, 252):
        await asked(ahead, archive, position, tmp_path)
    archive.held.add(segment(253))
    archive.away.clear()
    assert await asked(ahead, archive, 253, tmp_path) == "fetched"
    assert archive.fetched.count(segment(253)) == 2


async def test_the_end_of_the_archive_is_the_end(ahead: WalAhead, archive: Archive, tmp_path: Path) -> None:
    told = [await asked(ahead, archive, position, tmp_path) for position in range(258, 263)]
    assert told == ["fetched"] * 3 + ["ahead", ""]


async def test_a_replay_that_goes_another_way_leaves_no_more_behind_than_the_bound(
    ahead: WalAhead, archive: Archive, tmp_path: Path
) -> None:
    archive.held |= {segment(one) for one in range(300, 320)}
    for begin in (250, 300, 310):
        for position in range(begin, begin + IN_A_ROW):
            await asked(ahead, archive, position, tmp_path)
        there = sorted(path.name for path in (tmp_path / "ahead").iterdir())
        assert there == [segment(begin + IN_A_ROW + one) for one in range(MOST)]
