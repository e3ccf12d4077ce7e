"""What a drill leaves is told to be removed once it is, and is not forgotten before."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from libs.observability.metric import Metrics
from services.backup.adapters import place as module
from services.backup.adapters.journal import Journal
from services.backup.adapters.place import Place
from services.backup.domain.drill import Drill
from services.backup.domain.errors import EngineFailed
from services.backup.ops.drill_figures import DrillFigures
from services.backup.ops.drills import Drills
from services.backup.ops.run import Tools
from tests.support.scratch import scratch
from tests.unit.lines import Lines
from tests.unit.test_backup_place import as_nobody

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ID = "01m8hcbh43k313fhe1yvbvjc0k"
UNUSED: Any = None


def drills_in(base: Path) -> Drills:
    """The drills of a service that has just started, with what they need for their clean-up."""
    tools = Tools(UNUSED, UNUSED, base / "copies", base / "run", b"", (), 0, UNUSED)
    journal = Journal(base / "drills", Drill.from_json)
    figures = DrillFigures(Metrics())
    return Drills(
        tools, journal, UNUSED, UNUSED, UNUSED, UNUSED, figures, UNUSED, now=lambda: NOW, ids=lambda: ID
    )  # fmt: skip


def told(base: Path, lines: Lines) -> list[dict[str, Any]]:
    """What the log says of leftovers while a service starts."""
    before = len(lines.read())
    drills_in(base).recover()
    return [line for line in lines.read()[before:] if line["event"].startswith("leftover")]


def made(base: Path) -> Place:
    for name in ("copies", "run"):
        (base / name).mkdir()
    place = Place.of(ID, drills=base / "copies", run=base / "run")
    place.make()
    return place


def test_a_leftover_that_cannot_be_removed_is_told_with_path_and_reason_and_never_as_removed(
    monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    """The log said that it was removed, before it was tried."""
    monkeypatch.setattr(module, "_GIVE_UP_SECONDS", 1.0)
    with scratch("l") as base:
        place = made(base)
        place.sockets.parent.chmod(0o555)

        def stays() -> bool:
            (line,) = told(base, lines)
            assert (line["event"], line["level"]) == ("leftover_stays", "error")
            assert line["what"] == f"{place.sockets}: Permission denied"
            assert "by hand" in line["remedy"]
            return True

        assert as_nobody(base, stays)
        # The control: the same place, where nothing is in the way.
        place.sockets.parent.chmod(0o755)
        place.work.mkdir()
        assert as_nobody(base, lambda: [line["event"] for line in told(base, lines)] == ["leftover_removed"])
        assert place.gone()


def test_what_a_failed_teardown_left_outside_the_copys_directory_is_removed_at_the_next_start(lines: Lines) -> None:
    """Only directories of copies were looked at: sockets and processes of an ended drill stayed for ever."""
    with scratch("l") as base:
        place = made(base)
        failed = Drill(ID, NOW).entered("teardown", now=NOW)
        failed = failed.failed(EngineFailed("The copy could not be removed.", command="teardown"), now=NOW)
        Journal(base / "drills", Drill.from_json).save(ID, failed.ended(now=NOW).to_json())
        place.work.rename(base / "elsewhere")

        assert [line["event"] for line in told(base, lines)] == ["leftover_removed"]
        assert place.gone()
        assert told(base, lines) == []


def test_what_is_left_of_an_ended_drill_is_warned_of_while_it_is_there() -> None:
    with scratch("l") as base:
        place = made(base)
        drills = drills_in(base)
        (warning,) = drills.leftovers()
        assert f"{place.work} first" in warning
        assert "by hand" in warning
        assert place.remove() == ""
        assert drills.leftovers() == []
        place.work.parent.rmdir()
        (warning,) = drills.leftovers()
        assert "cannot be told" in warning


def test_copies_that_cannot_be_listed_stop_no_start_and_are_told(lines: Lines) -> None:
    """The service ended at each start, while no heartbeat was written."""
    with scratch("l") as base:
        (base / "run").mkdir()
        (base / "copies").write_text("")
        drills_in(base).recover()
        (line,) = [one for one in lines.read() if one["event"] == "leftovers_unknown"]
        assert (line["level"], str(base / "copies") in line["fault"]) == ("error", True)


def test_what_may_not_even_be_looked_at_is_said_to_be_left() -> None:
    """It raised: the drill then never ended."""
    with scratch("l") as base, scratch("o") as other:
        (base / "run").mkdir()
        (other / "copies").mkdir()
        place = Place.of(ID, drills=other / "copies", run=base / "run")
        place.make()
        other.chmod(0)
        try:
            assert as_nobody(base, lambda: place.remove().endswith("Permission denied"))
        finally:
            other.chmod(0o755)
