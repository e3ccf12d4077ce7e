"""Lays out what the parts need: directories, secrets, certificates, configuration files; then roles, tables, buckets,
stanza.

Everything here may be repeated, and may have been broken off anywhere: files are replaced whole, and each stamp is
written last. As root the results are handed to the user the parts run as.
"""

import hashlib
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

from deploy import prometheus
from deploy.envoy import config as envoy_config
from deploy.pgbackrest import conf as pgbackrest
from deploy.stack import backup_store, pki
from deploy.stack.credentials import public_key
from deploy.stack.layout import SERVICES, as_root, service_ids
from deploy.stack.parts import PLAIN, STANZA, Parts
from deploy.stack.pki import write
from deploy.stack.supervise import drop_prefix
from holdfast.escrow import Installation, record
from libs.rpc.validate import IMAGE

LOCKED = 50  # pgBackRest: another of its processes holds the lock
LOCK_SECONDS = 45.0


class PreparationFailed(Exception):
    """A tool refused; the message carries its words."""


def files(parts: Parts) -> None:
    """Directories, secrets, certificates, configuration files."""
    where = parts.where
    if parts.settings.offsite_endpoint:
        _ = parts.backup_store  # refuses before anything is laid out
    fixed = directories(parts)
    for directory in fixed:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    if as_root():
        where.home.chmod(0o755)
    parts.vault.ensure()
    parts.vault.evidence(parts.backup_store.identities[backup_store.EVIDENCE])
    public_keys(parts)
    certificates(parts)
    configurations(parts)
    installation = Installation(where.state)
    record.note_installed(installation, now=datetime.now(UTC))
    parts.store.prepare()
    for single in (*fixed, *(where.state / "store").iterdir(), where.run / "store"):
        own(single, deep=False)
    for tree in (where.secrets, where.pki, where.conf, installation.records):
        own(tree)
    parts.cluster.initialise()


def directories(parts: Parts) -> list[Path]:
    """Every directory that is made here, parents first."""
    where = parts.where
    in_state = (
        "store",
        "backup",
        "prometheus",
        "doctor",
        "pgbackrest",
        "pgbackrest/log",
        "pgbackrest/lock",
        "pgbackrest/spool",
    )
    named = [where.state, where.run, where.mail, where.conf, where.pki, where.secrets, where.operator_socket.parent]
    return [*named, *(where.state / name for name in in_state)]


def public_keys(parts: Parts) -> None:
    """Evidence's public key where anyone may read it, behind those that were used before."""
    path = parts.where.evidence_key_file
    known = path.read_text(encoding="ascii") if path.exists() else ""
    own_key = public_key(parts.vault.text("backup/evidence_key").encode()).decode()
    if own_key not in known:
        changed(path, known + own_key, mode=0o644)


def certificates(parts: Parts) -> None:
    """The authority, and a certificate each for the edge and the object store."""
    where, now = parts.where, datetime.now(UTC)
    authority = pki.authority(where.pki, now)
    edge = pki.leaf(where.pki / "edge", authority, now)
    pki.leaf(where.pki / "store", authority, now)
    changed(where.pki / "edge" / "sds.json", envoy_config.certificate_document(edge.certificate, edge.key))
    changed(where.ca_file, authority.certificate.read_text(encoding="ascii"), mode=0o644)


def configurations(parts: Parts) -> None:
    """Envoy's, pgBackRest's and Prometheus' files."""
    where, ports = parts.where, parts.ports
    if not parts.contract_image.exists():
        write(parts.contract_image, IMAGE.read_bytes())
    changed(where.conf / "envoy.yaml", envoy_config.render(parts.edge))
    for old in set(where.conf.glob("contract-*.binpb")) - {parts.contract_image}:
        old.unlink()
    changed(parts.pgbackrest_file, pgbackrest.render(parts.pgbackrest_settings(backup_store.WRITER)))
    changed(parts.keeper_file, pgbackrest.render(parts.pgbackrest_settings(backup_store.KEEPER)))
    changed(parts.drill_file, pgbackrest.render(parts.pgbackrest_settings(backup_store.READER)))
    targets = {service: f"127.0.0.1:{ports[f'{service}_metrics']}" for service in SERVICES}
    targets["edge"] = f"127.0.0.1:{ports['edge_metrics']}"
    rules = prometheus.rules()
    for name, text in rules.items():
        changed(where.conf / name, text)
    for old in {path for path in where.conf.glob("rules-*.yml") if path.name not in rules}:
        old.unlink()
    watched = prometheus.render(
        targets, {"edge": "/stats/prometheus"}, rule_files=rules, alertmanagers=parts.settings.alertmanagers
    )
    changed(where.conf / "prometheus.yml", watched)


def changed(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace *path* unless it already says *text*."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write(path, text.encode(), mode)


def own(path: Path, *, deep: bool = True) -> None:
    """As root, hand *path* to the service user; deep: and everything below it."""
    if not as_root() or not path.exists():
        return
    user, group = service_ids()
    os.chown(path, user, group)
    if deep:
        for root, folders, names in os.walk(path):
            for name in (*folders, *names):
                os.lchown(os.path.join(root, name), user, group)


def laid_out(parts: Parts, revision: str) -> bool:
    """Whether data() was done for *revision* and has nothing to do."""
    stamp = parts.where.state / "data.stamp"
    return stamp.exists() and stamp.read_text(encoding="ascii") == data_print(parts, revision)


def data_print(parts: Parts, revision: str) -> str:
    """What stands for the work of data()."""
    return hashlib.sha256(f"{revision}\0{parts.pgbackrest_file.read_text(encoding='utf-8')}".encode()).hexdigest()


def data(parts: Parts, revision: str) -> list[str]:
    """Roles, migrations, buckets and the stanza, unless all of it was done for *revision*; what was done, for a
    person.
    """
    if laid_out(parts, revision):
        return []
    parts.store.create_buckets()
    passwords = parts.vault.role_passwords()
    parts.cluster.bootstrap(passwords)
    ran = parts.cluster.migrate(passwords["holdfast_owner"])
    stanza(parts)
    (parts.where.state / "data.stamp").write_text(data_print(parts, revision), encoding="ascii")
    return [f"{step.tree} {step.revision}" for step in ran]


def stanza(parts: Parts) -> None:
    """Make pgBackRest's stanza; making it again changes nothing. Raises PreparationFailed."""
    command = pgbackrest.command(parts.pgbackrest_file, STANZA, "stanza-create")
    program = shutil.which(command[0])
    if program is None:
        raise PreparationFailed("pgbackrest is not installed: run make setup")
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        done = subprocess.run(
            [*drop_prefix(), program, *command[1:]],
            cwd=parts.where.state,
            env={**PLAIN, "HOME": str(parts.where.state)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != LOCKED or time.monotonic() > deadline:
            break
        time.sleep(0.2)  # the server is archiving; that is soon over
    if done.returncode:
        raise PreparationFailed(f"pgbackrest stanza-create: {(done.stdout + done.stderr).strip()[-1500:]}")
