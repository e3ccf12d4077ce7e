"""Following a chain of records: each is believed only behind the one before it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature

from holdfast.evidence.form import NOTHING, RECORD, canonical, commitment, digest, read
from holdfast.evidence.keys import Keys

_BODY = {
    "at": str, "chain": str, "commitment": str, "facts": dict, "key": str, "kind": str, "previous": str,
    "sequence": int, "subject": str, "version": int,
}  # fmt: skip
VERSION = 1


class NotEvidence(Exception):
    """What was read is not what was signed. line: of the file, from 1; 0 when no line is to blame. fault: a clause."""

    def __init__(self, fault: str, *, line: int = 0) -> None:
        super().__init__(f"line {line}: {fault}" if line else fault)
        self.fault = fault
        self.line = line


@dataclass(frozen=True, slots=True)
class Record:
    """One record that is believed. at: RFC 3339, UTC. internal: None where it was left out. digest: of the body."""

    sequence: int
    digest: str
    at: str
    kind: str
    subject: str
    facts: Mapping[str, Any]
    internal: Mapping[str, Any] | None


class Chain:
    """The records followed so far; keys: whose signatures are believed. id: of the chain, "" before the first."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.id = ""
        self.count = 0
        self.head = NOTHING

    def follow(self, line: bytes) -> Record:
        """Believe the next record, given as its line without newline. Raises NotEvidence, and stays where it is."""
        value = opened(line)
        if not {"body", "signature"} <= value.keys() <= {"body", "internal", "signature"}:
            raise NotEvidence("this is not a record")
        body = shaped(value["body"], _BODY)
        if body["sequence"] != self.count + 1:
            raise NotEvidence(f"record {body['sequence']} stands where {self.count + 1} has to be")
        check_signature(self.keys, body["key"], value["signature"], RECORD + canonical(body))
        if body["previous"] != self.head:
            raise NotEvidence(f"record {body['sequence']} does not follow the one before it")
        internal = _internal(value, body["commitment"])
        self.id, self.count, self.head = body["chain"], body["sequence"], digest(body)
        return Record(self.count, self.head, body["at"], body["kind"], body["subject"], body["facts"], internal)


def opened(line: bytes) -> dict[str, Any]:
    """The object on *line*. Raises NotEvidence unless the line is its canonical form."""
    try:
        value = read(line)
    except (ValueError, RecursionError):
        raise NotEvidence("not the canonical form of a record: a byte was changed") from None
    if not isinstance(value, dict):
        raise NotEvidence("not an object")
    return value


def shaped(value: Any, members: Mapping[str, type]) -> dict[str, Any]:
    """*value*, when it has exactly these members. Raises NotEvidence."""
    if not isinstance(value, dict) or value.keys() != members.keys():
        raise NotEvidence("not the members a record has")
    if any(type(value[name]) is not kind for name, kind in members.items()):
        raise NotEvidence("a member is of another type")
    if value["version"] != VERSION:
        raise NotEvidence(f"of version {value['version']}; this program knows {VERSION}")
    return value


def check_signature(keys: Keys, key: str, signature: Any, signed: bytes) -> None:
    """Raise NotEvidence unless *signature*, lower-case hex, is that of *signed* by the key of this id."""
    known = keys.get(key)
    if known is None:
        raise NotEvidence(f"signed with another key ({printable(key[:64])}) than {', '.join(keys)}")
    try:
        raw = bytes.fromhex(signature)
        if raw.hex() != signature:
            raise ValueError
        known.verify(raw, signed)
    except (ValueError, TypeError, InvalidSignature):
        raise NotEvidence("the signature is not right: something was changed") from None


def printable(text: str) -> str:
    """*text* from a file that nobody vouches for, without what a terminal would obey."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _internal(value: Mapping[str, Any], expected: str) -> Mapping[str, Any] | None:
    if "internal" not in value:
        return None
    internal = value["internal"]
    if not isinstance(internal, dict) or internal.keys() != {"facts", "salt"}:
        raise NotEvidence("not the internal part of a record")
    facts, salt = internal["facts"], internal["salt"]
    if not isinstance(facts, dict) or not isinstance(salt, str) or commitment(facts, salt) != expected:
        raise NotEvidence("the internal part is not the one that was signed")
    return facts
