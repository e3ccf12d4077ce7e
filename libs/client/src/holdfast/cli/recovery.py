"""`holdfast recovery status|history`."""

import math
import sys
from datetime import UTC, datetime, timedelta

import click

from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.backup.v1 import upkeep_service_pb2 as upkeep
from holdfast.backup.v1.backup_service_pb2_grpc import BackupServiceStub
from holdfast.backup.v1.upkeep_service_pb2_grpc import UpkeepServiceStub
from holdfast.cli import show as showing
from holdfast.cli import upkeep as upkeep_view
from holdfast.cli.operator import (
    CALL_SECONDS,
    ENDED_BADLY,
    Verbs,
    connected,
    console,
    json_option,
    print_json,
    socket_option,
)

# Where the promise of RPO is broken: fifteen minutes.
_ALARM_SECONDS = 900.0


@click.group(cls=Verbs)
def recovery() -> None:
    """From when to when the database can be restored, through the local operator socket."""


@recovery.command()
@click.option("--advance", is_flag=True, help="Write a heartbeat and archive it first, so that now becomes restorable.")
@json_option
@socket_option
def status(advance: bool, as_json: bool, path: str) -> None:
    """What can be restored now; exit code 1 when there are warnings."""
    with connected(path) as channel:
        stub = BackupServiceStub(channel)
        if advance:
            stub.CreateHeartbeat(pb.CreateHeartbeatRequest(), timeout=CALL_SECONDS)
        found = stub.GetRecoveryStatus(pb.GetRecoveryStatusRequest(), timeout=CALL_SECONDS)
    if as_json:
        print_json(found)
    else:
        for line in _lines(found):
            console.print(line, markup=False)
    if found.warnings:
        sys.exit(ENDED_BADLY)


def _number(_: click.Context, option: click.Parameter, value: float) -> float:
    """What is no number lies in every range."""
    if math.isnan(value):
        raise click.BadParameter("is not a number", param=option)
    return value


@recovery.command()
@click.option(
    "--hours", type=click.FloatRange(min=0.1, max=35 * 24), default=24.0, callback=_number, help="How far back."
)
@click.option("--points", type=click.IntRange(1, 2000), default=96, help="Into how many parts the time is cut.")
@json_option
@socket_option
def history(hours: float, points: int, as_json: bool, path: str) -> None:
    """What a loss would have cost, over time; the worst of each part."""
    now = datetime.now(UTC)
    span = upkeep_view.Span((now - timedelta(hours=hours)).replace(second=0, microsecond=0), now, points)
    asked = upkeep.ListExposuresRequest(points=points)
    asked.end_time.FromDatetime(span.end)
    asked.begin_time.FromDatetime(span.begin)
    with connected(path) as channel:
        found = UpkeepServiceStub(channel).ListExposures(asked, timeout=CALL_SECONDS)
    if as_json:
        print_json(found)
    else:
        upkeep_view.history(console, found, span, _ALARM_SECONDS)


def _lines(found: pb.GetRecoveryStatusResponse) -> list[str]:
    unread = found.repository_unreadable
    if found.HasField("latest_time"):
        window = f"restorable from {showing.moment(found.earliest_time)} to {showing.moment(found.latest_time)}"
    else:
        window = f"restorable time unknown: {showing.NOT_ASKED}" if unread else "not restorable"
    lines = [window, *(showing.lost(one) for one in found.lost_intervals)]
    if found.HasField("rpo_exposure_seconds"):
        lines.append(
            f"RPO exposure {found.rpo_exposure_seconds:.1f} s, {found.archive_queue_segments} segments waiting"
        )
    lines.append(showing.object_rpo(found.object_rpo) + _by(found.object_rpo))
    if found.HasField("predicted_rto_seconds"):
        lines.append(f"RTO now {found.predicted_rto_seconds:.1f} s by past drills{_wrong(found)}")
    lines.append(_newest(found, f"backups unknown: {showing.NOT_ASKED}" if unread else "no backup"))
    last = found.last_drill
    lines.append(f"last drill {last.name} {showing.word(last.state)}" if last.name else "no drill yet")
    recent = ", ".join(f"{beat.sequence} ({showing.moment(beat.create_time)})" for beat in found.recent_heartbeats[:3])
    lines.append(
        f"archived heartbeats {recent or ('unknown' if unread else 'none')}; newest written {found.newest_heartbeat}"
    )
    return [*lines, *(f"warning: {warning}" for warning in found.warnings)]


def _newest(found: pb.GetRecoveryStatusResponse, otherwise: str) -> str:
    """The newest backup, or *otherwise* when the answer has none."""
    newest = found.last_backup
    return f"last backup {newest.label or newest.name} {showing.word(newest.state)}" if newest.name else otherwise


def _by(found: pb.ObjectRpo) -> str:
    """Which drill says so, and when it ended."""
    return f" by {found.drill} of {showing.moment(found.drill_end_time)}" if found.drill else ""


def _wrong(found: pb.GetRecoveryStatusResponse) -> str:
    """How good such forecasts were, when it is known."""
    return f"; forecasts were {found.rto_prediction_error:.0%} off" if found.HasField("rto_prediction_error") else ""
