"""Evidence as it is written: a record is composed, signed, and bound to the one before it; libs.evidence is its form.

Facts are what a customer may read too; internal facts (hosts, labels, log lines, versions) are bound to the record by a
commitment and left out of what customers get. `outcome` in facts is "succeeded" or "failed", whatever the kind.
"""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from libs.evidence import NOTHING, RECORD, TRAILER, Chain, canonical, commitment, digest, key_id, public_pem

_KIND = re.compile(r"[a-z][a-z_]{0,39}")
_MOST = 2**53 - 1
_SALT_BYTES = 16
_CHAIN_BYTES = 8


class Signer:
    """The private key. pem: PKCS #8, Ed25519, unencrypted. Raises ValueError for another key."""

    def __init__(self, pem: bytes) -> None:
        key = load_pem_private_key(pem, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("the evidence key is not an Ed25519 private key")
        self._key = key
        self.id = key_id(key.public_key())
        self.public_pem = public_pem(key.public_key())

    def sign(self, prefix: bytes, value: Any) -> str:
        """Hex signature over *prefix* and the canonical form of *value*."""
        return self._key.sign(prefix + canonical(value)).hex()


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to prove. subject: what it is about; one record for each kind and subject, however often it is told.

    Raises ValueError for a kind that is not lower-case words joined by "_", and for an empty subject.
    """

    kind: str
    subject: str
    facts: Mapping[str, Any]
    internal: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _KIND.fullmatch(self.kind) or not self.subject:
            raise ValueError("an entry has a kind of lower-case words and a subject")


def record(signer: Signer, chain: Chain, entry: Entry, *, at: datetime) -> bytes:
    """The line, without newline, of *entry* as the next record of *chain*."""
    internal, salt = plain(entry.internal), secrets.token_hex(_SALT_BYTES)
    body = {
        "at": stamp(at),
        "chain": chain.id or secrets.token_hex(_CHAIN_BYTES),
        "commitment": commitment(internal, salt),
        "facts": plain(entry.facts),
        "key": signer.id,
        "kind": entry.kind,
        "previous": chain.head,
        "sequence": chain.count + 1,
        "subject": plain(entry.subject),
        "version": 1,
    }
    signature = signer.sign(RECORD, body)
    return canonical({"body": body, "internal": {"facts": internal, "salt": salt}, "signature": signature})


def trailer(signer: Signer, count: int, head: str, *, at: datetime, internal: bool) -> bytes:
    """The line, without newline, that ends an export of *count* records, the last with digest *head*.

    internal: whether the internal parts are in.
    """
    value = {
        "count": count,
        "exported_at": stamp(at),
        "head": head,
        "internal": internal,
        "key": signer.id,
        "version": 1,
    }
    return canonical({"signature": signer.sign(TRAILER, value), "trailer": value})


def without_internal(line: bytes) -> bytes:
    """A record's *line* as customers get it; its signature holds as before."""
    value = json.loads(line)
    del value["internal"]
    return canonical(value)


def stamp(at: datetime) -> str:
    """RFC 3339 in UTC, to the microsecond."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def milliseconds(seconds: float | None) -> int | None:
    """Seconds as whole milliseconds: evidence has no fractions."""
    return None if seconds is None else round(seconds * 1000)


def plain(value: Any) -> Any:
    """*value* in the narrow JSON of evidence, losing nothing a reader could miss.

    Moments become RFC 3339, enums their values, fractions text with six digits, numbers beyond 2^53 text, names ASCII.
    """
    if isinstance(value, datetime):
        return stamp(value)
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {str(name).encode("ascii", "backslashreplace").decode(): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) <= _MOST):
        return value
    if isinstance(value, float):
        return f"{value:.6f}"
    return str(value).encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class Row:
    """A record as its mirrors name it. line: without newline."""

    chain: str
    digest: str
    sequence: int
    kind: str
    subject: str
    line: str


@dataclass(frozen=True, slots=True)
class Other:
    """A chain that does not go on here. count: number of its last record. begun_at, ended_at: first, last mirrored."""

    chain: str
    count: int
    begun_at: datetime
    ended_at: datetime


class Links:
    """Follows records that nobody here need have signed: that each is bound to the one before it, and no more."""

    def __init__(self) -> None:
        self.count = 0
        self._head = NOTHING

    def follow(self, line: bytes) -> None:
        """Raise ValueError unless *line*, without newline, is the next record."""
        try:
            body = json.loads(line)["body"]
            bound = (body["sequence"], body["previous"]) == (self.count + 1, self._head)
            head = digest(body)
        except (KeyError, TypeError) as fault:
            raise ValueError("a record has no such form") from fault
        if not bound:
            raise ValueError("a record does not follow the one before it")
        self.count, self._head = self.count + 1, head

    @property
    def head(self) -> str:
        """Digest of the last record that was followed."""
        return self._head


def row(line: bytes) -> Row:
    """Of a record's own *line*, with its newline."""
    body = json.loads(line)["body"]
    text = line.decode().removesuffix("\n")
    return Row(body["chain"], digest(body), body["sequence"], body["kind"], body["subject"], text)
