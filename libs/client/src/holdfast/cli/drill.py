"""`holdfast drill run|list|show|watch|cancel`."""

import sys
from datetime import UTC, datetime

import click
from google.protobuf.timestamp_pb2 import Timestamp

from holdfast.backup.v1 import backup_service_pb2 as pb
from holdfast.backup.v1.backup_service_pb2_grpc import BackupServiceStub, DrillServiceStub
from holdfast.cli import run as run_
from holdfast.cli import show as showing
from holdfast.cli.operator import (
    CALL_SECONDS,
    ENDED_BADLY,
    Verbs,
    connected,
    console,
    goes_on,
    json_option,
    print_json,
    socket_option,
)

_KINDS = {None: pb.DRILL_KIND_UNSPECIFIED, "light": pb.DRILL_KIND_LIGHT, "deep": pb.DRILL_KIND_DEEP}


@click.group(cls=Verbs)
def drill() -> None:
    """Restore into an isolated copy and prove it, through the local operator socket."""


def _given(_: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """What a script gave; an empty variable of it is no wish for the default."""
    if value == "":
        raise click.BadParameter("is empty: a drill must not guess", param=option)
    return value


@drill.command()
@click.option(
    "--time", "at", callback=_given, help="Moment to restore to, ISO 8601 with an offset. Default: end of the archive."
)
@click.option("--between", type=click.IntRange(min=1), help="Restore to a moment after heartbeat N and before N + 1.")
@click.option("--lsn", callback=_given, help="Place in the WAL to restore to, e.g. 0/3000148.")
@click.option("--backup", callback=_given, help="Backup to restore. Default: the newest that ends before the moment.")
@click.option(
    "--kind",
    type=click.Choice(["light", "deep"]),
    help="light: the newest backup to the end of the archive. deep: a random moment, with the full checks.",
)
@click.option("--full", is_flag=True, help="Check every page and index entry too; a deep drill always does.")
@click.option("--wait/--no-wait", default=True, help="Follow it to its end.")
@json_option
@socket_option
def run(
    at: str | None,
    between: int | None,
    lsn: str | None,
    backup: str | None,
    kind: str | None,
    full: bool,
    wait: bool,
    as_json: bool,
    path: str,
) -> None:
    """Run a drill; exit code 0 only when no check was answered wrongly."""
    if sum(map(bool, (at, between, lsn))) > 1:
        raise click.UsageError("--time, --between and --lsn exclude each other.")
    if kind and (at or between or lsn or backup):
        raise click.UsageError(f"A {kind} drill chooses its own moment and backup.")
    with connected(path) as channel:
        stub = DrillServiceStub(channel)
        target = pb.DrillTarget(backup=f"backups/{backup.removeprefix('backups/')}" if backup else "")
        if at:
            target.time.CopyFrom(_moment(at))
        elif between:
            target.time.CopyFrom(_after(BackupServiceStub(channel), between))
        elif lsn:
            target.lsn = lsn
        asked = pb.Drill(target=target, kind=_KINDS[kind], full_checks=full)
        made = stub.CreateDrill(pb.CreateDrillRequest(drill=asked), timeout=CALL_SECONDS).drill
        if wait:
            # Its name first: whoever loses the connection meanwhile looks it up by that.
            run_.say(f"{made.name}: {made.backup_label}")
            made = _follow(stub, made.name, as_json)
    _end(made, as_json)


@drill.command()
@json_option
@socket_option
def list(as_json: bool, path: str) -> None:
    """Every drill, newest first."""
    found: pb.ListDrillsResponse = pb.ListDrillsResponse()
    with connected(path) as channel:
        stub, token = DrillServiceStub(channel), ""
        while True:
            page = stub.ListDrills(pb.ListDrillsRequest(page_size=1000, page_token=token), timeout=CALL_SECONDS)
            found.drills.extend(page.drills)
            token = page.next_page_token
            if not token:
                break
    if as_json:
        print_json(found)
    else:
        console.print(showing.drills([*found.drills]) if found.drills else "There was no drill yet.")


@drill.command()
@click.argument("name")
@json_option
@socket_option
def show(name: str, as_json: bool, path: str) -> None:
    """One drill with phases, checks and proof."""
    with connected(path) as channel:
        found = DrillServiceStub(channel).GetDrill(pb.GetDrillRequest(name=_named(name)), timeout=CALL_SECONDS).drill
    if as_json:
        print_json(found)
    else:
        console.print(showing.drill(found))


@drill.command()
@click.argument("name")
@json_option
@socket_option
def watch(name: str, as_json: bool, path: str) -> None:
    """Follow a drill to its end."""
    with connected(path) as channel:
        ended = _follow(DrillServiceStub(channel), _named(name), as_json)
    _end(ended, as_json)


@drill.command()
@click.argument("name")
@click.option("--wait/--no-wait", default=True, help="Follow it until its copy is removed.")
@json_option
@socket_option
def cancel(name: str, wait: bool, as_json: bool, path: str) -> None:
    """End a running drill; exit code 0 once its copy is removed.

    It counts as failed, and is evidence of that; one whose copy is being removed already ends as it would have.
    """
    with connected(path) as channel:
        stub = DrillServiceStub(channel)
        made = stub.CancelDrill(pb.CancelDrillRequest(name=_named(name)), timeout=CALL_SECONDS).drill
        if wait:
            run_.say(f"{made.name} ends, and removes its copy.")
            with goes_on(made.name, f"Follow it: holdfast drill watch {made.name}"):
                made = _followed(stub, made.name, as_json)
            run_.say(_outcome(made))
    if as_json:
        print_json(made)
    elif not wait:
        console.print(f"{made.name} ends. Follow it: holdfast drill watch {made.name}")
    if any(phase.phase == "teardown" and phase.state == pb.STATE_FAILED for phase in made.phases):
        sys.exit(ENDED_BADLY)


def _outcome(made: pb.Drill) -> str:
    """How a drill ended that somebody wanted to end: perhaps not for that."""
    if made.state == pb.STATE_SUCCEEDED:
        return f"{made.name} has succeeded: its copy was being removed already, so nothing was left to cancel."
    return f"{made.name} has {showing.word(made.state)}: {showing.fault(made)}"


def _named(name: str) -> str:
    return name if name.startswith("drills/") else f"drills/{name}"


def _moment(text: str) -> Timestamp:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter("has to be ISO 8601, e.g. 2026-11-22T01:02:03.5+00:00", param_hint="--time") from None
    if at.tzinfo is None:
        raise click.BadParameter("has to say its offset, e.g. +00:00: a drill must not guess", param_hint="--time")
    made = Timestamp()
    try:
        made.FromDatetime(at.astimezone(UTC))
    except OverflowError:
        raise click.BadParameter("has to lie in the years 1 to 9999 of UTC", param_hint="--time") from None
    return made


def _after(stub: BackupServiceStub, number: int) -> Timestamp:
    """The middle between heartbeats *number* and the next one, as the service knows them."""
    status = stub.GetRecoveryStatus(pb.GetRecoveryStatusRequest(), timeout=CALL_SECONDS)
    known = {beat.sequence: beat.create_time.ToDatetime(tzinfo=UTC) for beat in status.recent_heartbeats}
    if number not in known or number + 1 not in known:
        numbers = ", ".join(str(one) for one in sorted(known)) or "none"
        raise click.BadParameter(f"not both archived recently: {numbers} are", param_hint="--between")
    made = Timestamp()
    made.FromDatetime(known[number] + (known[number + 1] - known[number]) / 2)
    return made


def _follow(stub: DrillServiceStub, name: str, as_json: bool) -> pb.Drill:
    how = f"Follow it: holdfast drill watch {name}. End it: holdfast drill cancel {name}."
    with goes_on(name, how):
        return _followed(stub, name, as_json)


def _followed(stub: DrillServiceStub, name: str, as_json: bool) -> pb.Drill:
    made = pb.Drill(name=name)
    if as_json:
        for update in stub.WatchDrill(pb.WatchDrillRequest(name=name)):
            made = update.drill
        return made
    with showing.DrillView(console) as view:
        for update in stub.WatchDrill(pb.WatchDrillRequest(name=name)):
            made = update.drill
            view.update(made)
    return made


def _end(made: pb.Drill, as_json: bool) -> None:
    if as_json:
        print_json(made)
    elif made.state not in showing.OVER:
        console.print(f"{made.name} {showing.word(made.state)}")
    if made.state == pb.STATE_FAILED:
        sys.exit(ENDED_BADLY)
