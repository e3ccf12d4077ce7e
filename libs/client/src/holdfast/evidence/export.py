"""A whole export, judged offline."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from holdfast.evidence.chain import Chain, NotEvidence, Record, check_signature, opened, shaped
from holdfast.evidence.form import TRAILER, canonical
from holdfast.evidence.keys import Keys

_TRAILER = {"count": int, "exported_at": str, "head": str, "internal": bool, "key": str, "version": int}


@dataclass(frozen=True, slots=True)
class Summary:
    """What a true export holds. kinds: records by kind. last_good_drill: the newest successful one, None without.

    failures_since: every failed record after it. internal: whether the export has the internal parts. key: of the
    trailer. records: all of them, in order.
    """

    count: int
    head: str
    exported_at: str
    key: str
    internal: bool
    kinds: Mapping[str, int]
    last_good_drill: Record | None
    failures_since: tuple[Record, ...]
    records: tuple[Record, ...]


LONGEST = 16 << 20
"""Bytes of a line; a record is some kilobytes."""


def lines_of(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of *file*; one that is too long for a record comes as a piece without its newline, which is no line."""
    return iter(lambda: file.readline(LONGEST), b"")


def verify(lines: Iterable[bytes], keys: Keys) -> Summary:
    """What the export holds whose *lines*, each with its newline, these are. Raises NotEvidence at the first fault."""
    chain, records = Chain(keys), list[Record]()
    trailer: dict[str, Any] | None = None
    number = 0
    for number, line in enumerate(lines, 1):
        try:
            if not line.endswith(b"\n"):
                raise NotEvidence("the line is cut off")
            if trailer is not None:
                raise NotEvidence("something follows the trailer")
            if line.startswith(b'{"body":'):
                records.append(chain.follow(line[:-1]))
            else:
                trailer = _trailer(line[:-1], chain, records, keys)
        except NotEvidence as fault:
            raise NotEvidence(fault.fault, line=number) from None
    if trailer is None:
        raise NotEvidence(f"the tail is cut off: there is no trailer after line {number}")
    return _summary(trailer, records)


def _trailer(line: bytes, chain: Chain, records: list[Record], keys: Keys) -> dict[str, Any]:
    value = opened(line)
    if value.keys() != {"signature", "trailer"}:
        raise NotEvidence("neither a record nor a trailer")
    trailer = shaped(value["trailer"], _TRAILER)
    check_signature(keys, trailer["key"], value["signature"], TRAILER + canonical(trailer))
    if trailer["count"] != chain.count or trailer["head"] != chain.head:
        raise NotEvidence(f"{chain.count} records are here; {trailer['count']} were exported, ending in another one")
    if any((record.internal is not None) is not trailer["internal"] for record in records):
        raise NotEvidence("an internal part was left out or put in")
    return trailer


def _summary(trailer: Mapping[str, Any], records: list[Record]) -> Summary:
    good = [record for record in records if record.kind == "drill" and record.facts.get("outcome") == "succeeded"]
    last = good[-1] if good else None
    since = [record for record in records if last is None or record.sequence > last.sequence]
    return Summary(
        count=trailer["count"],
        head=trailer["head"],
        exported_at=trailer["exported_at"],
        key=trailer["key"],
        internal=trailer["internal"],
        kinds=dict(Counter(record.kind for record in records)),
        last_good_drill=last,
        failures_since=tuple(record for record in since if record.facts.get("outcome") == "failed"),
        records=tuple(records),
    )
