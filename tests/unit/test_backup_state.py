"""What the backup service keeps on disk: damage to one line or document costs no other, and no start."""

import errno
import os
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from libs.observability.metric import Metrics
from services.backup.adapters.journal import Journal, unreadable
from services.backup.adapters.ledger import Ledger
from services.backup.adapters.lock import EngineLock
from services.backup.adapters.samples import Samples
from services.backup.domain.errors import BackupBusy, EngineAway
from services.backup.domain.exposure import Sample
from services.backup.domain.heartbeat import Beat
from services.backup.domain.schedule import Attempt, Task
from services.backup.ops.keeping_figures import KeepingFigures
from services.backup.ops.scheduler import Scheduler
from tests.unit.lines import Lines

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
UNUSED: Any = None
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


def damaged(directory: Path) -> Journal[str]:
    """A journal of three: a good one, one cut short and one that leads nowhere, which root cannot read either."""
    journal = Journal(directory, lambda fields: str(fields["state"]))
    journal.save("a", {"state": "fine"})
    (directory / "b.json").write_text('{"state": "cut sho')
    (directory / "c.json").symlink_to("c.json")
    return journal


def test_what_cannot_be_read_is_told_with_its_reason_and_what_to_do(tmp_path: Path, lines: Lines) -> None:
    assert damaged(tmp_path).load() == {"a": "fine"}
    cut, refused = lines.read()
    assert (cut["level"], cut["path"]) == ("error", str(tmp_path / "b.unreadable"))
    assert cut["fault"].startswith("JSONDecodeError: Unterminated string")
    assert "b.json" in cut["next"]
    assert (refused["level"], refused["path"]) == ("error", str(tmp_path / "c.json"))
    assert refused["fault"] == os.strerror(errno.ELOOP)
    assert "restart" in refused["next"]


def test_a_document_that_cannot_be_put_aside_stops_no_start(
    tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> Path:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "rename", read_only)
    assert damaged(tmp_path).load() == {"a": "fine"}
    assert [line["path"] for line in lines.read()] == [str(tmp_path / "b.json"), str(tmp_path / "c.json")]


def test_a_document_nested_too_deep_stops_no_start(tmp_path: Path) -> None:
    journal = damaged(tmp_path)
    (tmp_path / "d.json").write_text("[" * 100_000)
    assert journal.load() == {"a": "fine"}


def test_what_cannot_be_read_stands_as_a_warning_until_it_is_mended(tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()
    journal = Journal(tmp_path / "drills", lambda fields: str(fields["state"]))
    journal.save("a", {"state": "fine"})
    assert unreadable(tmp_path) == []
    damaged(journal.directory).load()
    (warning,) = unreadable(tmp_path)
    assert warning.startswith(f"2 documents of this service cannot be read, {tmp_path}/drills/b.unreadable")
    (journal.directory / "b.unreadable").unlink()
    (warning,) = unreadable(tmp_path)
    assert warning.startswith(f"1 document of this service cannot be read, {tmp_path}/drills/c.json")
    (journal.directory / "c.json").unlink()
    assert unreadable(tmp_path) == []


def test_a_document_of_no_task_stops_no_start(tmp_path: Path) -> None:
    """A copy that somebody had made of an attempt's file ended the service at each start."""
    journal = Journal(tmp_path, Attempt.from_json)
    for name in ("verify", "verify-old"):
        journal.save(name, Attempt("", NOW, ok=True, good_at=NOW).to_json())
    scheduler = Scheduler(
        UNUSED, UNUSED, UNUSED, cast(Any, SimpleNamespace()), journal, UNUSED, KeepingFigures(Metrics()),
        rules=UNUSED, seed="", enabled=False, now=lambda: NOW,
    )  # fmt: skip
    assert [*scheduler.attempts] == [Task.VERIFY]


def test_a_lock_that_cannot_be_opened_is_named_and_nothing_is_begun(tmp_path: Path) -> None:
    """It was an internal error without a path, and the timetable stood still without a word."""
    with pytest.raises(EngineAway, match=f"{tmp_path} cannot be opened: Is a directory. Nothing is begun"):
        EngineLock(tmp_path).take("a backup")


def test_who_is_refused_hears_what_the_holder_does_by_now(tmp_path: Path) -> None:
    held, other = EngineLock(tmp_path / "lock"), EngineLock(tmp_path / "lock")
    held.take("the choice of a backup for drill x")
    with pytest.raises(BackupBusy, match="the choice of a backup for drill x is running"):
        other.take("b")
    held.tell("drill x")
    with pytest.raises(BackupBusy, match="Busy: drill x is running"):
        other.take("b")
    held.free()
    other.take("b")
    other.free()
