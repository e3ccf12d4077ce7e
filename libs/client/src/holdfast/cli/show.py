"""Backups and drills for people: tables, and phases as they go by; plain lines where there is no terminal."""

from collections.abc import Callable
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.backup.v1 import upkeep_service_pb2 as upkeep
from holdfast.cli.operator import reason_of

_MARKS = {
    pb.STATE_PENDING: ("·", "dim"),
    pb.STATE_RUNNING: ("…", "cyan"),
    pb.STATE_SUCCEEDED: ("ok", "green"),
    pb.STATE_FAILED: ("failed", "bold red"),
}
_VERDICTS = {
    pb.CHECK_VERDICT_OK: ("ok", "green"),
    pb.CHECK_VERDICT_FAILED: ("failed", "bold red"),
    pb.CHECK_VERDICT_NOT_MADE: ("not made", "yellow"),
}
OVER = (pb.STATE_SUCCEEDED, pb.STATE_FAILED)
NOT_ASKED = "the repository could not be read"


def word(state: "pb.State.ValueType") -> str:
    """A state for a person, e.g. "succeeded"."""
    return pb.State.Name(state).removeprefix("STATE_").lower()


def kind(type: "pb.BackupType.ValueType") -> str:
    """A backup type for a person, e.g. "full"."""
    return pb.BackupType.Name(type).removeprefix("BACKUP_TYPE_").lower()


def moment(value: Timestamp | None) -> str:
    """A time in UTC to the millisecond, "-" for none."""
    if value is None or not value.ByteSize():
        return "-"
    return value.ToDatetime(tzinfo=UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


def lost(one: upkeep.LostInterval, told: Callable[[Timestamp], str] = moment) -> str:
    """A piece cut out of the restorable time, for a person. told: a time's form."""
    one_only = one.first_wal == one.last_wal
    segments = f"segment {one.first_wal} is" if one_only else f"segments {one.first_wal} to {one.last_wal} are"
    return f"not restorable from {told(one.begin_time)} to {told(one.end_time)}: WAL {segments} lost"


def size(count: int) -> str:
    """Bytes in the unit that fits."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def backups(found: list[pb.Backup]) -> Table:
    """A table of backups."""
    name = Column("backup", no_wrap=True, overflow="fold")
    table = Table(name, "type", "state", "ended (UTC)", "database", "in repository", box=None, pad_edge=False)
    for one in found:
        label = one.label or one.name
        state = word(one.state) + (f" {one.progress_percent} %" if one.state == pb.STATE_RUNNING else "")
        ended = moment(one.end_time if one.HasField("end_time") else None)
        table.add_row(label, kind(one.type), state, ended, size(one.database_bytes), size(one.repository_bytes))
    return table


def drills(found: list[pb.Drill]) -> Table:
    """A table of drills."""
    name = Column("drill", no_wrap=True, overflow="fold")
    table = Table(name, "kind", "state", "asked (UTC)", "restored to", "RPO", "RTO", box=None, pad_edge=False)
    for one in found:
        to = _target(one) or "end of archive"
        rpo = f"{one.rpo_seconds:.1f} s" if one.HasField("rpo_seconds") else "-"
        rto = f"{one.rto_seconds:.1f} s" if one.HasField("rto_seconds") else "-"
        table.add_row(one.name, drill_kind(one), word(one.state), moment(one.create_time), to, rpo, rto)
    return table


def drill_kind(one: pb.Drill) -> str:
    """A drill's kind for a person, e.g. "deep"."""
    return pb.DrillKind.Name(one.kind).removeprefix("DRILL_KIND_").lower()


def verdict(check: pb.DrillCheck) -> tuple[str, str]:
    """A check's answer for a person, and its style; of records without a verdict, what ok says."""
    told = check.verdict or (pb.CHECK_VERDICT_OK if check.ok else pb.CHECK_VERDICT_FAILED)
    return _VERDICTS[told]


def fault(one: pb.Backup | pb.Drill) -> str:
    """Why it failed, "" when it did not."""
    if not one.HasField("error"):
        return ""
    reason = reason_of(one.error)
    return f"{one.error.message} [{reason}]" if reason else one.error.message


def drill(one: pb.Drill) -> RenderableType:
    """The whole drill: phases, checks, proof, verdict."""
    to = _target(one) or "the end of the archive"
    parts: list[RenderableType] = [f"{one.name}: {drill_kind(one)}, {one.backup_label} to {to}", _phases(one)]
    if one.checks:
        parts.append(_checks(one))
    parts += [Text(line) for line in _verdict(one)]
    return Group(*parts)


def object_rpo(found: pb.ObjectRpo) -> str:
    """The RPO of objects for a person, with the sample it rests on, or why it is not known."""
    if found.HasField("seconds"):
        return f"RPO of objects {found.seconds:.1f} s: {found.sampled_rows} rows sampled"
    return f"RPO of objects unknown: {found.unknown_reason or 'this service does not say'}"


def _target(one: pb.Drill) -> str:
    """Where recovery was told to stop, "" for the end of the archive."""
    return moment(one.resolved_target_time) if one.HasField("resolved_target_time") else one.target.lsn


def _phases(one: pb.Drill) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for phase in one.phases:
        mark, style = _MARKS[phase.state]
        table.add_row(f"  {phase.phase}", Text(mark, style), _elapsed(phase))
    return table


def _checks(one: pb.Drill) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for check in one.checks:
        mark, style = verdict(check)
        table.add_row(
            f"  {check.check}", Text(mark, style), str(check.count), f"{check.elapsed_seconds:.2f} s", check.detail
        )
    return table


def _elapsed(phase: pb.DrillPhase) -> str:
    if phase.state == pb.STATE_PENDING:
        return ""
    seconds = phase.elapsed_seconds
    if phase.state == pb.STATE_RUNNING:
        began = phase.start_time.ToDatetime(tzinfo=UTC)
        seconds = max(0.0, (datetime.now(UTC) - began).total_seconds())
    return f"{seconds:.2f} s"


def _verdict(one: pb.Drill) -> list[str]:
    lines = []
    if one.HasField("proof"):
        absent = f", heartbeat {one.proof.absent_heartbeat} absent" if one.proof.absent_heartbeat else ""
        lines.append(f"proof: heartbeat {one.proof.heartbeat} of {moment(one.proof.heartbeat_time)} restored{absent}")
    if one.isolation:
        lines.append(f"isolation: {one.isolation}")
    if one.HasField("rto_seconds"):
        rpo = f"{one.rpo_seconds:.2f} s" if one.HasField("rpo_seconds") else "unknown"
        foretold = f" (foretold: {one.predicted_rto_seconds:.2f} s)" if one.HasField("predicted_rto_seconds") else ""
        lines.append(f"RPO {rpo} · RTO {one.rto_seconds:.2f} s{foretold}")
    if one.HasField("object_rpo"):
        lines.append(object_rpo(one.object_rpo))
    if one.state in OVER:
        lines.append(f"drill {word(one.state)}" + (f": {fault(one)}" if fault(one) else ""))
    return lines


class DrillView:
    """Shows a drill while it runs: redrawn on a terminal, one line for each new state elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: pb.Drill | None = None
        self._seen: set[tuple[str, int]] = set()
        self._live = Live(get_renderable=self._now, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> "DrillView":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if self._last is not None and self._console.is_terminal:
            self._console.print(drill(self._last))

    def update(self, one: pb.Drill) -> None:
        """The drill as it is now."""
        self._last = one
        if not self._console.is_terminal:
            self._lines(one)

    def _now(self) -> RenderableType:
        return drill(self._last) if self._last is not None else ""

    def _lines(self, one: pb.Drill) -> None:
        for phase in one.phases:
            if phase.state in OVER and (phase.phase, phase.state) not in self._seen:
                self._seen.add((phase.phase, phase.state))
                self._console.print(f"{phase.phase} {word(phase.state)} {phase.elapsed_seconds:.2f} s")
        if one.state in OVER:
            for check in one.checks:
                self._console.print(f"check {check.check} {verdict(check)[0]}: {check.detail}", markup=False)
            for line in _verdict(one):
                self._console.print(line, markup=False)
