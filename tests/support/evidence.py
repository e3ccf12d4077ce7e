"""Chains of evidence for tests."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from deploy.stack.credentials import fresh_signing_key
from holdfast.evidence import Summary, parse_keys, verify
from services.backup.adapters.evidence_journal import EvidenceJournal
from services.backup.domain import evidence
from services.backup.domain.evidence import Entry, Signer

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


def signer() -> Signer:
    """One nobody knows."""
    return Signer(fresh_signing_key())


SIGNER = signer()


def journal(directory: Path, count: int = 0, by: Signer = SIGNER) -> EvidenceJournal:
    """A journal that has at least *count* drills, the third of them failed."""
    made = EvidenceJournal(directory, by)
    for number in range(1, count + 1):
        facts = {"outcome": "failed" if number == 3 else "succeeded", "rpo_ms": 900 + number}
        entry = Entry("drill", f"drills/{number}", facts, {"label": f"20261122-00000{number}F", "host": "db-7"})
        made.append(entry, at=NOW + timedelta(minutes=number))
    return made


def exported(made: EvidenceJournal, *, internal: bool = True) -> list[bytes]:
    made.load()
    lines = list(made.lines(0, made.count))
    if not internal:
        lines = [evidence.without_internal(line) + b"\n" for line in lines]
    return [*lines, made.trailer(made.count, at=NOW + timedelta(hours=1), internal=internal)]


def judged(lines: list[bytes], by: Signer = SIGNER) -> Summary:
    return verify(lines, parse_keys(by.public_pem))
