"""The chain of evidence on this disk: its first and complete home; the database and the store are copies.

One file of lines, appended under an exclusive flock on the file itself, each line durable before anybody is told. Who
holds the lock first reads what others appended, and cuts off a last line without its newline: its writer died before
anybody was told of it. So whatever dies whenever, there is one chain, in order, without a hole. Source: flock(2).
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from libs.evidence import NOTHING, Chain, NotEvidence, Record, parse_keys
from services.backup.adapters.journal import sync_directory, write
from services.backup.domain import evidence
from services.backup.domain.errors import EvidenceDamaged
from services.backup.domain.evidence import Entry, Signer

_READ_BYTES = 1 << 20


class EvidenceJournal:
    """The chain in *directory*. Its methods block, and may be called from any thread and process.

    keys.pem beside it holds every public key that ever signed here: a changed key continues the chain.
    """

    def __init__(self, directory: Path, signer: Signer) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = directory / "records.jsonl"
        self._signer = signer
        self._chain = Chain({})
        self._ends: list[int] = []
        self._digests: list[str] = []
        self._told: set[tuple[str, str]] = set()
        self._guard = threading.Lock()
        with self._flocked():
            self.public_keys = _known_keys(directory / "keys.pem", signer)

    @property
    def count(self) -> int:
        """How many records were read or written so far."""
        return len(self._digests)

    @property
    def chain(self) -> str:
        """Its id, "" before the first record."""
        return self._chain.id

    def digest(self, sequence: int) -> str:
        """Of the record with this number; of number 0 what the first record names as the one before it."""
        return self._digests[sequence - 1] if sequence else NOTHING

    def holds(self, kind: str, subject: str) -> bool:
        """Whether there is a record of this kind about this subject."""
        return (kind, subject) in self._told

    def load(self) -> int:
        """Read what is there; how many records. Raises EvidenceDamaged, OSError."""
        with self._locked():
            return self.count

    def append(self, entry: Entry, *, at: datetime) -> bool:
        """Make *entry* the next record, durable when this returns; False when its kind and subject have one already.

        Raises EvidenceDamaged when what is there cannot be followed, and OSError; then nothing is appended.
        """
        with self._locked() as file:
            if self.holds(entry.kind, entry.subject):
                return False
            self._extend(file, evidence.record(self._signer, self._chain, entry, at=at))
            return True

    def adopt(self, line: bytes) -> Record:
        """Append a record that was made here before, known from a copy. Raises NotEvidence when it is not the next."""
        with self._locked() as file:
            return self._extend(file, line)

    def lines(self, after: int, upto: int) -> Iterator[bytes]:
        """The records behind number *after* up to and with *upto*, at most `count`, each with its newline."""
        if after >= upto:
            return
        with self._path.open("rb") as file:
            file.seek(self._ends[after - 1] if after else 0)
            for _ in range(after, upto):
                yield file.readline()

    def trailer(self, count: int, *, at: datetime, internal: bool) -> bytes:
        """The line, with newline, that ends an export of the first *count* records."""
        return self.trailer_of(count, self.digest(count), at=at, internal=internal)

    def trailer_of(self, count: int, head: str, *, at: datetime, internal: bool) -> bytes:
        """The same of any chain, whose record *count* has the digest *head*."""
        return evidence.trailer(self._signer, count, head, at=at, internal=internal) + b"\n"

    @contextmanager
    def _locked(self) -> Iterator[int]:
        with self._guard, self._flocked() as file:
            self._catch_up(file)
            yield file

    @contextmanager
    def _flocked(self) -> Iterator[int]:
        new = not self._path.exists()
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if new:
                sync_directory(self._path.parent)
            yield file
        finally:
            os.close(file)

    def _extend(self, file: int, line: bytes) -> Record:
        # Followed before it is written: what this chain would not believe never gets into it.
        before = (self._chain.id, self._chain.count, self._chain.head)
        found = self._chain.follow(line)
        at = self._ends[-1] if self._ends else 0
        try:
            _write(file, line + b"\n")
        except OSError:
            self._chain.id, self._chain.count, self._chain.head = before
            os.ftruncate(file, at)
            raise
        self._note(found, at + len(line) + 1)
        return found

    def _catch_up(self, file: int) -> None:
        at = self._ends[-1] if self._ends else 0
        size = os.fstat(file).st_size
        if size < at:
            raise EvidenceDamaged(f"The evidence journal was cut to {size} bytes; {at} were known.", path=self._path)
        if size > at:  # somebody else wrote, perhaps with a newer key
            self.public_keys = _known_keys(self._path.with_name("keys.pem"), self._signer)
        self._chain.keys = parse_keys(self.public_keys)
        rest = b""
        while block := os.pread(file, _READ_BYTES, at + len(rest)):
            *whole, rest = (rest + block).split(b"\n")
            for line in whole:
                at += len(line) + 1
                self._follow(line, at)
        if rest:
            os.ftruncate(file, at)
            os.fsync(file)

    def _follow(self, line: bytes, end: int) -> None:
        try:
            self._note(self._chain.follow(line), end)
        except NotEvidence as fault:
            number = self._chain.count + 1
            raise EvidenceDamaged(
                f"Record {number} of the evidence journal is not what was signed: {fault.fault}.",
                path=self._path, record=number,
            ) from fault  # fmt: skip

    def _note(self, found: Record, end: int) -> None:
        self._ends.append(end)
        self._digests.append(found.digest)
        self._told.add((found.kind, found.subject))


def _write(file: int, line: bytes) -> None:
    left = memoryview(line)
    while left:
        left = left[os.write(file, left) :]
    os.fsync(file)


def _known_keys(path: Path, signer: Signer) -> bytes:
    known = path.read_bytes() if path.exists() else b""
    if not known or signer.id not in parse_keys(known):
        known += signer.public_pem
        write(path, known.decode())
    return known
