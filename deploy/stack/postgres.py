"""One private Postgres cluster: made, configured, run, given its roles. Used by the stack under its supervisor and by
tests.

It listens on a Unix socket only. Services sign in by SCRAM; the operating-system user in `admin` is the superuser
`postgres` by peer, and the user the server runs as is `holdfast_pgbackrest` by peer, unless they are the same person.
"""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

import deploy

if TYPE_CHECKING:
    from sqlalchemy import URL

    from libs.db import migrate

ADMIN = "postgres"
_BOOTSTRAP = Path(deploy.__file__).parent / "postgres" / "bootstrap.sql"
_DEBIAN = Path("/usr/lib/postgresql")
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0


class PostgresError(Exception):
    """The cluster could not be made, started or stopped; the message says why and ends with what the server said."""


def binaries() -> Path:
    """The directory of the newest installed server's programs, 15 or later; PATH where Debian's layout is absent."""
    versions = [int(found.name) for found in _DEBIAN.glob("[0-9]*") if (found / "bin" / "initdb").exists()]
    if versions and max(versions) >= 15:
        return _DEBIAN / str(max(versions)) / "bin"
    on_path = shutil.which("initdb")
    if on_path is None:
        raise PostgresError("PostgreSQL 15 or later is not installed: apt-get install postgresql.")
    return Path(on_path).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where a cluster lies and how it runs. Nothing is touched before initialise().

    run_as: the user the server runs as when we are root; ignored otherwise, since only root can become somebody.
    socket_dir: at most 90 bytes, so that the socket's whole name fits 107. archive_command: "" switches archiving off.
    settings: further postgresql.conf values, last word.
    """

    data_dir: Path
    socket_dir: Path
    port: int = 5432
    database: str = "holdfast"
    run_as: str = "holdfast"
    archive_command: str = ""
    archive_timeout_seconds: int = 60
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def initialised(self) -> bool:
        """Whether initialise() has finished once."""
        return (self.data_dir / "PG_VERSION").exists() and (self.data_dir / "holdfast.ready").exists()

    @property
    def user(self) -> str:
        """The operating-system user the server runs as."""
        return self.run_as if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name

    def initialise(self) -> None:
        """Make the cluster unless it stands, and write its configuration anew. What a broken first try left is
        removed.
        """
        self._own(self.socket_dir, 0o755)
        if not self.initialised:
            shutil.rmtree(self.data_dir, ignore_errors=True)
            self._own(self.data_dir, 0o700)
            self._initdb()
        self.configure()
        self._write("holdfast.ready", "")

    def configure(self) -> None:
        """Write postgresql.conf, pg_hba.conf and pg_ident.conf; a running server reads most of it on reload()."""
        lines = [f"{name} = {_quoted(value)}" for name, value in self._values().items()]
        self._write("postgresql.conf", "\n".join(["# Written by deploy/stack/postgres.py at every start.", *lines, ""]))
        self._write("pg_hba.conf", _HBA)
        self._write("pg_ident.conf", self._ident())

    def command(self) -> list[str]:
        """The argument vector that runs the server in the foreground, also under a supervisor: it dies with its
        parent.
        """
        server = [str(binaries() / "postgres"), "-D", str(self.data_dir)]
        # At once, as in a crash: an orderly end would wait for the archive, which may have died with the same parent.
        return [*self._become("--pdeathsig", "QUIT"), *server]

    def environment(self) -> dict[str, str]:
        """The whole environment the server needs."""
        return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}

    def start(self, log: Path) -> subprocess.Popen[bytes]:
        """Run the server, its messages in *log*, and return once it answers. Raises PostgresError when it does not."""
        with log.open("ab") as messages:
            process = subprocess.Popen(
                self.command(), env=self.environment(), stdout=messages, stderr=messages, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                tail = log.read_text(errors="replace")[-2000:]
                raise PostgresError(f"Postgres did not start. Its last words:\n{tail}")
            time.sleep(0.05)
        return process

    def stop(self, process: "subprocess.Popen[bytes]", *, immediate: bool = False) -> None:
        """End the server: its sessions are cut and the buffers written; immediate skips that, as a crash would."""
        process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def reload(self) -> None:
        """Have the running server read its configuration again."""
        with self.admin() as connection:
            connection.execute("SELECT pg_reload_conf()")

    def ready(self) -> bool:
        """Whether the server accepts connections now."""
        asked = [str(binaries() / "pg_isready"), "-q", "-h", str(self.socket_dir), "-p", str(self.port)]
        return subprocess.run(asked, check=False, env=self.environment()).returncode == 0

    def admin(self, database: str = ADMIN) -> psycopg.Connection[tuple[object, ...]]:
        """A superuser's connection in autocommit, by peer: for the user that `pg_ident.conf` names."""
        return psycopg.connect(
            host=str(self.socket_dir), port=self.port, user=ADMIN, dbname=database, autocommit=True, connect_timeout=10
        )

    def bootstrap(self, passwords: Mapping[str, bytes]) -> None:
        """Make the database, roles, schemas and privileges, and set each role's password; repeating it is safe.

        passwords: role name → password bytes; only its SCRAM verifier is sent, and no statement with it is logged.
        """
        with self.admin() as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self.database]).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.database)))
        grant(self, self.database)
        with self.admin() as connection:
            connection.execute("SET log_statement = 'none'")
            connection.execute("SET log_min_error_statement = 'panic'")
            for role, password in passwords.items():
                _set_password(connection, role, password)

    def owner_url(self, password: bytes) -> "URL":
        """The URL with which migrations run."""
        from libs.db import migrate  # loaded late: a quarter of a second that most starts need not spend

        return migrate.owner_url(
            host=str(self.socket_dir), port=self.port, database=self.database, password=password.decode()
        )

    def migrate(self, owner_password: bytes, names: Sequence[str] | None = None) -> "list[migrate.Step]":
        """Run every pending migration as holdfast_owner; returns what ran."""
        from libs.db import migrate

        return migrate.upgrade(self.owner_url(owner_password), names)

    def _values(self) -> dict[str, str]:
        archiving = bool(self.archive_command)
        values = {
            **_CONF,
            "unix_socket_directories": str(self.socket_dir),
            "port": str(self.port),
            "archive_mode": "on" if archiving else "off",
            "archive_command": self.archive_command,
            "archive_timeout": f"{self.archive_timeout_seconds}s" if archiving else "0",
        }
        return values | dict(self.settings)

    def _ident(self) -> str:
        admin = pwd.getpwuid(os.geteuid()).pw_name
        lines = [
            "# map  system-user  database-user",
            f"local {admin} {ADMIN}",
            f"local {self.user} holdfast_pgbackrest",
        ]
        return "\n".join([*lines, ""])

    def _initdb(self) -> None:
        made = subprocess.run(
            [
                *self._become(), str(binaries() / "initdb"), "-D", str(self.data_dir), "--username", ADMIN,
                "--auth-local=peer", "--auth-host=scram-sha-256", "--data-checksums", "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-instructions",
            ],
            check=False, capture_output=True, text=True, env=self.environment(), cwd="/",
        )  # fmt: skip
        if made.returncode:
            raise PostgresError(f"initdb failed:\n{made.stderr[-2000:]}")

    def _become(self, *options: str) -> list[str]:
        if os.geteuid() != 0:
            return ["setpriv", "--no-new-privs", *options, "--"]
        identity = [f"--reuid={self.run_as}", f"--regid={self.run_as}", "--init-groups", "--inh-caps=-all"]
        return ["setpriv", *identity, "--no-new-privs", *options, "--"]

    def _own(self, folder: Path, mode: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)
        if os.geteuid() == 0:
            shutil.chown(folder, self.run_as, self.run_as)

    def _write(self, name: str, content: str) -> None:
        target, fresh = self.data_dir / name, self.data_dir / f"{name}.new"
        fresh.write_text(content)
        fresh.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(fresh, self.run_as, self.run_as)
        fresh.replace(target)


def grant(cluster: Cluster, database: str) -> None:
    """Run bootstrap.sql in *database*: a database copied from a template needs its own privileges again."""
    with cluster.admin(database) as connection:
        connection.execute("SET client_min_messages = 'warning'")
        connection.execute(_BOOTSTRAP.read_bytes())


def _set_password(connection: psycopg.Connection[tuple[object, ...]], role: str, password: bytes) -> None:
    verifier = connection.pgconn.encrypt_password(password, role.encode(), b"scram-sha-256").decode()
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier)))


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


_HBA = """\
# Written by deploy/stack/postgres.py at every start. No line for TCP: nothing listens there.
# type  database  user  method
local   all       postgres              peer map=local
local   all       holdfast_pgbackrest   peer map=local
local   all       all                   scram-sha-256
"""

_CONF = {
    "listen_addresses": "",
    "max_connections": "150",
    "shared_buffers": "256MB",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_min_duration_statement": "1s",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_lock_waits": "on",
    "wal_level": "replica",
    "max_wal_size": "2GB",
    "wal_compression": "lz4",
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "15s",
    "track_io_timing": "on",
}
