"""`holdfast backup create|list|show|watch|schedule|run`."""

import builtins
import sys

import click
import grpc
from rich.progress import Progress, TextColumn, TimeElapsedColumn

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
    goes_on,
    json_option,
    print_json,
    socket_option,
)

_TYPES = {
    "auto": pb.BACKUP_TYPE_UNSPECIFIED,
    "full": pb.BACKUP_TYPE_FULL,
    "diff": pb.BACKUP_TYPE_DIFFERENTIAL,
    "incr": pb.BACKUP_TYPE_INCREMENTAL,
}


@click.group(cls=Verbs)
def backup() -> None:
    """Take and look at backups, through the local operator socket."""


@backup.command()
@click.option(
    "--type", "type_", type=click.Choice(list(_TYPES)), default="auto", help="auto: full first, then incremental."
)
@click.option("--wait/--no-wait", default=True, help="Follow it to its end.")
@json_option
@socket_option
def create(type_: str, wait: bool, as_json: bool, path: str) -> None:
    """Take a backup."""
    with connected(path) as channel:
        stub = BackupServiceStub(channel)
        asked = pb.CreateBackupRequest(backup=pb.Backup(type=_TYPES[type_]))
        made = stub.CreateBackup(asked, timeout=CALL_SECONDS).backup
        if wait:
            made = _follow(stub, made, as_json)
    _end(made, as_json)


@backup.command()
@json_option
@socket_option
def list(as_json: bool, path: str) -> None:
    """Every backup, newest first."""
    with connected(path) as channel:
        found = _all(channel)
    if as_json:
        print_json(pb.ListBackupsResponse(backups=found))
    else:
        console.print(showing.backups(found) if found else "There is no backup.")


@backup.command()
@click.argument("name")
@json_option
@socket_option
def show(name: str, as_json: bool, path: str) -> None:
    """One backup, by name or label."""
    with connected(path) as channel:
        found = BackupServiceStub(channel).GetBackup(pb.GetBackupRequest(name=_named(name)), timeout=CALL_SECONDS)
    if as_json:
        print_json(found.backup)
    else:
        console.print(showing.backups([found.backup]))
        if showing.fault(found.backup):
            console.print(showing.fault(found.backup), markup=False)


@backup.command()
@click.argument("name")
@json_option
@socket_option
def watch(name: str, as_json: bool, path: str) -> None:
    """Follow a backup to its end."""
    with connected(path) as channel:
        ended = _follow(BackupServiceStub(channel), pb.Backup(name=_named(name)), as_json)
    _end(ended, as_json)


@backup.command()
@json_option
@socket_option
def schedule(as_json: bool, path: str) -> None:
    """What is done next by itself and why, and what stands wrong; exit code 1 when something does."""
    with connected(path) as channel:
        found = UpkeepServiceStub(channel).GetSchedule(upkeep.GetScheduleRequest(), timeout=CALL_SECONDS)
    if as_json:
        print_json(found)
    else:
        upkeep_view.schedule(console, found)
    if found.conditions:
        sys.exit(ENDED_BADLY)


@backup.command()
@click.argument("task", type=click.Choice([*upkeep_view.TASKS]))
@json_option
@socket_option
def run(task: str, as_json: bool, path: str) -> None:
    """Have a task done as soon as nothing else runs."""
    with connected(path) as channel:
        asked = upkeep.RunTaskRequest(task=upkeep_view.TASKS[task])
        UpkeepServiceStub(channel).RunTask(asked, timeout=CALL_SECONDS)
    if as_json:
        print_json({"task": task})
    else:
        console.print(f"{task} will be done as soon as nothing else runs; see: holdfast backup schedule")


def _all(channel: grpc.Channel) -> builtins.list[pb.Backup]:
    stub, token = BackupServiceStub(channel), ""
    found: builtins.list[pb.Backup] = []
    while True:
        page = stub.ListBackups(pb.ListBackupsRequest(page_size=1000, page_token=token), timeout=CALL_SECONDS)
        found += page.backups
        token = page.next_page_token
        if not token:
            return found


def _named(name: str) -> str:
    return name if name.startswith("backups/") else f"backups/{name}"


def _follow(stub: BackupServiceStub, made: pb.Backup, as_json: bool) -> pb.Backup:
    with goes_on(made.name, f"Follow it: holdfast backup watch {made.name}"):
        return _followed(stub, made, as_json)


def _followed(stub: BackupServiceStub, made: pb.Backup, as_json: bool) -> pb.Backup:
    columns = (TextColumn("{task.description}"), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=as_json or not console.is_terminal) as bar:
        task = bar.add_task("backup", total=100)
        for update in stub.WatchBackup(pb.WatchBackupRequest(name=made.name)):
            made = update.backup
            bar.update(task, completed=made.progress_percent)
    return made


def _end(made: pb.Backup, as_json: bool) -> None:
    if as_json:
        print_json(made)
    else:
        console.print(showing.backups([made]))
        if showing.fault(made):
            console.print(showing.fault(made), markup=False)
    if made.state == pb.STATE_FAILED:
        sys.exit(ENDED_BADLY)
