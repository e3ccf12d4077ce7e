"""An older chain of evidence, whose state directory is lost and which the database still holds: it can be exported."""

from datetime import timedelta
from pathlib import Path

import pytest

from holdfast.evidence import NotEvidence, parse_keys, verify
from libs.db import Database
from libs.principal import System
from services.backup.adapters.evidence_journal import EvidenceJournal
from services.backup.domain import evidence as domain
from services.backup.domain.errors import EvidenceChainNotFound, EvidenceDamaged
from services.backup.domain.evidence import Entry
from services.backup.ops.evidence import Evidence
from services.backup.ops.evidence_chains import EvidenceChains
from services.backup.ops.evidence_mirrors import DatabaseMirror
from services.backup.ops.evidence_reader import EvidenceReader
from services.backup.ops.record import Recorder
from services.backup.store import evidence as rows
from tests.support.evidence import NOW, SIGNER, journal, judged, signer
from tests.support.postgres import TestDatabase

WHO = System("backup")


@pytest.fixture(scope="module")
def db(database: TestDatabase) -> Database:
    return database.connect("backup")


def reader(db: Database, made: EvidenceJournal) -> EvidenceReader:
    kept = Evidence(made, [DatabaseMirror(db)], period_seconds=60, now=lambda: NOW)
    return EvidenceReader(kept, EvidenceChains(db), Recorder(db), now=lambda: NOW)


async def sent(db: Database, made: EvidenceJournal) -> EvidenceJournal:
    """*made*, all of it in the database."""
    await DatabaseMirror(db).send(made, 0, made.count)
    return made


async def export(db: Database, made: EvidenceJournal, chain: str, *, internal: bool = True) -> list[bytes]:
    pieces = [piece async for piece in reader(db, made).export(WHO, internal=internal, chain=chain)]
    return b"".join(pieces).splitlines(keepends=True)


async def test_a_chain_whose_state_directory_was_lost_is_exported_from_the_database(
    tmp_path: Path, db: Database
) -> None:
    old = await sent(db, journal(tmp_path / "lost", 250))
    new = await sent(db, journal(tmp_path / "new", 2))
    lines = await export(db, new, old.chain)
    assert lines[:-1] == list(old.lines(0, 250))
    assert (judged(lines).count, judged(lines).head) == (250, old.digest(250))
    shown = judged(await export(db, new, old.chain, internal=False))
    assert (shown.count, shown.internal) == (250, False)
    for own in ("", new.chain):
        assert judged(await export(db, new, own)).head == new.digest(2)


async def test_the_status_names_every_older_chain_and_how_far_the_database_has_it(tmp_path: Path, db: Database) -> None:
    old, new = await sent(db, journal(tmp_path / "lost", 3)), await sent(db, journal(tmp_path / "new", 1))
    told = await reader(db, new).status()
    counts = {one.chain: one.count for one in told.others}
    assert (counts[old.chain], new.chain in counts, told.others_fault) == (3, False, "")
    assert (await reader(db, old).status()).others[-1].chain == new.chain


async def test_without_a_database_the_status_says_that_older_chains_are_not_known(
    tmp_path: Path, database: TestDatabase
) -> None:
    gone = database.login("backup")
    object.__setattr__(gone, "database_port", 1)
    away = Database.connect(gone)
    told = await reader(away, journal(tmp_path, 1)).status()
    await away.stop()
    assert (told.count, told.others, told.others_fault) == (1, (), "The database cannot be reached.")


async def test_a_chain_that_another_key_signed_is_exported_and_verified_with_both_keys(
    tmp_path: Path, db: Database
) -> None:
    theirs = signer()
    old = await sent(db, journal(tmp_path / "lost", 2, theirs))
    lines = await export(db, journal(tmp_path / "new", 1), old.chain)
    assert verify(lines, parse_keys(SIGNER.public_pem + theirs.public_pem)).count == 2
    with pytest.raises(NotEvidence, match="signed with another key"):
        judged(lines)


async def test_a_chain_that_the_database_does_not_have_is_refused(tmp_path: Path, db: Database) -> None:
    with pytest.raises(EvidenceChainNotFound, match="holdfast evidence status"):
        await export(db, journal(tmp_path, 1), "0123456789abcdef")


@pytest.mark.parametrize("missing", [1, 3])
async def test_no_trailer_is_signed_for_a_chain_with_a_missing_record(
    tmp_path: Path, db: Database, missing: int
) -> None:
    old = journal(tmp_path / "lost", 5)
    found = [domain.row(line) for line in old.lines(0, 5) if domain.row(line).sequence != missing]
    async with db.begin(WHO) as tx:
        await rows.append(tx, found)
    with pytest.raises(EvidenceDamaged, match=f"Record {missing} "):
        await export(db, journal(tmp_path / "new", 1), old.chain)


async def test_no_trailer_is_signed_for_a_chain_in_which_two_records_are_of_one_number(
    tmp_path: Path, db: Database
) -> None:
    old = await sent(db, journal(tmp_path / "lost", 2))
    other = EvidenceJournal(tmp_path / "copy", SIGNER)
    for line in old.lines(0, 1):
        other.adopt(line[:-1])
    other.append(Entry("drill", "drills/other", {"outcome": "succeeded"}), at=NOW + timedelta(days=1))
    await sent(db, other)
    with pytest.raises(EvidenceDamaged, match="Record 2 "):
        await export(db, journal(tmp_path / "new", 1), old.chain)
