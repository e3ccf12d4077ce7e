"""`make doctor`: examines the running configuration, dated and kept under `<state>/doctor` (O8)."""

import json
import os
import ssl
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from deploy.stack import clockstate, inventory, offsite, pki, probes, status
from deploy.stack.layout import SERVICES, Layout
from deploy.stack.parts import PLAIN, Parts, exists
from deploy.stack.pki import write
from deploy.stack.report import Report
from deploy.stack.supervise import Supervisor, drop_prefix
from deploy.stack.up import running
from holdfast.cli.escrow_files import words
from holdfast.escrow import Installation, Missing, record

SECRET_DAYS = {
    "database_password": 180, "owner_password": 180, "repository_cipher": 36500, "evidence_key": 36500,
    "digest_key": 36500, "key_encryption_keys": 365,
}  # fmt: skip
SIGNING_DAYS = 90
CHECK_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer. verdict: ok, warning, or fault; a fault makes doctor fail."""

    check: str
    verdict: str
    detail: str


def examine(parts: Parts) -> Iterator[Finding]:
    """Every check, in order; one that breaks is a fault and does not stop the others."""
    checks: tuple[Callable[[Parts], Iterator[Finding]], ...] = (
        health, listeners, clock, secret_modes, secret_ages, escrow, roles, archive, repository, tls, versions,
    )  # fmt: skip
    for check in checks:
        try:
            yield from check(parts)
        except (OSError, subprocess.SubprocessError, psycopg.Error, ValueError) as error:
            yield Finding(check.__name__, "fault", f"could not be examined: {error}")


def health(parts: Parts) -> Iterator[Finding]:
    """Whether each part is well."""
    for one in status.states(parts):
        yield Finding(f"part {one.name}", "fault" if one.fault else "ok", one.fault or f"well for {one.up_seconds} s")


def listeners(parts: Parts) -> Iterator[Finding]:
    """Only the edge may be reachable from beyond this machine, and every remembered port has to be ours."""
    pids = {name: told["pid"] for name, told in Supervisor(parts.where).states().items() if told["pid"]}
    found = inventory.listeners(pids)
    allowed = {parts.ports["edge"], parts.ports["redirect"]}
    open_ones = [one for one in found if not one.private and not (one.part == "edge" and one.port in allowed)]
    shown = ", ".join(f"{one.part} {one.protocol} {one.address}:{one.port}" for one in found)
    yield Finding("listeners", "fault" if open_ones or not found else "ok", shown or "nothing listens")
    for one in open_ones:
        yield Finding("listeners", "fault", f"{one.part} is reachable at {one.address}:{one.port}")
    ours = {one.port for one in found}
    for part in parts.all():
        for name in part.ports:
            if parts.ports[name] not in ours:
                yield Finding("ports", "fault", f"{part.name} does not listen on {parts.ports[name]} ({name})")
    yield Finding("ports", "ok", ", ".join(f"{name} {port}" for name, port in parts.ports.items() if port in ours))


def clock(_: Parts) -> Iterator[Finding]:
    """Tokens live for a minute and drills aim at moments: the clock has to be right."""
    synchronised = clockstate.synchronised()
    words = {True: "kept by a time service", False: "not kept by a time service", None: "unknown whether it is kept"}
    verdict = "ok" if synchronised else "warning"
    yield Finding("clock", verdict, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}, {words[synchronised]}")


def secret_modes(parts: Parts) -> Iterator[Finding]:
    """Every secret file 0600, every directory 0700, and all of one owner."""
    owner = parts.where.state.stat().st_uid
    faults = []
    files = [*parts.where.secrets.rglob("*"), *parts.where.pki.rglob("*.key"), *parts.where.pki.rglob("key.pem")]
    for path in [parts.where.state, parts.where.secrets, *files]:
        found = path.stat()
        wanted = 0o700 if path.is_dir() else 0o600
        if stat.S_IMODE(found.st_mode) != wanted or found.st_uid != owner:
            faults.append(f"{path}: mode {stat.S_IMODE(found.st_mode):04o}, user {found.st_uid}")
    yield Finding(
        "secret modes", "fault" if faults else "ok", "; ".join(faults) or f"{len(files)} files and directories"
    )


def secret_ages(parts: Parts) -> Iterator[Finding]:
    """K2: signing secrets are due after 90 days, database passwords after 180."""
    due = []
    for path in parts.where.secrets.rglob("*"):
        days = (time.time() - path.stat().st_mtime) / 86400
        if path.is_file() and days > SECRET_DAYS.get(path.name, SIGNING_DAYS):
            due.append(f"{path.parent.name}/{path.name}: {days:.0f} days")
    yield Finding("secret ages", "warning" if due else "ok", "; ".join(due) or "none is due")


def escrow(parts: Parts) -> Iterator[Finding]:
    """B7: whether a restore without this host would get every key; compared with the secrets themselves."""
    installation = Installation(parts.where.state)
    try:
        record.note_installed(installation, now=datetime.now(UTC))
    except Missing as fault:
        yield Finding("escrow", "fault", str(fault))
        return
    standing = record.standing(installation.records)
    yield Finding("escrow", "ok" if standing.good else "warning", words(standing).replace("\n", "; "))


def roles(parts: Parts) -> Iterator[Finding]:
    """T6: each service examines its own database login and the tables it stands on."""
    running = [(name, probes.self_check(parts, name)) for name in SERVICES if exists(name)]
    for name, process in running:
        out, error = process.communicate(timeout=CHECK_SECONDS)
        try:
            answer = json.loads(out)
        except ValueError:
            yield Finding(f"self-check {name}", "fault", (error or out).strip()[-500:])
            continue
        yield Finding(f"self-check {name}", "ok" if answer["ok"] else "fault", "; ".join(answer["faults"]) or "ok")


def archive(parts: Parts) -> Iterator[Finding]:
    """How far the WAL archive lags, as Postgres sees it and as the backup service does."""
    with parts.cluster.admin() as connection:
        row = connection.execute(
            "SELECT archived_count, failed_count, last_archived_wal,"
            " coalesce(last_failed_time > last_archived_time, failed_count > 0),"
            " extract(epoch FROM now() - last_archived_time) FROM pg_stat_archiver"
        ).fetchone()
    assert row is not None
    archived, failed, last, failing, age = row
    detail = f"{archived} segments archived, {failed} failures, last {last or 'none'}"
    detail += f" {float(str(age)):.0f} s ago" if age is not None else ""
    yield Finding("archive", "fault" if failing else "ok", detail)
    found = status.recovery(parts.where)
    if isinstance(found, str):
        yield Finding("recovery", "fault", found)
        return
    verdict = "warning" if found.warnings else "ok"
    yield Finding(
        "recovery", verdict, f"{found.archive_queue_segments} segments wait; " + "; ".join(status.recovery_lines(found))
    )


def repository(parts: Parts) -> Iterator[Finding]:
    """B1 and K4: whether backups lie elsewhere than files, by the file the engine reads; and that nothing proves an
    encrypted volume.
    """
    host = offsite.repository_host(parts.pgbackrest_file)
    if why := offsite.fault(host, parts.store.endpoint, offsite.addresses):
        yield Finding("repository", "warning", f"{why}. {offsite.REMEDY}")
    else:
        yield Finding("repository", "ok", f"backups lie at {host}, files elsewhere")
    yield Finding(
        "volumes", "warning", f"unproven: nothing here shows that {parts.where.state} lies on an encrypted volume"
    )


def tls(parts: Parts) -> Iterator[Finding]:
    """O1: the edge's certificate, its versions, its headers; the object store's certificate."""
    now = datetime.now(UTC)
    version, headers = probes.edge_answer(parts)
    missing = [name for name in probes.REQUIRED_HEADERS if name not in headers]
    yield Finding("edge TLS", "fault" if version != "TLSv1.3" else "ok", f"verified, {version}")
    yield Finding(
        "edge headers", "fault" if missing else "ok", f"missing: {', '.join(missing)}" if missing else "all there"
    )
    old = probes.accepts(parts, ssl.TLSVersion.TLSv1_1)
    yield Finding("edge old TLS", "fault" if old else "ok", "TLS 1.1 is accepted" if old else "TLS 1.1 is refused")
    for name in ("edge", "store"):
        days = pki.days_left(parts.where.pki / name / "cert.pem", now)
        yield Finding(f"certificate {name}", "ok" if days > pki.RENEW_DAYS else "warning", f"{days} days left")


def versions(parts: Parts) -> Iterator[Finding]:
    """What runs."""
    asked = {
        "postgres": [parts.cluster.command()[-3], "--version"],
        "pgbackrest": ["pgbackrest", "version"],
        "envoy": [str(parts.where.tool("envoy")), "--version"],
        "seaweedfs": [str(parts.where.tool("weed")), "version"],
        "supervisor": [str(parts.where.tool("supervisord")), "--version"],
        "python": [str(parts.where.python), "--version"],
    }
    for name, command in asked.items():
        done = subprocess.run(
            [*drop_prefix(), *command], capture_output=True, text=True, timeout=20, check=False, env=PLAIN, cwd="/"
        )
        words = (done.stdout + done.stderr).split("\n")
        first = next((line.strip() for line in words if line.strip()), "no answer")
        yield Finding(
            f"version {name}",
            "ok" if done.returncode == 0 else "fault",
            first,
        )


def keep(where: Layout, findings: list[Finding]) -> Path:
    """Write the dated record and return its path."""
    now = datetime.now(UTC)
    path = where.state / "doctor" / f"{now:%Y%m%dT%H%M%SZ}.json"
    document = {"time": now.isoformat(), "findings": [asdict(one) for one in findings]}
    write(path, json.dumps(document, indent=1).encode())
    return path


def show(where: Layout, report: Report) -> bool:
    """Print what was found and keep it; whether nothing is at fault."""
    parts = running(where)
    findings = []
    colours = {"ok": "green", "warning": "yellow", "fault": "red"}
    for one in examine(parts):
        findings.append(one)
        report.console.print(f"  [{colours[one.verdict]}]{one.verdict:<8}[/] {one.check:<20} ", end="")
        report.console.print(one.detail, markup=False)
    record = keep(where, findings) if os.access(where.state, os.W_OK) else None
    report.facts |= {"findings": [asdict(one) for one in findings], "record": str(record)}
    faults = sum(one.verdict == "fault" for one in findings)
    warned = sum(one.verdict == "warning" for one in findings)
    report.say(f"{len(findings)} checks, {faults} faults, {warned} warnings; kept in {record}")
    return faults == 0
