"""The journal of evidence: one chain for any number of writers, and through any death of theirs."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from deploy.stack.credentials import fresh_signing_key
from services.backup.adapters.evidence_journal import EvidenceJournal
from services.backup.domain.errors import EvidenceDamaged
from services.backup.domain.evidence import Entry, Signer
from tests.support.evidence import NOW, SIGNER, exported, journal, judged, signer

GOOD = {"outcome": "succeeded"}


def entry(subject: str) -> Entry:
    return Entry("drill", subject, GOOD)


def test_a_record_told_twice_is_kept_once_also_by_another_process(tmp_path: Path) -> None:
    first, second = EvidenceJournal(tmp_path, SIGNER), EvidenceJournal(tmp_path, SIGNER)
    assert first.append(entry("drills/1"), at=NOW)
    assert not second.append(entry("drills/1"), at=NOW)
    assert second.append(entry("drills/2"), at=NOW)
    assert not first.append(entry("drills/2"), at=NOW)
    assert judged(exported(first)).count == 2


@pytest.mark.control("B4", "nothing is lost, doubled or forked by writers at once and by a death at any instruction")
def test_many_writers_at_once_make_one_chain(tmp_path: Path) -> None:
    def write(number: int) -> None:
        own = EvidenceJournal(tmp_path, SIGNER)
        for each in range(12):
            own.append(entry(f"drills/{number}-{each}"), at=NOW)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = judged(exported(EvidenceJournal(tmp_path, SIGNER)))
    wanted = {f"drills/{n}-{e}" for n in range(6) for e in range(12)}
    assert (found.count, {one.subject for one in found.records}) == (len(wanted), wanted)


@pytest.mark.control("B4", "nothing is lost, doubled or forked by writers at once and by a death at any instruction")
def test_a_line_cut_off_anywhere_by_a_death_is_no_record_and_the_next_one_takes_its_place(tmp_path: Path) -> None:
    made = journal(tmp_path, 2)
    path = tmp_path / "records.jsonl"
    two = path.read_bytes()
    made.append(entry("drills/3"), at=NOW)
    third = path.read_bytes()[len(two) :]
    for cut in range(1, len(third)):
        path.write_bytes(two + third[:cut])
        again = EvidenceJournal(tmp_path, SIGNER)
        assert again.append(entry("drills/3"), at=NOW)
        assert judged(exported(again)).count == 3


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from services.backup.adapters.evidence_journal import EvidenceJournal
from services.backup.domain.evidence import Entry, Signer
made = EvidenceJournal(Path(sys.argv[1]), Signer(Path(sys.argv[2]).read_bytes()))
for each in range(100000):
    made.append(Entry("drill", f"{sys.argv[3]}-{each}", {"outcome": "succeeded"}), at=datetime.now(UTC))
    print(f"{sys.argv[3]}-{each}", flush=True)
"""


@pytest.mark.control("B4", "nothing is lost, doubled or forked by writers at once and by a death at any instruction")
def test_what_was_acknowledged_survives_kill_nine_of_two_writers_at_work(tmp_path: Path) -> None:
    key, own = tmp_path / "key.pem", signer_file(tmp_path / "key.pem")
    told: list[str] = []
    for turn in range(3):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(tmp_path / "chain"), str(key), f"{turn}{name}"],
                stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            for name in "ab"
        ]  # fmt: skip
        for writer in writers:
            assert writer.stdout is not None
            told += [writer.stdout.readline().strip() for _ in range(5 + turn)]
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            assert writer.stdout is not None
            told += writer.stdout.read().split()  # whole lines only matter; a word cut off is none of ours
            writer.stdout.close()
            writer.wait()
    found = judged(exported(EvidenceJournal(tmp_path / "chain", own)), by=own)
    kept = {one.subject for one in found.records}
    assert len(told) >= 30
    assert [one for one in told if one not in kept] == []


def signer_file(path: Path) -> Signer:
    path.write_bytes(fresh_signing_key())
    return Signer(path.read_bytes())


@pytest.mark.parametrize("how", ["changed", "shortened", "removed in the middle"])
def test_a_journal_that_is_not_what_was_signed_takes_nothing_more(tmp_path: Path, how: str) -> None:
    made = journal(tmp_path, 3)
    path = tmp_path / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    if how == "changed":
        path.write_bytes(b"".join(lines).replace(b"succeeded", b"succeedeD", 1))
        made = EvidenceJournal(tmp_path, SIGNER)
    elif how == "shortened":
        path.write_bytes(lines[0])
    else:
        path.write_bytes(lines[0] + lines[2])
        made = EvidenceJournal(tmp_path, SIGNER)
    before = path.read_bytes()
    with pytest.raises(EvidenceDamaged):
        made.append(entry("drills/9"), at=NOW)
    assert path.read_bytes() == before


def test_a_record_adopted_from_a_copy_has_to_be_the_next_one(tmp_path: Path) -> None:
    whole = journal(tmp_path / "a", 3)
    lines = [line[:-1] for line in whole.lines(0, 3)]
    rolled_back = EvidenceJournal(tmp_path / "b", SIGNER)
    rolled_back.adopt(lines[0])
    with pytest.raises(Exception, match="has to be"):
        rolled_back.adopt(lines[2])
    rolled_back.adopt(lines[1])
    rolled_back.adopt(lines[2])
    assert exported(rolled_back)[:3] == exported(whole)[:3]


def test_the_disk_that_is_full_leaves_the_chain_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = journal(tmp_path, 1)
    path, write = tmp_path / "records.jsonl", os.write
    before = path.read_bytes()

    def full(file: int, line: bytes) -> int:
        write(file, bytes(line)[:40])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        made.append(entry("drills/2"), at=NOW)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert judged(exported(made)).count == 1
    assert made.append(entry("drills/2"), at=NOW)
    assert judged(exported(EvidenceJournal(tmp_path, SIGNER))).count == 2


def test_the_journal_is_for_its_owner_alone(tmp_path: Path) -> None:
    journal(tmp_path / "evidence", 1)
    assert (tmp_path / "evidence").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "evidence" / "records.jsonl").stat().st_mode & 0o777 == 0o600
    assert signer().id != SIGNER.id
