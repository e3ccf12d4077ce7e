"""The parts that keep backups by themselves, made of one another: schedule, retention, watch, and what they tell."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from libs.clock import Clock
from libs.db import Database
from libs.observability.metric import Metrics
from services.backup.adapters.engine import Engine
from services.backup.adapters.exclusive import Exclusive
from services.backup.adapters.journal import Journal
from services.backup.adapters.samples import Samples
from services.backup.domain.breach import Breach
from services.backup.domain.condition import Condition
from services.backup.domain.schedule import Attempt, Rules
from services.backup.ops.backups import Backups
from services.backup.ops.conditions import Conditions
from services.backup.ops.evidence import Evidence
from services.backup.ops.exposures import Exposures
from services.backup.ops.heartbeats import Heartbeats
from services.backup.ops.keeping_figures import KeepingFigures
from services.backup.ops.record import Recorder
from services.backup.ops.scheduler import Scheduler
from services.backup.ops.upkeep import Upkeep
from services.backup.ops.watch import Watch


@dataclass(frozen=True, slots=True)
class Means:
    """What keeping stands on. lock: makes the lock around every writer of the repository."""

    database: Database
    engine: Engine
    lock: Callable[[], Exclusive]
    heartbeats: Heartbeats
    evidence: Evidence
    recorder: Recorder
    metrics: Metrics
    state: Path
    now: Clock


@dataclass(frozen=True, slots=True)
class Keeping:
    """The parts; scheduler and watch have a life."""

    scheduler: Scheduler
    watch: Watch
    conditions: Conditions
    exposures: Exposures


def keeping(means: Means, backups: Backups, rules: Rules, *, inventory: timedelta, seed: str, enabled: bool) -> Keeping:
    """Everything wired, nothing started. seed: of the jitter; enabled: whether anything is begun by itself."""
    state, now = means.state, means.now
    conditions = Conditions(Journal(state / "conditions", Condition.from_json), means.metrics, now=now)
    exposures = Exposures(means.database, Samples(state / "exposures"), now=now)
    figures = KeepingFigures(means.metrics)
    breaches = Journal(state / "breaches", Breach.from_json)
    told = (conditions, figures, means.evidence)
    watch = Watch(
        means.database, means.engine, means.heartbeats, exposures, breaches, *told, inventory=inventory, now=now
    )
    upkeep = Upkeep(
        means.database,
        means.engine,
        means.lock,
        conditions,
        means.evidence,
        means.recorder,
        period=rules.expire,
        now=now,
    )
    scheduler = Scheduler(
        means.engine,
        backups,
        upkeep,
        watch,
        Journal(state / "attempts", Attempt.from_json),
        conditions,
        figures,
        rules=rules,
        seed=seed,
        enabled=enabled,
        now=now,
    )
    return Keeping(scheduler, watch, conditions, exposures)
