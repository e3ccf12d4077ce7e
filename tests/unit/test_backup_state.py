"""What the backup service keeps on disk: damage to one line or document costs no other, and no start."""

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.backup.adapters.journal import Journal
from services.backup.adapters.ledger import Ledger
from services.backup.adapters.lock import EngineLock
from services.backup.adapters.samples import Samples
from services.backup.domain.errors import BackupBusy
from services.backup.domain.exposure import Sample
from services.backup.domain.heartbeat import Beat

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
DAMAGE = [b"\xff\xfe\n", b"null\n", b'{"sequence": "7"}\n', b'{"sequence\n']


def beat(sequence: int) -> Beat:
    return Beat(sequence, NOW, "0/1", 1, "000000010000000000000001", "signed")


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_line_of_the_heartbeats_costs_no_other_and_no_start(tmp_path: Path, damage: bytes) -> None:
    """The service ended and began again for ever, and its operator socket with it."""
    ledger = Ledger(tmp_path)
    ledger.append(beat(1))
    with (tmp_path / "heartbeats.jsonl").open("ab") as file:
        file.write(damage)
    ledger.append(beat(2))
    assert ledger.beats() == [beat(1), beat(2)]


def test_a_sequence_that_is_no_number_is_no_heartbeat(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(beat(1))
    path = tmp_path / "heartbeats.jsonl"
    path.write_text(path.read_text() + path.read_text().replace('"sequence": 1', '"sequence": "2"'))
    assert ledger.beats() == [beat(1)]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_line_of_the_exposures_costs_no_other(tmp_path: Path, damage: bytes) -> None:
    samples = Samples(tmp_path)
    kept = Sample(NOW, 1.0, 0, False)
    with (tmp_path / "exposures.jsonl").open("ab") as file:
        file.write(damage)
    samples.append(kept)
    assert samples.since(NOW) == [kept]


def test_a_journal_that_cannot_be_read_is_told_by_its_path_and_stops_no_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(tmp_path, lambda fields: str(fields["state"]))
    journal.save("a", {"state": "fine"})
    (tmp_path / "b.json").write_text('{"state": "cut sho')
    (tmp_path / "c.json").write_text("[]")
    (tmp_path / "d.json").mkdir()  # what opening it raises is an OSError, for root as well
    assert journal.load() == {"a": "fine"}
    told = capsys.readouterr().out
    assert all(name in told for name in ("b.unreadable", "c.unreadable", "d.json"))
    assert "a.json" not in told


def test_a_lock_whose_note_cannot_be_written_is_held_and_let_go_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk it stayed taken, by nobody, until the service ended."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    mine, other = EngineLock(tmp_path / "lock"), EngineLock(tmp_path / "lock")
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        mine.take("a backup")
    with pytest.raises(BackupBusy, match="another of its tasks is running"):
        other.take("a drill")
    mine.free()
    other.take("a drill")
    other.free()
