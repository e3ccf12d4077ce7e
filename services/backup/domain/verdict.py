"""The judgement of a restored copy, from what was read in it: pure, so that each lie it must catch is a test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.backup.domain import heartbeat
from services.backup.domain.drill import Check, Proof
from services.backup.domain.heartbeat import Beat
from services.backup.domain.plan import Plan


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a promoted copy says of its recovery. beats: every heartbeat in it, ascending. log: its server's log."""

    beats: tuple[Beat, ...]
    in_recovery: bool
    last_replayed_at: datetime | None
    last_replayed_lsn: str
    timeline: int
    log: str


def proof(plan: Plan, seen: Recovered) -> Proof | None:
    """The proof, None when the copy holds no heartbeat."""
    if not seen.beats:
        return None
    newest = seen.beats[-1]
    absent = 0 if plan.to_the_end else newest.sequence + 1
    return Proof(
        newest.sequence, newest.created_at, absent, seen.last_replayed_at, seen.last_replayed_lsn, seen.timeline
    )


def heartbeats(plan: Plan, seen: Recovered, key: bytes) -> Check:
    """Newest beat exactly as planned, the next one absent, no hole, every signature ours."""
    numbers = [beat.sequence for beat in seen.beats]
    newest = numbers[-1] if numbers else 0
    forged = [beat.sequence for beat in seen.beats if not heartbeat.genuine(beat, key)]
    hole = heartbeat.first_hole(seen.beats)
    faults = []
    if newest < plan.at_least:
        faults.append(f"newest heartbeat is {newest}, expected {plan.at_least}: data is missing")
    if plan.at_most is not None and newest > plan.at_most:
        faults.append(f"newest heartbeat is {newest}, expected {plan.at_most}: recovery ran past the target")
    if hole:
        faults.append(f"heartbeat {hole} is missing")
    if forged:
        faults.append(f"heartbeat {forged[0]} has a bad signature")
    good = f"heartbeat {newest} is the newest" + ("" if plan.at_most is None else f", {newest + 1} is absent")
    return Check("heartbeats", not faults, len(numbers), "; ".join(faults) or good)


def recovery(plan: Plan, seen: Recovered) -> Check:
    """Promoted, and stopped where it was told: by the server's own words and by the last replayed commit."""
    last = seen.last_replayed_at
    faults = []
    if seen.in_recovery:
        faults.append("the copy is still in recovery")
    if "archive recovery complete" not in seen.log:
        faults.append("the log does not say that recovery was completed")
    if plan.stop_at is not None:
        if "recovery stopping before commit" not in seen.log and "recovery stopping after commit" not in seen.log:
            faults.append("the log does not say that recovery stopped at a commit")
        if last is None or last > plan.stop_at:
            faults.append(f"the last replayed commit is of {last}, the target was {plan.stop_at}")
    if plan.stop_lsn:
        if "recovery stopping after WAL location" not in seen.log:
            faults.append("the log does not say that recovery stopped at a place in the WAL")
        if heartbeat.position(seen.last_replayed_lsn) < heartbeat.position(plan.stop_lsn):
            faults.append(f"WAL was replayed to {seen.last_replayed_lsn}, the target was {plan.stop_lsn}")
    if seen.beats and last is not None and last < seen.beats[-1].created_at:
        faults.append(f"the last replayed commit, {last}, precedes the newest heartbeat")
    commit = f"last commit {last}" if last else "no commit was replayed"
    good = f"stopped at {seen.last_replayed_lsn}, {commit}, timeline {seen.timeline}"
    return Check("recovery_target", not faults, 1, "; ".join(faults) or good)


def archiving(mode: str, how: str, segment: str, ready: int, archived: int) -> Check:
    """Nothing can leave the copy for an archive: mode and how are its settings, and *segment* was ended to try it."""
    off = mode == "off" and how in ("", "(disabled)") and not ready and not archived
    found = f"archive_mode {mode}, {ready} segments waiting after {segment} was ended"
    return Check("archiving_off", off, 1, found + ("" if off else ": the copy would write to production's archive"))


def row_level_security(tables: Mapping[str, tuple[str, bool, bool]]) -> Check:
    """tables: name → (scope, row-level security enabled, forced); every scope but global has to have both."""
    scoped = {name: flags for name, flags in tables.items() if not flags[0].startswith("global")}
    open_tables = sorted(name for name, (_, enabled, forced) in scoped.items() if not (enabled and forced))
    detail = f"not forced on {', '.join(open_tables)}" if open_tables else "enabled and forced on every scoped table"
    if not scoped:
        return Check("row_level_security", False, 0, "no table declares a scope: the schema is not there")
    return Check("row_level_security", not open_tables, len(scoped), detail)


def runtime_roles(powers: Mapping[str, Sequence[str]]) -> Check:
    """powers: runtime role → what it may do and must not, e.g. "is superuser", "may create in auth"."""
    faults = [f"{role} {what}" for role, held in sorted(powers.items()) for what in held]
    if not powers:
        return Check("runtime_roles", False, 0, "no runtime role exists in the copy")
    return Check("runtime_roles", not faults, len(powers), "; ".join(faults) or "no runtime role may change the schema")
