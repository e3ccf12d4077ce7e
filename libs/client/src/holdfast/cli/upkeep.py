"""The schedule of backups and the history of exposure, for people."""

from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from holdfast.backup.v1 import upkeep_service_pb2 as pb
from holdfast.cli.show import moment

TASKS = {"full": pb.TASK_FULL, "diff": pb.TASK_DIFFERENTIAL, "expire": pb.TASK_EXPIRE, "verify": pb.TASK_VERIFY}
_NAMES = {number: name for name, number in TASKS.items()}
_BARS = " ▁▂▃▄▅▆▇█"


def schedule(console: Console, found: pb.GetScheduleResponse) -> None:
    """Print what comes next, what stands wrong, and what was lost."""
    if not found.enabled:
        console.print("Nothing is begun by itself: the schedule is off (HOLDFAST_SCHEDULE).")
    table = Table("task", "due (UTC)", "last good (UTC)", "why", box=None, pad_edge=False)
    for one in found.tasks:
        table.add_row(_NAMES.get(one.task, "?"), _due(one), _good(one), _why(one))
    console.print(table)
    for lost in found.lost_intervals:
        console.print(_lost(lost), markup=False)
    for wrong in found.conditions:
        severity = pb.Severity.Name(wrong.severity).removeprefix("SEVERITY_").lower()
        console.print(f"{severity} since {moment(wrong.since_time)}: {wrong.text} {wrong.remedy}", markup=False)


def history(console: Console, found: pb.ListExposuresResponse, alarm_seconds: float) -> None:
    """Print the exposure as one line of bars, full height at *alarm_seconds*, and its worst moment."""
    if not found.points:
        console.print("Nothing is known of that time yet: exposure is measured once a minute.")
        return
    console.print("".join(_bar(one, alarm_seconds) for one in found.points), markup=False)
    known = [one for one in found.points if one.HasField("exposure_seconds")]
    first, last = found.points[0].begin_time, found.points[-1].begin_time
    console.print(f"{moment(first)} to {moment(last)}, {len(found.points)} parts", markup=False)
    if known:
        worst = max(known, key=lambda one: one.exposure_seconds)
        console.print(f"worst: {worst.exposure_seconds:.0f} s at {moment(worst.begin_time)}", markup=False)
    unknown, broken = len(found.points) - len(known), sum(one.rpo_broken for one in found.points)
    if unknown or broken:
        console.print(f"nothing restorable or unknown in {unknown} parts; broken by a hole in {broken}", markup=False)


def _bar(one: pb.ExposurePoint, alarm_seconds: float) -> str:
    if not one.HasField("exposure_seconds"):
        return "?"
    share = min(1.0, one.exposure_seconds / alarm_seconds)
    return _BARS[max(1, round(share * (len(_BARS) - 1)))]


def _due(one: pb.ScheduledTask) -> str:
    if not one.HasField("due_time"):
        return "-"
    past = one.due_time.ToDatetime(tzinfo=UTC) <= datetime.now(UTC)
    return "now" if past else one.due_time.ToDatetime().strftime("%Y-%m-%d %H:%M")


def _good(one: pb.ScheduledTask) -> str:
    return one.last_good_time.ToDatetime().strftime("%Y-%m-%d %H:%M") if one.HasField("last_good_time") else "-"


def _why(one: pb.ScheduledTask) -> str:
    if one.reason:
        return one.reason
    return "waits for a full backup, or for the repository to be readable"


def _lost(one: pb.LostInterval) -> str:
    begin = moment(one.begin_time) if one.HasField("begin_time") else "an unknown moment"
    end = moment(one.end_time) if one.HasField("end_time") else "now"
    return f"lost: {begin} to {end}, for WAL {one.first_wal} to {one.last_wal} is missing"
