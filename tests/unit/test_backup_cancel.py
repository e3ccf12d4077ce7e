"""A cancelled drill cleans up even before it has begun, and says nothing of the backup it would have restored."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from prometheus_client import generate_latest

from libs.observability.metric import Metrics
from services.backup.domain.drill import Drill, Kind
from services.backup.domain.errors import ChecksFailed, DrillCancelled
from services.backup.domain.progress import State
from services.backup.ops.drill_figures import DrillFigures
from services.backup.ops.run import Run, Tools
from tests.support.scratch import scratch

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ID = "01m8hcbh43k313fhe1yvbvjc0k"
UNUSED: Any = None


async def test_a_drill_cancelled_before_its_first_step_still_ends_by_itself() -> None:
    """A task that is cancelled before it has begun runs none of its code: the lock would stay taken."""
    with scratch("c") as base:
        for name in ("copies", "run"):
            (base / name).mkdir()
        tools = Tools(UNUSED, UNUSED, base / "copies", base / "run", b"", (), 0, UNUSED)
        run = Run(tools, Drill(ID, NOW).entered("select", now=NOW), UNUSED, keep=lambda _: None, now=lambda: NOW)
        task = asyncio.create_task(run.to_the_end())
        assert run.cancel(task)  # type: ignore[arg-type]  # of to_the_end itself here
        ended = await task
    assert ended.error is not None
    assert (ended.state, ended.error.reason) == (State.FAILED, "DRILL_CANCELLED")
    assert ended.phase("teardown").state is State.SUCCEEDED
    assert ended.phase("restore").state is State.PENDING
    assert not run.cancel(task)  # type: ignore[arg-type]


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
