"""A cancelled drill cleans up even before it has begun, and says nothing of the backup it would have restored."""

import asyncio
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from prometheus_client import generate_latest

from libs.observability.metric import Metrics
from libs.principal import System
from services.backup.adapters.place import Place
from services.backup.domain.drill import Check, Drill, Kind
from services.backup.domain.errors import ChecksFailed, DrillCancelled, Interrupted
from services.backup.domain.progress import State
from services.backup.ops.drill_figures import DrillFigures
from services.backup.ops.drills import Drills
from services.backup.ops.run import Run, Tools
from tests.support.scratch import scratch

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ID = "01m8hcbh43k313fhe1yvbvjc0k"
UNUSED: Any = None


@contextmanager
def running(drill: Drill, kept: list[Drill] | None = None) -> Iterator[Run]:
    """*drill* as it would run, with nothing that it could restore."""
    seen: list[Drill] = [] if kept is None else kept
    with scratch("c") as base:
        for name in ("copies", "run"):
            (base / name).mkdir()
        tools = Tools(UNUSED, UNUSED, base / "copies", base / "run", b"", (), 0, UNUSED)
        yield Run(tools, drill, UNUSED, keep=seen.append, now=lambda: NOW)


BEGUN = Drill(ID, NOW).entered("select", now=NOW)


async def test_a_drill_cancelled_before_its_first_step_still_ends_by_itself() -> None:
    """A task that is cancelled before it has begun runs none of its code: the lock would stay taken."""
    with running(BEGUN) as run:
        task: Any = asyncio.create_task(run.to_the_end())
        assert run.cancel(task)
        ended = await task
        assert not run.cancel(task)
    assert (ended.state, ended.error.reason) == (State.FAILED, "DRILL_CANCELLED")
    assert ended.phase("teardown").state is State.SUCCEEDED
    assert ended.phase("restore").state is State.PENDING


def test_a_cancel_is_kept_at_once_so_that_a_kill_does_not_make_it_an_interruption() -> None:
    kept: list[Drill] = []
    with running(BEGUN, kept) as run:
        assert run.cancel(UNUSED)
    again = kept[-1].failed(Interrupted("x"), now=NOW).ended(now=NOW)
    assert again.error is not None
    assert again.error.reason == "DRILL_CANCELLED"


def test_a_cancel_of_a_drill_whose_proof_has_failed_hides_no_failure() -> None:
    """It ended as cancelled, and the figure that pages stayed at 1."""
    kept: list[Drill] = []
    wrong = Check("heartbeats", False, 3, "heartbeat 5 is missing")
    with running(replace(BEGUN, checks=(wrong,)), kept) as run:
        assert run.cancel(UNUSED)
    assert kept[-1].error is not None
    assert (kept[-1].error.reason, kept[-1].fault) == (
        "DRILL_CHECK_FAILED",
        "The copy failed heartbeats; then somebody cancelled the drill.",
    )


async def test_a_clean_up_that_breaks_ends_the_drill_as_failed_and_says_with_what(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ran for ever in the list, and later ended the service in the middle of the next one."""

    def broken(_: Place) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/copies/x")

    monkeypatch.setattr(Place, "remove", broken)
    with running(BEGUN) as run:
        run.cancel(UNUSED)
        ended = await run.to_the_end()
    assert ended.state is State.FAILED
    assert ended.phase("teardown").state is State.FAILED
    assert [(check.check, check.failed) for check in ended.checks] == [("removed", True)]
    assert ended.checks[0].detail == "Unexpected fault: [Errno 13] Permission denied: '/copies/x'."
    # A cancel does not hide that production's data lies there still: it pages.
    metrics = Metrics()
    DrillFigures(metrics).ended(replace(ended, kind=Kind.LIGHT))
    assert succeeded(metrics) == ['backup_last_drill_succeeded{kind="light"} 0.0']


class Other:
    """A drill under way that remembers whether it was cancelled."""

    id, cancelled = "other", False

    def cancel(self, task: object) -> bool:
        self.cancelled = True
        return True


class Auditor:
    """Takes what is audited."""

    def __init__(self) -> None:
        self.audited: list[str] = []

    async def audit(self, who: object, action: str, **facts: str) -> None:
        self.audited.append(facts["drill"])


async def test_to_cancel_a_drill_ends_that_one_and_not_the_next_which_has_begun_meanwhile() -> None:
    """Its evidence was still being written when the lock was free again: the next drill ended in its stead."""
    auditor, other = Auditor(), Other()
    drills = Drills(
        UNUSED, UNUSED, UNUSED, UNUSED, cast(Any, auditor), UNUSED, UNUSED, UNUSED, now=lambda: NOW, ids=lambda: ID
    )
    for id in (ID, other.id):
        drills._board.seed(id, replace(BEGUN, id=id))
    drills._run, drills._task = cast(Any, other), cast(Any, object())
    assert (await drills.cancel(System("backup"), ID)).id == ID
    assert (other.cancelled, auditor.audited) == (False, [])
    await drills.cancel(System("backup"), other.id)
    assert (other.cancelled, auditor.audited) == (True, [other.id])


def succeeded(metrics: Metrics) -> list[str]:
    shown = generate_latest(metrics.registry).decode()
    return [line for line in shown.splitlines() if line.startswith('backup_last_drill_succeeded{kind="light"}')]


def test_a_cancelled_drill_pages_nobody_and_hides_no_failure() -> None:
    metrics = Metrics()
    figures = DrillFigures(metrics)
    cancelled = Drill(ID, NOW, kind=Kind.LIGHT).failed(DrillCancelled("x"), now=NOW).ended(now=NOW)
    wrong = Drill(ID, NOW, kind=Kind.LIGHT).failed(ChecksFailed("x"), now=NOW).ended(now=NOW)
    figures.ended(cancelled)
    assert succeeded(metrics) == ['backup_last_drill_succeeded{kind="light"} 1.0']
    figures.ended(wrong)
    figures.ended(cancelled)
    assert succeeded(metrics) == ['backup_last_drill_succeeded{kind="light"} 0.0']
