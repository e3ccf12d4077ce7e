"""Showing evidence: its state, and all of it as an export."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from libs.clock import Clock
from libs.errors import AppError
from libs.principal import Principal
from services.backup.domain.evidence import Links, Other, without_internal
from services.backup.ops.evidence import Evidence
from services.backup.ops.evidence_chains import EvidenceChains
from services.backup.ops.record import Recorder

_PIECE_BYTES = 256 << 10
_NO_STORE = "No off-site store of evidence is set: a loss of this machine takes the newest records with it."


@dataclass(frozen=True, slots=True)
class MirrorState:
    """count: up to which record it has everything. fault: why it cannot be reached, "" when it can."""

    name: str
    count: int
    fault: str


@dataclass(frozen=True, slots=True)
class EvidenceStatus:
    """head: digest of the last record. public_keys: PEM. warnings: in plain words.

    others: chains that do not go on here, as the database has them; others_fault: why they are not known, or "".
    """

    chain: str
    count: int
    head: str
    mirrors: tuple[MirrorState, ...]
    public_keys: str
    warnings: tuple[str, ...]
    others: tuple[Other, ...]
    others_fault: str


class EvidenceReader:
    """Reads the journal of *evidence*: neither the database nor the store is needed, but for a chain of *chains*."""

    def __init__(self, evidence: Evidence, chains: EvidenceChains, recorder: Recorder, *, now: Clock) -> None:
        self._evidence = evidence
        self._chains = chains
        self._recorder = recorder
        self._now = now

    async def status(self) -> EvidenceStatus:
        """The chain now."""
        evidence, journal = self._evidence, self._evidence.journal
        others, others_fault = list[Other](), ""
        try:
            others = await self._chains.others(journal.chain)
        except AppError as fault:
            others_fault = fault.message
        count = journal.count
        mirrors = tuple(
            MirrorState(name, mirrored, evidence.faults.get(name, "")) for name, mirrored in evidence.mirrored.items()
        )
        return EvidenceStatus(
            chain=journal.chain,
            count=count,
            head=journal.digest(count),
            mirrors=mirrors,
            public_keys=journal.public_keys.decode(),
            warnings=tuple(evidence.warnings() + ([] if "store" in evidence.mirrors else [_NO_STORE])),
            others=tuple(others),
            others_fault=others_fault,
        )

    async def export(self, who: Principal, *, internal: bool, chain: str = "") -> AsyncIterator[bytes]:
        """Every record of *chain*, "" for the one that goes on here, and then the trailer, some whole lines at a time.

        Raises EvidenceDamaged, and EvidenceChainNotFound or Unavailable for a chain that only the database has.
        """
        journal = self._evidence.journal
        if chain not in ("", journal.chain):
            async for piece in self._export_other(who, chain, internal=internal):
                yield piece
            return
        count = await asyncio.to_thread(journal.load)
        await self._told(who, journal.chain, count, internal=internal)
        pieces = _pieces(journal.lines(0, count), internal=internal)
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield piece
        yield journal.trailer(count, at=self._now(), internal=internal)

    async def _export_other(self, who: Principal, chain: str, *, internal: bool) -> AsyncIterator[bytes]:
        count, links = await self._chains.count(chain), Links()
        await self._told(who, chain, count, internal=internal)
        async for lines in self._chains.lines(chain, links, count):
            for piece in _pieces(iter(lines.splitlines(keepends=True)), internal=internal):
                yield piece
        yield self._evidence.journal.trailer_of(links.count, links.head, at=self._now(), internal=internal)

    async def _told(self, who: Principal, chain: str, count: int, *, internal: bool) -> None:
        shown = "whole" if internal else "without internals"
        await self._recorder.audit(who, "evidence.exported", chain=chain, count=str(count), shown=shown)


def _pieces(lines: Iterator[bytes], *, internal: bool) -> Iterator[bytes]:
    piece = bytearray()
    for line in lines:
        piece += line if internal else without_internal(line) + b"\n"
        if len(piece) > _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)
