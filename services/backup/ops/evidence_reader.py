"""Showing evidence: its state, and all of it as an export."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from libs.clock import Clock
from libs.principal import Principal
from services.backup.domain.evidence import without_internal
from services.backup.ops.evidence import Evidence
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
    """head: digest of the last record. public_keys: PEM. warnings: in plain words."""

    chain: str
    count: int
    head: str
    mirrors: tuple[MirrorState, ...]
    public_keys: str
    warnings: tuple[str, ...]


class EvidenceReader:
    """Reads the journal of *evidence*: neither the database nor the store is needed."""

    def __init__(self, evidence: Evidence, recorder: Recorder, *, now: Clock) -> None:
        self._evidence = evidence
        self._recorder = recorder
        self._now = now

    def status(self) -> EvidenceStatus:
        """The chain now."""
        evidence, journal = self._evidence, self._evidence.journal
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
        )

    async def export(self, who: Principal, *, internal: bool) -> AsyncIterator[bytes]:
        """Every record and then the trailer, some whole lines at a time. Raises EvidenceDamaged before the first."""
        journal = self._evidence.journal
        count = await asyncio.to_thread(journal.load)
        shown = "whole" if internal else "without internals"
        await self._recorder.audit(who, "evidence.exported", count=str(count), shown=shown)
        pieces = _pieces(journal.lines(0, count), internal=internal)
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield piece
        yield journal.trailer(count, at=self._now(), internal=internal)


def _pieces(lines: Iterator[bytes], *, internal: bool) -> Iterator[bytes]:
    piece = bytearray()
    for line in lines:
        piece += line if internal else without_internal(line) + b"\n"
        if len(piece) > _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)
