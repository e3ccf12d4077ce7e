"""The schedule of backups and the history of exposure, for people."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.table import Table

from holdfast.backup.v1 import upkeep_service_pb2 as pb
from holdfast.cli.show import moment

TASKS = {"full": pb.TASK_FULL, "diff": pb.TASK_DIFFERENTIAL, "expire": pb.TASK_EXPIRE, "verify": pb.TASK_VERIFY}
_NAMES = {number: name for name, number in TASKS.items()}
_BARS = " ▁▂▃▄▅▆▇█"
_UNKNOWN, _UNMEASURED = "?", "·"
_SIGNS = {_UNKNOWN: "nothing restorable, or not known", _UNMEASURED: "nothing measured"}
_MINUTE = "%Y-%m-%d %H:%MZ"


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


@dataclass(frozen=True, slots=True)
class Span:
    """A time cut into *parts* equal ones; of at least a minute, which is how often exposure is measured."""

    begin: datetime
    end: datetime
    parts: int

    @property
    def step(self) -> timedelta:
        """How long a part is."""
        return max(timedelta(minutes=1), (self.end - self.begin) / self.parts)

    def index(self, one: pb.ExposurePoint) -> int:
        """Which part *one* tells of."""
        return round((one.begin_time.ToDatetime(tzinfo=UTC) - self.begin) / self.step)


def history(console: Console, found: pb.ListExposuresResponse, span: Span, alarm_seconds: float) -> None:
    """Print the exposure as one line of bars, full height at *alarm_seconds*, what they mean, and the worst part."""
    if not found.points:
        console.print("Nothing is known of that time yet: exposure is measured once a minute.")
        return
    points = {span.index(one): one for one in found.points}
    first, last = min(points), max(points)
    bars = "".join(_bar(points.get(number), alarm_seconds) for number in range(first, last + 1))
    console.print(bars, markup=False)
    signs = [f"{_BARS[-1]} {alarm_seconds:.0f} s or more would have been lost"]
    signs += [f"{sign} {meaning}" for sign, meaning in _SIGNS.items() if sign in bars]
    console.print(f"each sign is the worst of its part: {', '.join(signs)}", markup=False)
    until = min(span.begin + (last + 1) * span.step, span.end)
    told = f"from {found.points[0].begin_time.ToDatetime():{_MINUTE}} to {until:{_MINUTE}}"
    console.print(f"{_parts(len(bars))} of {span.step.total_seconds() / 60:.3g} min, {told}", markup=False)
    for line in _worst(found.points):
        console.print(line, markup=False)


def _worst(points: Sequence[pb.ExposurePoint]) -> Iterator[str]:
    known = [one for one in points if one.HasField("exposure_seconds")]
    if known:
        worst = max(known, key=lambda one: one.exposure_seconds)
        began = worst.begin_time.ToDatetime()
        yield f"worst: {worst.exposure_seconds:.0f} s, in the part that begins at {began:{_MINUTE}}"
    unknown, broken = len(points) - len(known), sum(one.rpo_broken for one in points)
    if unknown:
        yield f"nothing restorable, or not known: {_parts(unknown)}"
    if broken:
        yield f"broken by a hole in the archive: {_parts(broken)}"


def _parts(count: int) -> str:
    return "1 part" if count == 1 else f"{count} parts"


def _bar(one: pb.ExposurePoint | None, alarm_seconds: float) -> str:
    if one is None:
        return _UNMEASURED
    if not one.HasField("exposure_seconds"):
        return _UNKNOWN
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
