"""The heartbeat ledger and the exposure samples: a damaged line costs itself only, and is told with its place."""

import errno
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.backup.adapters.ledger import Ledger
from services.backup.adapters.samples import Samples
from services.backup.domain.exposure import Sample
from services.backup.domain.heartbeat import Beat
from tests.unit.lines import Lines

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
GARBAGE = b"\xff\xfe\n"
BEAT = {
    "sequence": 2,
    "created_at": AT.isoformat(),
    "lsn": "0/5000148",
    "timeline": 1,
    "wal": "0" * 24,
    "signature": "s",
}
SAMPLE = {"minute": AT.isoformat(), "exposure_seconds": 1.5, "waiting": 0, "broken": False}


def beat(sequence: int) -> Beat:
    return Beat(sequence, AT + timedelta(seconds=sequence), "0/5000148", 1, "0" * 24, "s")


def sample(minute: int) -> Sample:
    return Sample(AT + timedelta(minutes=minute), 1.5, 0, broken=False)


def told(lines: Lines) -> list[dict[str, Any]]:
    return [line for line in lines.read() if line["event"] == "lines_unreadable"]


def put(path: Path, line: bytes) -> None:
    with path.open("ab") as file:
        file.write(line)


def test_a_bad_byte_in_the_ledger_of_heartbeats_costs_its_line_only_and_is_told_with_its_place(
    tmp_path: Path, lines: Lines
) -> None:
    ledger, path = Ledger(tmp_path), tmp_path / "heartbeats.jsonl"
    ledger.append(beat(1))
    put(path, GARBAGE)
    ledger.append(beat(2))
    assert ledger.beats() == [beat(1), beat(2)]
    (warning,) = told(lines)
    assert (warning["level"], warning["path"], warning["lines"]) == ("warning", str(path), [2])


def test_a_bad_byte_in_the_exposure_samples_costs_its_line_only_and_is_told_with_its_place(
    tmp_path: Path, lines: Lines
) -> None:
    samples, path = Samples(tmp_path), tmp_path / "exposures.jsonl"
    samples.append(sample(1))
    put(path, GARBAGE)
    samples.append(sample(2))
    assert samples.since(AT) == [sample(1), sample(2)]
    (warning,) = told(lines)
    assert (warning["level"], warning["path"], warning["lines"]) == ("warning", str(path), [2])


@pytest.mark.parametrize(
    "wrong",
    [
        {"sequence": "2"}, {"sequence": None}, {"sequence": True}, {"sequence": 2.5}, {"sequence": 1 << 63},
        {"sequence": -1}, {"created_at": "2026-03-01T12:00:00"}, {"created_at": 5}, {"created_at": None},
        {"lsn": "none"}, {"lsn": None}, {"timeline": "1"}, {"wal": 7}, {"signature": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_beat_with_a_field_of_another_kind_costs_its_line_only(
    tmp_path: Path, lines: Lines, wrong: dict[str, Any]
) -> None:
    ledger, path = Ledger(tmp_path), tmp_path / "heartbeats.jsonl"
    ledger.append(beat(1))
    put(path, json.dumps(BEAT | wrong).encode() + b"\n")
    ledger.append(beat(3))
    assert ledger.beats() == [beat(1), beat(3)]
    assert [warning["lines"] for warning in told(lines)] == [[2]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"minute": "2026-03-01T12:00:00"}, {"minute": 5}, {"exposure_seconds": "1"}, {"exposure_seconds": -1},
        {"exposure_seconds": True}, {"waiting": 1.5}, {"waiting": 1 << 63}, {"waiting": -1}, {"broken": "no"},
    ],
    ids=str,
)  # fmt: skip
def test_a_sample_with_a_field_of_another_kind_costs_its_line_only(
    tmp_path: Path, lines: Lines, wrong: dict[str, Any]
) -> None:
    samples, path = Samples(tmp_path), tmp_path / "exposures.jsonl"
    put(path, json.dumps(SAMPLE | wrong).encode() + b"\n")
    samples.append(sample(2))
    assert samples.since(AT) == [sample(2)]
    assert [warning["lines"] for warning in told(lines)] == [[1]]


@pytest.mark.parametrize("line", [b"[" * 100_000, b"1" * 5000, b"7", b"null", b"[]", b'"text"', b"{}", b"\0"], ids=len)
def test_a_line_that_is_no_document_costs_itself_only(tmp_path: Path, lines: Lines, line: bytes) -> None:
    put(tmp_path / "heartbeats.jsonl", line + b"\n")
    ledger = Ledger(tmp_path)
    ledger.append(beat(2))
    assert ledger.beats() == [beat(2)]
    assert [warning["lines"] for warning in told(lines)] == [[1]]


def test_a_line_cut_short_by_a_crash_does_not_take_the_next_beat_with_it(tmp_path: Path, lines: Lines) -> None:
    ledger, path = Ledger(tmp_path), tmp_path / "heartbeats.jsonl"
    ledger.append(beat(1))
    put(path, b'{"sequence": 2, "crea')
    ledger.append(beat(3))
    assert ledger.beats() == [beat(1), beat(3)]
    assert [warning["lines"] for warning in told(lines)] == [[2]]


def test_bad_lines_are_told_once_and_not_at_every_heartbeat(tmp_path: Path, lines: Lines) -> None:
    ledger, path = Ledger(tmp_path), tmp_path / "heartbeats.jsonl"
    for _ in range(12):
        put(path, GARBAGE)
    ledger.beats()
    ledger.append(beat(1))
    ledger.beats()
    put(path, GARBAGE)
    assert ledger.beats() == [beat(1)]
    assert [(warning["count"], warning["lines"]) for warning in told(lines)] == [
        (12, list(range(1, 11))),
        (13, list(range(1, 11))),
    ]


def test_nothing_is_told_of_a_ledger_without_damage(tmp_path: Path, lines: Lines) -> None:
    ledger, samples = Ledger(tmp_path), Samples(tmp_path)
    for number in range(1, 4):
        ledger.append(beat(number))
        samples.append(Sample(AT + timedelta(minutes=number), None, None, broken=True))
    assert [each.sequence for each in ledger.beats()] == [1, 2, 3]
    assert len(samples.since(AT + timedelta(minutes=2))) == 2
    # A restored database begins again behind its newest beat.
    ledger.append(beat(2))
    assert [each.sequence for each in ledger.beats()] == [1, 2]
    assert told(lines) == []


def test_a_heartbeat_that_finds_no_room_is_told_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk says nothing of where: the log told that a heartbeat was not kept, and not by which file."""
    ledger = Ledger(tmp_path)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("services.backup.adapters.lines.os.write", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*/heartbeats\.jsonl'"):
            ledger.append(beat(1))
    ledger.append(beat(1))
    assert [each.sequence for each in ledger.beats()] == [1]
