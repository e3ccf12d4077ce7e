"""`python -m deploy.stack VERB`: what the Makefile's targets call. FORMAT=json prints one object and nothing else."""

import os
import sys
from collections.abc import Callable

import click

from deploy.stack import down as downing
from deploy.stack import ports, prepare
from deploy.stack.layout import BadSettings, layout
from deploy.stack.postgres import PostgresError
from deploy.stack.report import Report
from deploy.stack.supervise import SupervisorGone
from deploy.stack.up import NotWell, OtherRun, up

EXPECTED = (NotWell, OtherRun, ports.PortTaken, BadSettings, prepare.PreparationFailed, PostgresError, SupervisorGone)


def ended(report: Report, deed: Callable[[], bool]) -> None:
    """Run a verb to its end and exit with its code; an expected fault is told in its own words, not as a traceback."""
    try:
        ok = deed()
    except EXPECTED as fault:
        report.facts["error"] = str(fault)
        report.console.print(f"{fault}", style="red", markup=False)
        ok = False
    except KeyboardInterrupt:
        report.say("\nstopped half-way: make up goes on from here, make down takes it down")
        sys.exit(130)
    sys.exit(report.finish(ok=ok))


@click.group()
def main() -> None:
    """Holdfast on this machine."""


@main.command("up")
def up_() -> None:
    """Bring the stack up and say where everything is."""
    report = Report()

    def deed() -> bool:
        where = layout()
        parts = up(where, report)
        report.facts |= {"stack_json": str(where.stack_json), "edge_url": parts.edge_url}
        report.say(parts.edge_url)
        return True

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


if __name__ == "__main__":
    os.umask(0o077)
    main()
