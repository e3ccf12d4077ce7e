"""Chains of evidence that do not go on here: a lost state directory began them, and the database still has them."""

from collections.abc import AsyncIterator

from libs.db import Database
from libs.principal import System
from services.backup.domain.errors import EvidenceChainNotFound, EvidenceDamaged
from services.backup.domain.evidence import Links, Other
from services.backup.store import evidence as rows

_WHO = System("backup")
_BATCH = 100


class EvidenceChains:
    """Reads the database's mirror. Every method raises Unavailable when that is away."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def others(self, chain: str) -> list[Other]:
        """Chains that are not *chain*, in the order in which they came."""
        async with self._db.begin(_WHO) as tx:
            return await rows.others(tx, chain)

    async def count(self, chain: str) -> int:
        """How many records of *chain* there are. Raises EvidenceChainNotFound for none, EvidenceDamaged for a fork."""
        async with self._db.begin(_WHO) as tx:
            found, fork = await rows.count(tx, chain), await rows.forked(tx, chain)
        if fork:
            raise _broken(chain, fork)
        if not found:
            raise EvidenceChainNotFound(
                f"The database has no record of chain {chain}. Which ones it has: holdfast evidence status", chain=chain
            )
        return found

    async def lines(self, chain: str, links: Links, upto: int) -> AsyncIterator[bytes]:
        """Records of *chain* up to number *upto*, some at a time, each with its newline; *links* has followed them.

        Raises EvidenceDamaged where one does not follow the one before it, or is missing.
        """
        while links.count < upto:
            async with self._db.begin(_WHO) as tx:
                found = await rows.behind(tx, chain, links.count, min(_BATCH, upto - links.count))
            for line in found:
                try:
                    links.follow(line)
                except ValueError as fault:
                    raise _broken(chain, links.count + 1) from fault
            if not found:
                raise _broken(chain, links.count + 1)
            yield b"".join(line + b"\n" for line in found)


def _broken(chain: str, record: int) -> EvidenceDamaged:
    return EvidenceDamaged(
        f"Record {record} of chain {chain} in the database is not one that follows the one before it. The off-site"
        " bucket has the chain too.",
        chain=chain,
        record=record,
    )
