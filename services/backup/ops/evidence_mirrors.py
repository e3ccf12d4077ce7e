"""The two copies of the chain: rows in the database, objects in the off-site store."""

import asyncio

from libs.clock import Clock
from libs.db import Database
from libs.evidence import NotEvidence
from libs.observability import log
from libs.principal import System
from services.backup.adapters.evidence_journal import EvidenceJournal
from services.backup.adapters.offsite import Filled, Offsite
from services.backup.domain.evidence import Row, row
from services.backup.store import evidence as rows

_log = log.get(__name__)
_WHO = System("backup")
_BATCH = 100


class DatabaseMirror:
    """Is asked each time how far it is: a database that was restored has less than was sent."""

    name = "database"

    def __init__(self, db: Database) -> None:
        self._db = db
        self.warning = ""

    async def newest(self, journal: EvidenceJournal) -> int:
        """Up to which number its rows are those of *journal*; found by halves, for rows are added in order.

        What a journal set back to an older state has lost is given back to it first.
        """
        await self._adopt(journal)
        low, high = 0, journal.count
        if high and await self._has(journal.digest(high)):
            return high
        while low < high:
            middle = (low + high + 1) // 2
            if await self._has(journal.digest(middle)):
                low = middle
            else:
                high = middle - 1
        return low

    async def send(self, journal: EvidenceJournal, after: int, upto: int) -> None:
        """Add rows, some in each transaction; then look whether the chain is one."""
        for begin in range(after, upto, _BATCH):
            found = await _rows(journal, begin, min(begin + _BATCH, upto))
            async with self._db.begin(_WHO) as tx:
                await rows.append(tx, found)
        async with self._db.begin(_WHO) as tx:
            fork = await rows.forked(tx, journal.chain)
        twice = f"Two records of evidence are number {fork}: the state directory was copied, or set back."
        self.warning = twice if fork else ""

    async def _adopt(self, journal: EvidenceJournal) -> None:
        while journal.count:
            async with self._db.begin(_WHO) as tx:
                lost = await rows.behind(tx, journal.chain, journal.count, _BATCH)
            if not lost:
                return
            try:
                for line in lost:
                    await asyncio.to_thread(journal.adopt, line)
            except NotEvidence as fault:
                _log.error("evidence_not_adopted", record=journal.count + 1, fault=fault.fault)
                return
            _log.warning("evidence_adopted", count=len(lost), newest=journal.count)

    async def _has(self, digest: str) -> bool:
        async with self._db.begin(_WHO) as tx:
            return await rows.known(tx, digest)


class StoreMirror:
    """CHAIN/records/NUMBER-DIGEST.json is a record's line; CHAIN/trailers/… a trailer for all up to there.

    The records in order and the last trailer, one after the other, are an export that anyone can verify.
    """

    name = "store"

    def __init__(self, offsite: Offsite, *, now: Clock) -> None:
        self._offsite = offsite
        self._now = now
        self.warning = ""

    async def newest(self, journal: EvidenceJournal) -> int:
        """As remembered: the store shows nothing to whom may only put.

        What was put and is not in *journal* any more is told of until this process ends; the store keeps it.
        """
        filled, count = await asyncio.to_thread(self._offsite.filled), journal.count
        known = filled.chain == journal.chain and filled.sequence <= count
        if not filled.sequence or (known and journal.digest(filled.sequence) == filled.digest):
            return filled.sequence
        self.warning = (
            f"The journal of evidence was replaced or set back: the off-site store has {filled.sequence} records of"
            f" chain {filled.chain}, and not all of them are in it. Put the store's records in its place."
        )
        return 0

    async def send(self, journal: EvidenceJournal, after: int, upto: int) -> None:
        """Put one object after the other, then the public keys and a trailer; only then is all of it remembered."""
        chain = journal.chain
        for begin in range(after, upto, _BATCH):
            end = min(begin + _BATCH, upto)
            for each in await _rows(journal, begin, end):
                name = _name(each.sequence, each.digest)
                await self._offsite.put(f"{chain}/records/{name}.json", each.line.encode() + b"\n")
            if end < upto:
                await asyncio.to_thread(self._offsite.remember, Filled(chain, end, journal.digest(end)))
        name = _name(upto, journal.digest(upto))
        await self._offsite.put(f"{chain}/keys/{name}.pem", journal.public_keys)
        trailer = journal.trailer(upto, at=self._now(), internal=True)
        await self._offsite.put(f"{chain}/trailers/{name}.json", trailer)
        await asyncio.to_thread(self._offsite.remember, Filled(chain, upto, journal.digest(upto)))


def _name(sequence: int, digest: str) -> str:
    return f"{sequence:012d}-{digest[:16]}"


async def _rows(journal: EvidenceJournal, after: int, upto: int) -> list[Row]:
    return await asyncio.to_thread(lambda: [row(line) for line in journal.lines(after, upto)])
