"""How `verify` is read, and what exit codes mean: both have ended in a false "ok" elsewhere."""

from pathlib import Path

import pytest

from services.backup.adapters import pgbackrest_verify
from services.backup.adapters.command import Finished
from services.backup.adapters.pgbackrest_exits import judge
from services.backup.domain.errors import BackupBusy, EngineAway, EngineFailed

LOG = Path("/log/holdfast-backup.log")
ONE, TWO = "20261122-000102F", "20261122-000102F_20261122-060000D"
COUNTS = "    missing: 0, checksum invalid: 0, size invalid: 0, other: 0"
# As 2.45 prints it.
GOOD = f"""stanza: holdfast
status: ok
  archiveId: 15-1, total WAL checked: 5, total valid WAL: 5
{COUNTS}
  backup: {ONE}, status: valid, total files checked: 1315, total valid files: 1315
{COUNTS}
  backup: {TWO}, status: valid, total files checked: 1315, total valid files: 1315
{COUNTS}
"""


def faults(text: str, listed: tuple[str, ...] = (ONE, TWO)) -> tuple[str, ...]:
    return pgbackrest_verify.parse(text, "holdfast", listed).faults


def test_a_sound_repository_is_read_with_its_counts() -> None:
    found = pgbackrest_verify.parse(GOOD, "holdfast", [ONE, TWO])
    assert (found.ok, found.segments, found.backups, found.files) == (True, 5, 2, 2630)
    assert faults("stanza: holdfast\nstatus: ok\n    no archives or backups exist in the repo\n", ()) == ()


def test_silence_is_no_proof() -> None:
    assert faults("", ()) == ("verify said nothing about the stanza",)
    assert faults(GOOD.replace("holdfast", "another"))
    assert faults(GOOD.replace("status: ok\n", ""))


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("status: ok", "status: error"),
        ("total valid WAL: 5", "total valid WAL: 4"),
        ("missing: 0", "missing: 1"),
        ("checksum invalid: 0", "checksum invalid: 1"),
        ("size invalid: 0", "size invalid: 2"),
        ("other: 0", "other: 1"),
        ("total valid files: 1315", "total valid files: 1314"),
        (f"{ONE}, status: valid", f"{ONE}, status: invalid"),
        (f"{ONE}, status: valid", f"{ONE}, status: manifest missing"),
        (f"{ONE}, status: valid", f"{ONE}, status: in-progress"),
        (f"backup: {ONE}", "backup: 20200101-000000F"),
        ("status: ok", "status: ok\n  No usable backup.info file"),
    ],
)
def test_any_other_word_is_a_fault_though_the_exit_code_is_zero(good: str, bad: str) -> None:
    assert faults(GOOD.replace(good, bad, 1))
    assert not faults(GOOD)


def test_what_a_broken_off_backup_left_is_named_and_no_fault() -> None:
    left = "20261122-070000F"
    for state in ("in-progress", "manifest missing"):
        text = GOOD + f"  backup: {left}, status: {state}, total files checked: 0, total valid files: 0\n"
        found = pgbackrest_verify.parse(text, "holdfast", [ONE, TWO])
        assert (found.ok, found.leftovers) == (True, (left,))


@pytest.mark.parametrize("code", [49, 56, 82, 101, -15])
def test_what_may_pass_by_itself_is_tried_again(code: int) -> None:
    with pytest.raises(EngineAway):
        judge("backup", Finished(code, "", "ERROR: words"), LOG)


@pytest.mark.parametrize("code", [25, 26, 39, 44, 45, 55, 62, 75, 95, 104, 106, 125])
def test_everything_else_calls_a_person_and_says_what_it_means_and_where_more_is(code: int) -> None:
    with pytest.raises(EngineFailed) as caught:
        judge("backup", Finished(code, "", "ERROR: words"), LOG)
    assert f"(code {code})" in caught.value.message
    assert str(LOG) in caught.value.message
    assert caught.value.message.endswith("It said: ERROR: words")


def test_a_code_that_only_counts_errors_is_judged_by_the_first_one_it_quotes() -> None:
    quoted = "ERROR: [101]: repo1: the service is busy ERROR: [104]: expire command encountered 1 error(s)"
    with pytest.raises(EngineAway, match="code 101"):
        judge("expire", Finished(104, "", quoted), LOG)
    named = "ERROR: [103]: unable to find a valid repository: repo1: [HostConnectError] unable to connect"
    with pytest.raises(EngineAway, match="code 49"):
        judge("archive-get", Finished(103, "", named), LOG)
    with pytest.raises(EngineFailed, match="code 104"):
        judge("expire", Finished(104, "", "ERROR: [104]: expire command encountered 1 error(s)"), LOG)


def test_a_held_lock_is_no_fault() -> None:
    with pytest.raises(BackupBusy):
        judge("backup", Finished(50, "", "ERROR: [050]: unable to acquire lock"), LOG)
    judge("backup", Finished(0, "", ""), LOG)
