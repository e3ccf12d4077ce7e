"""`python -m deploy.stack VERB`: what the Makefile's targets call. FORMAT=json prints one object and nothing else."""

import os
import shutil
import sys
from collections.abc import Callable

import click
import psycopg
import sqlalchemy.exc

from deploy.stack import doctor, erasing, logs, ports, prepare, showing, status
from deploy.stack import down as downing
from deploy.stack.edge import Refused
from deploy.stack.layout import CHECKOUT, BadSettings, layout
from deploy.stack.postgres import PostgresError
from deploy.stack.report import Report
from deploy.stack.supervise import SupervisorGone
from deploy.stack.up import IsDown, NeverUp, NotWell, OtherRun, running, up
from deploy.stack.visitors import Failed

EXPECTED = (
    IsDown, NeverUp, NotWell, OtherRun, ports.PortTaken, BadSettings, prepare.PreparationFailed, PostgresError,
    SupervisorGone, logs.NoSuchPart, erasing.NotErased, Refused, Failed, OSError, psycopg.OperationalError,
    sqlalchemy.exc.OperationalError,
)  # fmt: skip


def ended(report: Report, deed: Callable[[], bool]) -> None:
    """Run a verb to its end and exit with its code; an expected fault is told in its own words, not as a traceback."""
    try:
        ok = deed()
    except EXPECTED as fault:
        report.facts["error"] = str(fault)
        report.console.print(f"{fault}", style="red", markup=False)
        ok = False
    except KeyboardInterrupt:
        report.say("\nbroken off: make up goes on from here, make down takes it down")
        sys.exit(130)
    sys.exit(report.finish(ok=ok))


@click.group()
def main() -> None:
    """Holdfast on this machine."""


@main.command("up")
@click.option("--tour/--no-tour", default=True, help="Take the tour when the installed revision has not been toured.")
def up_(*, tour: bool) -> None:
    """Bring the stack up and say where everything is."""
    report = Report()

    def deed() -> bool:
        where = layout()
        parts = up(where, report)
        report.facts |= {"stack_json": str(where.stack_json), "edge_url": parts.edge_url}
        ok = True
        if tour and showing.due(where):
            report.say("\nThe tour")
            ok = showing.take_tour(parts, report)
            if ok:
                showing.toured(where)
        showing.addresses(parts, report)
        return ok

    ended(report, deed)


@main.command("down")
def down_() -> None:
    """Stop every process of the stack and keep its data."""
    report = Report()

    def deed() -> bool:
        downing.down(layout(), report)
        report.say("down; the data are kept")
        return True

    ended(report, deed)


@main.command("status")
def status_() -> None:
    """Show every part, and what could be restored now."""
    report = Report()
    ended(report, lambda: status.show(layout(), report))


@main.command("doctor")
def doctor_() -> None:
    """Examine the running configuration."""
    report = Report()
    ended(report, lambda: doctor.show(layout(), report))


@main.command("tour")
def tour_() -> None:
    """Do the main job through the edge, and assert each step."""
    report = Report()

    def deed() -> bool:
        where = layout()
        ok = showing.take_tour(running(where), report)
        if ok:
            showing.toured(where)
        return ok

    ended(report, deed)


@main.command("logs")
def logs_() -> None:
    """Print and follow the log of part S, or of all."""
    report = Report()

    def deed() -> bool:
        try:
            logs.show(layout(), os.environ.get("S", ""), sys.stdout, follow=os.environ.get("FOLLOW", "") != "no")
        except (KeyboardInterrupt, BrokenPipeError):  # how following ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True

    ended(report, deed)


@main.command("migrate")
def migrate_() -> None:
    """Run pending migrations on the running stack."""
    report = Report()

    def deed() -> bool:
        parts = running(layout())
        ran = parts.cluster.migrate(parts.vault.role_passwords()["holdfast_owner"])
        report.facts["ran"] = [f"{step.tree} {step.revision} {step.title}" for step in ran]
        report.say("\n".join(report.facts["ran"]) or "nothing is pending")
        return True

    ended(report, deed)


@main.command("erase")
def erase_() -> None:
    """Erase what the files of user NAME say, for good and in every backup too."""
    report = Report()

    def deed() -> bool:
        name = os.environ.get("NAME", "")
        if not name:
            report.say("Say whose files, by the resource name: make erase NAME=organizations/…/users/…")
            return False
        report.facts["erased"] = erasing.erase(running(layout()), name)
        report.say(report.facts["erased"])
        return True

    ended(report, deed)


@main.command("clean")
def clean_() -> None:
    """Destroy the stack: its data, its secrets, its logs, and for the checkout's own stack the environments."""
    report = Report()

    def deed() -> bool:
        where = layout()
        name = where.run.name
        report.say(f"This destroys the stack {name} in {where.home}: its database, files, backups, secrets and logs.")
        given = os.environ.get("NAME") or (input("Type its name to go on: ") if sys.stdin.isatty() else "")
        if given != name:
            wrong = f"{given} is not its name. " if given else ""
            report.say(f"Nothing was destroyed. {wrong}To go on: make clean NAME={name}")
            return False
        downing.clean(where, report)
        if where.home == where.programs:
            shutil.rmtree(where.home, ignore_errors=True)
            link = CHECKOUT / ".holdfast"
            if link.is_symlink():
                link.unlink()
        report.say("destroyed")
        return True

    ended(report, deed)


if __name__ == "__main__":
    os.umask(0o077)
    main()
