"""Evidence in its other homes: the database and the off-site store, away and back again, and nothing to be changed."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from botocore.exceptions import ClientError
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from deploy.stack.seaweed import REGION, Identity
from libs.db import Database
from libs.errors import AppError
from libs.principal import System
from libs.secret import Secret
from services.backup.adapters.evidence_journal import EvidenceJournal
from services.backup.adapters.offsite import Bucket, Offsite
from services.backup.domain.evidence import Entry
from services.backup.ops.evidence import Evidence, Mirror
from services.backup.ops.evidence_mirrors import DatabaseMirror, StoreMirror
from tests.support.evidence import NOW, SIGNER, exported, journal, judged
from tests.support.postgres import TestDatabase
from tests.support.seaweed import SeaweedServer
from tests.support.waiting import until

GOOD = {"outcome": "succeeded"}


@pytest.fixture(scope="module")
def db(database: TestDatabase) -> Database:
    return database.connect("backup")


def bucket(seaweed: SeaweedServer, *, endpoint: str = "") -> Bucket:
    store = seaweed.seaweed
    pair: Identity = store.identities["evidence"]
    keys = Secret(pair.access_key.encode()), Secret(pair.secret_key.encode())
    return Bucket(endpoint or store.endpoint, REGION, "evidence", str(store.ca_file), *keys)


def store_mirror(seaweed: SeaweedServer, directory: Path, *, endpoint: str = "") -> StoreMirror:
    return StoreMirror(Offsite(bucket(seaweed, endpoint=endpoint), directory / "offsite.json"), now=lambda: NOW)


@asynccontextmanager
async def running(made: EvidenceJournal, *mirrors: Mirror) -> AsyncIterator[Evidence]:
    evidence = Evidence(made, mirrors, period_seconds=0.05, now=lambda: NOW)
    await evidence.start()
    try:
        yield evidence
    finally:
        await evidence.stop()


async def mirrored(evidence: Evidence, name: str, count: int) -> None:
    await until(lambda: evidence.mirrored[name] == count and name not in evidence.faults, f"{count} records in {name}")


async def lines_in(db: Database, chain: str) -> list[str]:
    async with db.begin(System("backup")) as tx:
        query = text("SELECT line FROM backup.evidence WHERE chain = :chain ORDER BY sequence, digest")
        return [row[0] for row in await tx.execute(query, {"chain": chain})]


def in_the_bucket(seaweed: SeaweedServer, chain: str) -> list[bytes]:
    """What somebody with nothing but the bucket has: the records in order and the last trailer."""
    client = seaweed.client("setup")
    keys = [one["Key"] for one in client.list_objects_v2(Bucket="evidence", Prefix=f"{chain}/")["Contents"]]
    records, trailers = (sorted(key for key in keys if f"/{kind}/" in key) for kind in ("records", "trailers"))
    return [client.get_object(Bucket="evidence", Key=key)["Body"].read() for key in (*records, *trailers[-1:])]


@pytest.mark.control("B4", "records reach the off-site store and the database, also when those were away")
async def test_every_record_reaches_both_and_the_bucket_alone_is_an_export(
    tmp_path: Path, db: Database, seaweed: SeaweedServer
) -> None:
    made = journal(tmp_path, 2)
    async with running(made, DatabaseMirror(db), store_mirror(seaweed, tmp_path)) as evidence:
        await mirrored(evidence, "store", 2)
        await evidence.append("expire", "expires/1", GOOD, {"host": "db-7"})
        for name in ("store", "database"):
            await mirrored(evidence, name, 3)
        assert evidence.warnings() == []
    found = judged(in_the_bucket(seaweed, made.chain))
    assert (found.count, found.head, found.kinds) == (3, made.digest(3), {"drill": 2, "expire": 1})
    assert [line.encode() + b"\n" for line in await lines_in(db, made.chain)] == list(made.lines(0, 3))

    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "records.jsonl").write_bytes(b"".join(in_the_bucket(seaweed, made.chain)[:-1]))
    again = EvidenceJournal(tmp_path / "found", SIGNER)  # a lost disk, its journal taken from the bucket
    assert again.append(Entry("drill", "drills/4", GOOD), at=NOW)
    assert judged(exported(again)).count == 4


@pytest.mark.control("B4", "records reach the off-site store and the database, also when those were away")
async def test_with_database_and_store_away_nothing_waits_and_all_of_it_arrives_later(
    tmp_path: Path, database: TestDatabase, db: Database, seaweed: SeaweedServer
) -> None:
    gone = database.login("backup")
    object.__setattr__(gone, "database_port", 1)
    away = Database.connect(gone)
    made = journal(tmp_path)
    nowhere = store_mirror(seaweed, tmp_path, endpoint="https://127.0.0.1:1")
    async with running(made, DatabaseMirror(away), nowhere) as evidence:
        for number in range(1, 4):
            await evidence.append("drill", f"drills/{number}", GOOD)
        await until(lambda: len(evidence.faults) == 2, "both to be missed")
        told = " ".join(evidence.warnings())
        assert "3 records of evidence are not in the store yet" in told
        assert "3 records of evidence are not in the database yet" in told
    await away.stop()
    assert made.count == 3

    again = EvidenceJournal(tmp_path, SIGNER)
    async with running(again, DatabaseMirror(db), store_mirror(seaweed, tmp_path)) as evidence:
        for name in ("store", "database"):
            await mirrored(evidence, name, 3)
    assert judged(in_the_bucket(seaweed, made.chain)).count == 3
    assert len(await lines_in(db, made.chain)) == 3


async def test_a_database_that_was_restored_gets_what_it_lost(
    tmp_path: Path, database: TestDatabase, db: Database
) -> None:
    made = journal(tmp_path, 5)
    async with running(made, DatabaseMirror(db)) as evidence:
        await mirrored(evidence, "database", 5)
        before = await lines_in(db, made.chain)
        with database.admin() as admin:
            admin.execute("ALTER TABLE backup.evidence DISABLE TRIGGER kept")
            admin.execute("DELETE FROM backup.evidence WHERE chain = %s AND sequence > 2", [made.chain])
            admin.execute("ALTER TABLE backup.evidence ENABLE TRIGGER kept")

        async def whole() -> bool:
            return await lines_in(db, made.chain) == before

        await until(whole, "the rows to be there again")


async def test_a_journal_that_was_set_back_gets_what_it_lost_before_it_goes_on(tmp_path: Path, db: Database) -> None:
    made = journal(tmp_path / "now", 2)
    shutil.copytree(tmp_path / "now", tmp_path / "old")
    made = journal(tmp_path / "now", 5)
    async with running(made, DatabaseMirror(db)) as evidence:
        await mirrored(evidence, "database", 5)
    old = EvidenceJournal(tmp_path / "old", SIGNER)
    async with running(old, DatabaseMirror(db)) as evidence:
        await evidence.append("drill", "drills/6", GOOD)
        await mirrored(evidence, "database", 6)
        assert evidence.warnings() == []
    assert list(old.lines(0, 5)) == list(made.lines(0, 5))
    assert judged(exported(old)).count == 6


async def test_two_chains_of_a_copied_directory_are_both_kept_and_told_of(tmp_path: Path, db: Database) -> None:
    made = journal(tmp_path / "one", 2)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    for name in ("one", "two"):
        branch = EvidenceJournal(tmp_path / name, SIGNER)
        branch.append(Entry("drill", f"drills/{name}", GOOD), at=NOW)
        async with running(branch, DatabaseMirror(db)) as evidence:
            await mirrored(evidence, "database", 3)
            told = evidence.warnings()
    assert told == ["Two records of evidence are number 3: the state directory was copied, or set back."]
    assert len(await lines_in(db, made.chain)) == 4


async def test_a_row_that_was_not_signed_here_is_not_given_to_the_journal(
    tmp_path: Path, database: TestDatabase, db: Database
) -> None:
    made = journal(tmp_path, 1)
    forged = next(made.lines(0, 1)).decode().strip().replace('"sequence":1', '"sequence":2')
    with database.admin() as admin:
        row = ("f" * 64, made.chain, 2, "drill", "drills/2", forged)
        values = "(digest, chain, sequence, kind, subject, line) VALUES (%s, %s, %s, %s, %s, %s)"
        admin.execute(f"INSERT INTO backup.evidence {values}".encode(), row)
    async with running(made, DatabaseMirror(db)) as evidence:
        await mirrored(evidence, "database", 1)
    assert made.count == 1
    assert judged(exported(EvidenceJournal(tmp_path, SIGNER))).count == 1


@pytest.mark.control("B4", "nobody can change or remove a record in the store or the database for three years")
async def test_neither_the_service_nor_the_owner_changes_or_removes_a_row(
    tmp_path: Path, database: TestDatabase, db: Database
) -> None:
    made = journal(tmp_path, 1)
    async with running(made, DatabaseMirror(db)) as evidence:
        await mirrored(evidence, "database", 1)
    for words in ("UPDATE {} SET subject = 'x'", "DELETE FROM {}", "TRUNCATE {}"):
        statement = words.format("backup.evidence")
        with pytest.raises((ProgrammingError, AppError)):
            async with db.begin(System("backup")) as tx:
                await tx.execute(text(statement))
        async with database.session("holdfast_owner") as owner:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="evidence is kept"):
                await owner.execute(statement.encode())
    assert len(await lines_in(db, made.chain)) == 1


def denied(call: Any, **arguments: Any) -> bool:
    try:
        call(Bucket="evidence", **arguments)
    except ClientError as fault:
        return fault.response["Error"]["Code"] in ("AccessDenied", "403")
    return False


@pytest.mark.control("B4", "nobody can change or remove a record in the store or the database for three years")
async def test_what_was_put_off_site_stays_as_it_was_whoever_wants_otherwise(
    tmp_path: Path, seaweed: SeaweedServer
) -> None:
    made = journal(tmp_path, 1)
    async with running(made, store_mirror(seaweed, tmp_path)) as evidence:
        await mirrored(evidence, "store", 1)
    key = f"{made.chain}/records/{1:012d}-{made.digest(1)[:16]}.json"
    writer, setup = seaweed.client("evidence"), seaweed.client("setup")
    first = setup.list_object_versions(Bucket="evidence", Prefix=key)["Versions"][0]

    assert denied(writer.get_object, Key=key)
    assert denied(writer.delete_object, Key=key)
    assert denied(writer.delete_object, Key=key, VersionId=first["VersionId"])
    until_when = setup.get_object_retention(Bucket="evidence", Key=key)["Retention"]
    assert until_when["Mode"] == "COMPLIANCE"
    assert until_when["RetainUntilDate"] > datetime.now(UTC) + timedelta(days=3 * 366)
    assert not denied(writer.put_object, Key=key, Body=b"another")  # it makes a version of its own
    assert denied(setup.delete_object, Key=key, VersionId=first["VersionId"])
    assert denied(setup.delete_object, Key=key, VersionId=first["VersionId"], BypassGovernanceRetention=True)
    soon = {"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(seconds=1)}
    assert denied(setup.put_object_retention, Key=key, VersionId=first["VersionId"], Retention=soon)
    kept = setup.get_object(Bucket="evidence", Key=key, VersionId=first["VersionId"])["Body"].read()
    assert [kept] == list(made.lines(0, 1))


@pytest.mark.parametrize("left", [0, 1])
async def test_a_journal_that_lost_what_the_store_has_is_told_of(
    tmp_path: Path, seaweed: SeaweedServer, left: int
) -> None:
    made = journal(tmp_path, 2)
    async with running(made, store_mirror(seaweed, tmp_path)) as evidence:
        await mirrored(evidence, "store", 2)
        assert evidence.warnings() == []
    before = in_the_bucket(seaweed, made.chain)
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:left]))
    again = EvidenceJournal(tmp_path, SIGNER)
    async with running(again, store_mirror(seaweed, tmp_path)) as evidence:
        await evidence.append("drill", "drills/9", GOOD)
        await mirrored(evidence, "store", left + 1)
        assert f"the off-site store has 2 records of chain {made.chain}" in evidence.warnings()[0]
    after = in_the_bucket(seaweed, made.chain)
    assert [line for line in before if line not in after and b'"body"' in line[:9]] == []


async def test_a_bucket_that_is_another_one_is_filled_from_the_beginning(
    tmp_path: Path, seaweed: SeaweedServer
) -> None:
    made = journal(tmp_path, 2)
    mirror = store_mirror(seaweed, tmp_path)
    async with running(made, mirror) as evidence:
        await mirrored(evidence, "store", 2)
    assert await mirror.newest(made) == 2
    assert await store_mirror(seaweed, tmp_path, endpoint="https://another.example").newest(made) == 0


async def test_a_stop_in_the_moment_of_an_append_was_lost_and_the_loop_went_on_for_ever(
    tmp_path: Path, db: Database
) -> None:
    made = journal(tmp_path)
    for number in range(20):
        async with asyncio.timeout(20):
            async with running(made, DatabaseMirror(db)) as evidence:
                await mirrored(evidence, "database", number)
                await evidence.append("drill", f"drills/{number}", GOOD)
    assert made.count == 20


async def test_a_damaged_journal_stops_nothing_and_is_told_by_status_and_by_the_self_check(
    tmp_path: Path, db: Database
) -> None:
    made = journal(tmp_path, 2)
    assert await Evidence(made, [], period_seconds=1, now=lambda: NOW).check() == []
    path = tmp_path / "records.jsonl"
    path.write_bytes(path.read_bytes().replace(b"succeeded", b"SUCCEEDED", 1))
    damaged = EvidenceJournal(tmp_path, SIGNER)
    async with running(damaged, DatabaseMirror(db)) as evidence:
        assert "Record 1 of the evidence journal is not what was signed" in evidence.warnings()[0]
        await evidence.append("drill", "drills/3", GOOD)
        assert evidence.waiting == 1
    found = await Evidence(EvidenceJournal(tmp_path, SIGNER), [], period_seconds=1, now=lambda: NOW).check()
    assert len(found) == 1
    assert "Record 1 of the evidence journal" in found[0]


async def test_a_disk_that_refuses_loses_nothing_and_holds_up_nobody(tmp_path: Path, db: Database) -> None:
    made = journal(tmp_path, 1)
    path = tmp_path / "records.jsonl"
    async with running(made, DatabaseMirror(db)) as evidence:
        away = path.rename(tmp_path / "away")
        path.mkdir()
        await evidence.append("drill", "drills/2", GOOD)
        assert evidence.waiting == 1
        assert evidence.holds("drill", "drills/2")
        assert "1 records of evidence cannot be written" in evidence.warnings()[0]
        path.rmdir()
        away.rename(path)
        await mirrored(evidence, "database", 2)
        assert evidence.warnings() == []
    assert [one.subject for one in judged(exported(EvidenceJournal(tmp_path, SIGNER))).records] == [
        "drills/1",
        "drills/2",
    ]
