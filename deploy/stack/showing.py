"""What `make up` ends with, and the tour it takes the first time and after a change."""

import json
from dataclasses import asdict
from pathlib import Path

from deploy.stack import tour, visitors
from deploy.stack.layout import Layout
from deploy.stack.parts import Parts
from deploy.stack.report import NAME_WIDTH, Report
from deploy.stack.status import address
from deploy.stack.up import installed_revision


def addresses(parts: Parts, report: Report) -> None:
    """The table of addresses, the operator's command, the newcomer's next step."""
    rows = [(part.name, address(parts, part.name)) for part in parts.all()]
    report.table("\nHoldfast is up", ("part", "address"), rows)
    cli = Path(".holdfast/venv/bin/holdfast")  # it finds .holdfast/stack.json by itself
    report.say(f"\noperator:  {cli} backup list · {cli} drill run   (socket {parts.where.operator_socket})")
    report.say(f"sign in:   {cli} register · {cli} mail · {cli} verify TOKEN · {cli} login")
    report.say(f"trust:     {parts.where.ca_file}")


def take_tour(parts: Parts, report: Report) -> bool:
    """Take the tour and say each step; whether all was as promised."""

    def tell(step: tour.Step) -> None:
        mark = "[green]ok[/green]" if step.ok else "[red]failed[/red]"
        report.console.print(f"  {step.name:<{NAME_WIDTH}} {mark} {step.ms / 1000:6.1f} s  ", end="")
        report.console.print(step.detail, markup=False)
        report.steps.append(asdict(step))

    where = tour.Where(
        edge_url=parts.edge_url,
        ca_file=str(parts.where.ca_file),
        mail_dir=parts.where.mail,
        operator_socket=str(parts.where.operator_socket),
        forget=lambda emails: visitors.forget(parts.cluster, emails),
    )
    told = tour.run(where, tell)
    report.facts |= {
        "delivery_ms": told.delivery_ms, "rpo_seconds": told.rpo_seconds, "rto_seconds": told.rto_seconds,
    }  # fmt: skip
    return told.ok


def due(where: Layout) -> bool:
    """Whether the installed revision has not been toured yet."""
    path = where.home / "tour.json"
    toured = json.loads(path.read_text(encoding="utf-8"))["revision"] if path.exists() else ""
    return bool(toured != installed_revision(where))


def toured(where: Layout) -> None:
    """Keep that the installed revision has been toured."""
    (where.home / "tour.json").write_text(json.dumps({"revision": installed_revision(where)}), encoding="utf-8")
