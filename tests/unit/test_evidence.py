"""Evidence: one chain, in order, whatever dies; and an export that a single changed byte disproves."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.evidence import NotEvidence, parse_keys, verify
from holdfast.evidence.form import read
from libs.evidence import Chain, canonical
from services.backup.adapters.evidence_journal import EvidenceJournal
from services.backup.domain import evidence
from services.backup.domain.evidence import Entry
from tests.support.evidence import NOW, SIGNER, exported, journal, judged, signer


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Four records and the trailer, true."""
    return exported(journal(tmp_path_factory.mktemp("evidence"), 4))


@pytest.mark.control("B4", "the newest good drill and every later failure are in a signed, chained record")
def test_a_true_export_is_believed_and_says_what_it_holds(export: list[bytes]) -> None:
    found = judged(export)
    assert (found.count, found.kinds, found.internal) == (4, {"drill": 4}, True)
    assert found.last_good_drill is not None
    assert (found.last_good_drill.sequence, found.failures_since) == (4, ())
    assert found.exported_at == "2026-11-22T04:00:00.000000Z"
    assert found.records[2].facts == {"outcome": "failed", "rpo_ms": 903}
    assert found.records[2].internal == {"host": "db-7", "label": "20261122-000003F"}


def test_failures_after_the_last_good_drill_are_named(tmp_path: Path) -> None:
    found = judged(exported(journal(tmp_path, 3)))
    assert found.last_good_drill is not None
    assert found.last_good_drill.subject == "drills/2"
    assert [one.subject for one in found.failures_since] == ["drills/3"]


def test_an_empty_chain_is_true_too(tmp_path: Path) -> None:
    assert judged(exported(journal(tmp_path))).count == 0


WRONG: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "swapped": lambda lines: [lines[1], lines[0], *lines[2:]],
    "repeated": lambda lines: [lines[0], lines[0], *lines[1:]],
    "missing in the middle": lambda lines: [lines[0], *lines[2:]],
    "missing at the start": lambda lines: lines[1:],
    "missing before the trailer": lambda lines: [*lines[:-2], lines[-1]],
    "tail cut after a record": lambda lines: lines[:-1],
    "tail cut in a line": lambda lines: [*lines[:-1], lines[-1][:-9]],
    "everything cut": lambda lines: [],
    "something after the trailer": lambda lines: [*lines, lines[0]],
    "two trailers": lambda lines: [*lines, lines[-1]],
    "trailer in the middle": lambda lines: [*lines[:2], lines[-1], *lines[2:-1]],
    "an empty line": lambda lines: [*lines[:2], b"\n", *lines[2:]],
    "a space": lambda lines: [lines[0].replace(b'":', b'": ', 1), *lines[1:]],
    "another order of members": lambda lines: [json.dumps(json.loads(lines[0])).encode() + b"\n", *lines[1:]],
    "one internal part left out": lambda lines: [evidence.without_internal(lines[0]) + b"\n", *lines[1:]],
    "another's internal part": lambda lines: [_with_internal_of(lines[0], lines[1]), *lines[1:]],
}


def _with_internal_of(line: bytes, other: bytes) -> bytes:
    return canonical(json.loads(line) | {"internal": json.loads(other)["internal"]}) + b"\n"


@pytest.mark.control("B4", "a changed byte, a swapped, repeated, inserted or missing record, a cut tail are refused")
@pytest.mark.parametrize("how", WRONG)
def test_an_export_is_refused_that_was_changed_by_line(export: list[bytes], how: str) -> None:
    assert judged(export).count == 4
    with pytest.raises(NotEvidence):
        judged(WRONG[how](export))


@pytest.mark.control("B4", "a changed byte, a swapped, repeated, inserted or missing record, a cut tail are refused")
@pytest.mark.parametrize("internal", [True, False], ids=["whole", "for customers"])
def test_every_single_byte_of_an_export_counts(tmp_path: Path, internal: bool) -> None:
    whole = b"".join(exported(journal(tmp_path, 1), internal=internal))
    believed = []
    for at in range(len(whole)):
        for bit in (0x01, 0x20):
            changed = bytearray(whole)
            changed[at] ^= bit
            try:
                judged(bytes(changed).splitlines(keepends=True) if 0x0A in changed else [bytes(changed)])
                believed.append((at, bit))
            except NotEvidence:
                continue
    assert believed == []
    assert judged(whole.splitlines(keepends=True)).count == 1


@pytest.mark.control("B4", "a changed byte, a swapped, repeated, inserted or missing record, a cut tail are refused")
def test_a_record_that_somebody_else_signed_is_refused_wherever_it_is_put_in(tmp_path: Path) -> None:
    made, good = journal(tmp_path, 2), Entry("drill", "drills/9", {"outcome": "succeeded"})
    forged, genuine = (evidence.record(one, _after(made), good, at=NOW) + b"\n" for one in (signer(), SIGNER))
    two = list(made.lines(0, 2))
    end = made.trailer(2, at=NOW, internal=True)
    assert judged([*two, end]).count == 2
    for lines in ([*two, forged, end], [*two, genuine, end], [forged, *two, end]):
        with pytest.raises(NotEvidence):
            judged(lines)


@pytest.mark.control("B4", "a changed byte, a swapped, repeated, inserted or missing record, a cut tail are refused")
def test_a_record_of_another_chain_that_the_same_key_signed_is_refused(tmp_path: Path) -> None:
    own, other = (exported(journal(tmp_path / name, 3)) for name in ("own", "other"))
    assert judged(own).count == judged(other).count == 3
    with pytest.raises(NotEvidence, match="does not follow the one before it"):
        judged([own[0], other[1], *own[2:]])
    with pytest.raises(NotEvidence, match="ending in another one"):
        judged([*own[:3], other[3]])


def _after(made: EvidenceJournal) -> Chain:
    chain = Chain(parse_keys(made.public_keys))
    for line in made.lines(0, made.count):
        chain.follow(line[:-1])
    return chain


@pytest.mark.control("B4", "a foreign key is refused")
def test_an_export_signed_with_another_key_is_refused(tmp_path: Path, export: list[bytes]) -> None:
    stranger = signer()
    foreign = exported(journal(tmp_path, 4, by=stranger))
    assert judged(foreign, by=stranger).count == 4
    with pytest.raises(NotEvidence, match="signed with another key"):
        judged(foreign)
    relabelled = [line.replace(stranger.id.encode(), SIGNER.id.encode()) for line in foreign]
    with pytest.raises(NotEvidence, match="signature"):
        judged(relabelled)


def test_a_key_that_was_changed_continues_the_chain_and_both_are_needed(tmp_path: Path) -> None:
    journal(tmp_path, 2)
    renewed = signer()
    made = EvidenceJournal(tmp_path, renewed)
    made.append(Entry("drill", "drills/new", {"outcome": "succeeded"}), at=NOW)
    lines = exported(made)
    assert verify(lines, parse_keys(made.public_keys)).count == 3
    with pytest.raises(NotEvidence, match="signed with another key"):
        judged(lines, by=renewed)


@pytest.mark.control("B4", "customers get an export without internals that they can check themselves")
def test_an_export_without_internals_is_as_true_and_holds_none(tmp_path: Path) -> None:
    lines = exported(journal(tmp_path, 4), internal=False)
    found = judged(lines)
    assert (found.count, found.internal) == (4, False)
    assert b"db-7" not in b"".join(lines)
    assert b"20261122" not in b"".join(lines)
    assert found.records[0].facts == {"outcome": "succeeded", "rpo_ms": 901}
    with pytest.raises(NotEvidence, match="left out or put in"):
        judged([*lines[:-1], exported(EvidenceJournal(tmp_path, SIGNER))[-1]])


@pytest.mark.parametrize(
    ("value", "spelling"),
    [
        ({"b": 1, "a": [True, None, 'é\n"\\']}, '{"a":[true,null,"é\\n\\"\\\\"],"b":1}'),
        ({"z": "\x00\x1f\x7f€𝄞"}, '{"z":"\\u0000\\u001f\x7f€𝄞"}'),
        ([2**53 - 1, -(2**53 - 1), {}], "[9007199254740991,-9007199254740991,{}]"),
    ],
)
def test_the_canonical_form_is_that_of_rfc_8785(value: object, spelling: str) -> None:
    assert canonical(value) == spelling.encode()
    assert read(spelling.encode()) == value


DEEP = json.loads("[" * 13 + "]" * 13)


@pytest.mark.parametrize("value", [1.5, 2**53, {"ä": 1}, {1: 2}, b"x", float("nan"), "\ud800", DEEP])
def test_what_two_readers_could_read_differently_has_no_canonical_form(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - that is all canonical() promises
        canonical(value)
    canonical(evidence.plain(value) if not isinstance(value, list) else [])


@pytest.mark.parametrize("line", [b"1.0", b"1e3", b" 1", b"-0", b'{"a":1,"a":1}', b'"\\u0041"', b"\xff", b"NaN", b""])
def test_a_second_spelling_of_a_value_is_not_read(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - that is all read() promises
        read(line)
