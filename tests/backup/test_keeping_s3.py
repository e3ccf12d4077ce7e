"""The repository in an S3 store that dies, comes back, and takes keys away: three identities, three files."""

import asyncio
import re
import secrets
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.pgbackrest import conf
from libs.principal import System
from services.backup.domain.errors import EngineAway, EngineFailed
from services.backup.domain.repository import BackupType
from tests.backup.test_s3 import configured
from tests.support.backup import Archived, become, service_user
from tests.support.keeping import Keeper, keeper
from tests.support.seaweed import SeaweedServer
from tests.support.waiting import until


@pytest.fixture
async def one(own_cluster: Archived, seaweed: SeaweedServer) -> AsyncIterator[Keeper]:
    """As `one` of test_keeping, with a repository in the store that is this test's own; the archive goes there too."""
    stanza, names = f"s3-{secrets.token_hex(4)}", ("backups", "backups-read", "backups-keeper")
    written, read, keep = (configured(own_cluster, seaweed, name, stanza) for name in names)
    command = conf.archive_command(written, stanza)
    replace(own_cluster.cluster, archive_command=command).configure()
    made = keeper(own_cluster, "s3", stanza=stanza, configs=(written, read, keep), io_seconds=1)
    await made.engine.create_stanza()
    own_cluster.cluster.reload()
    yield made
    await made.database.stop()


def loaded(one: Keeper) -> None:
    """So much data that a backup takes a while."""
    with one.archived.cluster.admin(one.archived.cluster.database) as connection:
        connection.execute("CREATE TABLE load AS SELECT g, md5(g::text) AS sum FROM generate_series(1, 1500000) g")
        connection.execute("CHECKPOINT")


async def half(one: Keeper) -> "asyncio.Task[object]":
    """A full backup that has begun to write."""
    known = {found.path for found in (await one.engine.listing()).objects}
    running: asyncio.Task[object] = asyncio.create_task(one.engine.backup(BackupType.FULL, lambda _: None))
    await until(lambda: _more(one, known), "the first object of a backup")
    return running


async def _more(one: Keeper, known: set[str]) -> bool:
    fresh = {found.path for found in (await one.engine.listing()).objects} - known
    return any("/bundle/" in path or "/pg_data/" in path for path in fresh)


def stored(seaweed: SeaweedServer, stanza: str) -> dict[str, bytes]:
    """Every WAL segment in the bucket, by its name without the checksum behind it."""
    client, under = seaweed.client("backups-read"), f"pgbackrest/archive/{stanza}/"
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="backups", Prefix=under)
    keys = [found["Key"] for page in pages for found in page.get("Contents", ())]
    segments = {Path(key).name[:24]: key for key in keys if re.fullmatch(r"[0-9A-F]{24}-.+", Path(key).name)}
    return {name: client.get_object(Bucket="backups", Key=key)["Body"].read() for name, key in segments.items()}


def fetched(one: Keeper, segment: str) -> bytes:
    """The segment as the engine gives it back."""
    target = one.archived.state / "fetched"
    call = conf.command(one.engine.restore_config, one.engine.stanza, "archive-get", segment, str(target))
    done = subprocess.run([*become(), *call], check=False, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return target.read_bytes()


def written(one: Keeper, canary: str) -> str:
    """The name of the segment that *canary* was just written to."""
    with one.archived.cluster.admin(one.archived.cluster.database) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS canaries (canary text)")
        connection.execute("INSERT INTO canaries VALUES (%s)", [canary])
        row = connection.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.control("B1", "WAL is archived continuously into an encrypted S3 repository")
@pytest.mark.parametrize("ended_by", ["a switch", "archive_timeout"])
async def test_wal_arrives_in_the_store_without_a_backup_and_is_not_readable_there(
    one: Keeper, seaweed: SeaweedServer, ended_by: str
) -> None:
    # Compressed, the canary would not be found in plain either.
    config, stanza = one.engine.config, one.engine.stanza
    conf.write(config, config.read_text().replace("compress-type=zst", "compress-type=none"), owner=service_user())
    canary, cluster = secrets.token_hex(32), one.archived.cluster
    segment = written(one, canary)
    if ended_by == "archive_timeout":
        command = conf.archive_command(config, stanza)
        replace(cluster, archive_command=command, archive_timeout_seconds=1).configure()
        cluster.reload()
    else:
        with cluster.admin(cluster.database) as connection:
            assert connection.execute("SHOW archive_timeout").fetchone() == ("1min",)
            connection.execute("SELECT pg_switch_wal()")
    await until(lambda: _there(one, segment), f"the arrival of {segment}")

    found = stored(seaweed, stanza)
    assert [name for name, content in found.items() if not content.startswith(b"Salted__")] == []
    assert [name for name, content in found.items() if canary.encode() in content] == []
    # The control: the canary is in the segment that arrived, on this side of the encryption and behind it.
    assert canary.encode() in fetched(one, segment)
    assert canary.encode() in (cluster.data_dir / "pg_wal" / segment).read_bytes()
    assert (await one.engine.inspect()).backups == ()


async def _there(one: Keeper, segment: str) -> bool:
    return (await one.engine.inspect()).archive_max >= segment


async def test_a_backup_needs_no_right_to_delete_and_expiry_does(one: Keeper) -> None:
    first = await one.full()
    await one.full()
    with pytest.raises(EngineFailed, match="the store refused"):
        await replace(one.engine, expire_config=one.engine.config).remove(first.label)
    await one.engine.remove(first.label)
    assert len((await one.engine.inspect()).backups) == 1


@pytest.mark.faults
async def test_while_the_store_is_away_nothing_is_begun_and_whoever_asks_is_told_soon(
    one: Keeper, seaweed: SeaweedServer
) -> None:
    await one.full()
    seaweed.kill()
    with pytest.raises(EngineAway, match="the store cannot be reached"):
        await one.backups.create(System("tests"), BackupType.FULL)
    await one.kept.watch.look()
    assert "the store cannot be reached" in one.conditions()["repository_unreadable"]
    lock = one.exclusive()
    await lock.take("nothing holds it")
    await lock.free()
    seaweed.start()
    await one.kept.watch.look()
    assert one.conditions() == {}


@pytest.mark.faults
async def test_a_store_that_stalls_is_away_and_no_file_is_called_damaged(one: Keeper, seaweed: SeaweedServer) -> None:
    """The full backup that a breach asks for waited six hours, and a person was called."""
    await one.full()
    with seaweed.stalled():
        with pytest.raises(EngineAway, match="does not answer in time"):
            await one.backups.create(System("tests"), BackupType.FULL)
        await one.kept.watch.look()
        assert "the store does not answer in time" in one.conditions()["repository_unreadable"]
    await one.kept.watch.look()
    assert one.conditions() == {}
    await one.full()


@pytest.mark.sweep
async def test_a_store_that_dies_in_the_middle_of_a_backup_is_away_and_the_next_try_clears_up(
    one: Keeper, seaweed: SeaweedServer
) -> None:
    """The engine itself tries for more than a minute before it gives up."""
    before = await one.full()
    loaded(one)
    running = await half(one)
    seaweed.kill()
    with pytest.raises(EngineAway):
        await running
    seaweed.start()
    # What is left has to be deleted first, which the identity that adds may not do.
    with pytest.raises(EngineFailed, match="the store refused"):
        await replace(one.engine, expire_config=one.engine.config).backup(BackupType.FULL, lambda _: None)
    after = await one.full()
    assert [stored.label for stored in (await one.engine.inspect()).fulls()] == [before.label, after.label]
    assert (await one.engine.verify()).faults == ()


@pytest.mark.faults
async def test_revoked_credentials_are_told_as_such_and_are_not_tried_again_and_again(one: Keeper) -> None:
    await one.full()
    files = {path: path.read_text() for path in (one.engine.config, one.engine.restore_config)}
    for path, text in files.items():
        _revoke(path, text)
    await one.kept.watch.look()
    assert "Check the identity's key" in one.conditions()["repository_unreadable"]
    with pytest.raises(EngineFailed, match="the store refused"):
        await one.backups.create(System("tests"), BackupType.FULL)
    for path, text in files.items():
        conf.write(path, text, owner=service_user())
    await one.kept.watch.look()
    assert one.conditions() == {}


def _revoke(path: Path, text: str) -> None:
    lines = [line if not line.startswith("repo1-s3-key-secret=") else f"{line}x" for line in text.splitlines()]
    conf.write(path, "\n".join(lines) + "\n", owner=service_user())
