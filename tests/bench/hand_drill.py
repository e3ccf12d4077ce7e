"""A drill as a person does it with a script: pgbackrest, postgres, the same isolation, the same questions, by hand.

Isolation, settings and questions are the service's own, so that only what lies around them is compared.
"""

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import boto3
from botocore.config import Config

from deploy.pgbackrest import conf
from deploy.stack.parts import PLAIN, STANZA, Parts
from deploy.stack.postgres import ADMIN, binaries
from deploy.stack.prepare import own
from deploy.stack.seaweed import REGION
from deploy.stack.supervise import drop_prefix
from services.backup.adapters import copy, isolation, ladder, questions, scrub
from services.backup.adapters.place import Place
from tests.bench.own_stack import until

DIVIDER = "----"
PROMOTED = "archive recovery complete"
READY = "database system is ready to accept connections"


@dataclass(slots=True)
class HandDrill:
    """One drill. label: backup; at: target, aware; means: the service's word for the isolation it used.

    spent: seconds of each phase, named as the service's phases are.
    """

    parts: Parts
    label: str
    at: datetime
    means: str
    spent: dict[str, float] = field(default_factory=dict)

    def run(self) -> float:
        """Seconds from the first command to the removed copy. Raises AssertionError for a copy that is not right."""
        began = time.monotonic()
        place = Place(self.parts.where.state / "backup" / "copies" / "by-hand", self.parts.where.run / "by-hand")
        for directory in (place.work, place.sockets):
            directory.mkdir(mode=0o700)
            own(directory)
        try:
            with self._phase("restore"):
                self._restore(place)
            with self._wal(place), self._server(place):
                with self._phase("check"):
                    self._check(place)
        finally:
            with self._phase("teardown"):
                shutil.rmtree(place.work)
                shutil.rmtree(place.sockets)
        return time.monotonic() - began

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.spent[name] = time.monotonic() - began

    def _restore(self, place: Place) -> None:
        target = self.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
        options = ["--type=time", f"--target={target}", "--target-action=promote", f"--set={self.label}"]
        options += ["--archive-mode=off", "--target-timeline=latest", f"--tablespace-map-all={place.work}/tablespaces"]
        pgbackrest(self.parts, "restore", *options, "--no-delta", *_places(place, spool=True)).check_returncode()

    @contextmanager
    def _wal(self, place: Place) -> Iterator[None]:
        """Answers the copy's restore_command, for the copy itself has no network."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place.wal_socket))
            own(place.wal_socket)
            listener.listen()
            thread = threading.Thread(target=self._fetch, args=(place, listener))
            thread.start()
            try:
                yield
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()

    def _fetch(self, place: Place, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # shut down
                return
            with connection:
                name, destination = connection.makefile().readline().split()
                options = ["--no-archive-async", *_places(place, spool=False), name, str(place.data / destination)]
                done = pgbackrest(self.parts, "archive-get", *options)
                connection.sendall({0: b"there\n", 1: b"none\n"}.get(done.returncode, b"fault\n"))

    @contextmanager
    def _server(self, place: Place) -> Iterator[None]:
        """The copy's server, promoted."""
        began = time.monotonic()
        with place.log.open("wb") as log:
            server = subprocess.Popen(
                self._server_command(place), cwd=place.work, env=PLAIN,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            until(lambda: READY in place.log.read_text() or server.poll() is not None, "the copy to be promoted")
            assert PROMOTED in place.log.read_text(), place.log.read_text()[-2000:]
            self.spent["replay and promote"] = time.monotonic() - began
            yield
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait(30)

    def _server_command(self, place: Place) -> list[str]:
        (place.work / "hba.conf").write_text(f'local all "{ADMIN}" peer map=drill\n')
        (place.work / "ident.conf").write_text(f'drill "{self.parts.cluster.user}" "{ADMIN}"\n')
        (place.work / "postgresql.conf").write_text("")
        python, adapters = str(self.parts.where.python), _adapters(self.parts)
        fetch = f'"{python}" -I -S "{adapters / "fetch.py"}" "{place.wal_socket}" %f %p'
        settings = {**copy.overrides(place), "restore_command": fetch}
        namespaces = next(names for names, words in isolation._LEVELS if words == self.means)
        argv = [*drop_prefix(), python, "-I", "-S", str(adapters / "enclosed.py"), "--namespaces", ",".join(namespaces)]
        for option, paths in (("--hide", _hidden(self.parts)), ("--keep", [str(place.work), str(place.sockets)])):
            argv += [word for path in paths for word in (option, path)]
        argv += ["--", str(binaries() / "postgres"), "-D", str(place.data)]
        return [*argv, *(f"-c{name}={value}" for name, value in settings.items())]

    def _check(self, place: Place) -> None:
        """Ask what the service asks, in one session of psql, and look at the answers."""
        cluster = self.parts.cluster
        targets = [f"unix:{cluster.socket_dir}/.s.PGSQL.{cluster.port}", f"file:{self.parts.pgbackrest_file}"]
        probe = [str(self.parts.where.python), "-I", "-S", str(_adapters(self.parts) / "probe.py"), *targets]
        psql = [str(binaries() / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", str(place.sockets), "-U", ADMIN]
        answers = _run([*psql, cluster.database], _script(probe)).split(f"{DIVIDER}\n")
        again, recovered, beats, tables, powers, archiving, inside, *data = (answer.splitlines() for answer in answers)
        assert again == ["f"]
        assert recovered[0].startswith("f|")
        assert beats
        scoped = [line for line in tables if "|scope: global" not in line]
        assert scoped
        assert all(line.endswith("|t|t") for line in scoped), scoped
        assert powers
        assert all(line.endswith("|{}") for line in powers), powers
        assert archiving[0].startswith("off|")
        assert {"listens 0", "interfaces 0", *(f"shut {target}" for target in targets)} == set(inside), inside
        assert set(_run(probe).splitlines()) >= {f"open {target}" for target in targets}
        _judge(data)
        self._compare_files()
        amcheck = [str(binaries() / "pg_amcheck"), "-h", str(place.sockets), "-p", copy.PORT, "-U", ADMIN]
        _run([*amcheck, "--no-password", "--install-missing", "--progress", "--jobs=2", cluster.database])
        with self._phase("scrub"):
            assert _run([*psql, cluster.database], _scrubbing()).splitlines()[-1] == "0"

    def _compare_files(self) -> None:
        """The store's objects, of which a stack without files has none and this database no rows."""
        store = self.parts.store
        pair = store.identities["files-read"]
        client = boto3.session.Session().client(
            "s3", endpoint_url=store.endpoint, region_name=REGION, aws_access_key_id=pair.access_key,
            aws_secret_access_key=pair.secret_key, verify=str(self.parts.where.ca_file),
            config=Config(s3={"addressing_style": "path"}),
        )  # fmt: skip
        for start in ("m", "0"):
            assert (
                client.list_objects_v2(Bucket="files", MaxKeys=200, StartAfter=start)["KeyCount"] <= 1
            )  # the canary's file


def _judge(data: Sequence[list[str]]) -> None:
    """What was counted in the copy's rows, as the service judges it."""
    revisions, orphans, sequences, marks, jobs, may_run = data
    assert len(revisions) == 5
    assert len(orphans) > 10
    assert set(orphans) == {"0"}
    assert all(int(last) >= int(most) for last, most in (line.split("|") for line in sequences))
    assert len(marks) == len(ladder._REACHED)
    assert set(marks) == {"0"}
    assert jobs[0].endswith("|0|0")
    assert may_run == ["f"]


def _script(probe: Sequence[str]) -> str:
    """The questions for psql, their answers kept apart."""
    program = " ".join(f'"{word}"' for word in probe)
    seen = f"CREATE TEMPORARY TABLE probe (line text); COPY probe FROM PROGRAM '{program}'; SELECT line FROM probe"
    beats = questions._BEATS.replace("%s", str(questions._NEWEST))
    asked = ["SELECT pg_is_in_recovery()", questions._RECOVERED, beats]
    asked += [questions._TABLES, questions._POWERS, questions._ARCHIVING, seen]
    asked += [";".join([*ladder._HEAPS_ONLY, _each(ladder._REVISIONS)]), _each(ladder._FOREIGN_KEYS)]
    asked += [_each(ladder._SEQUENCES), _marks(), ladder._JOBS, ladder._MAY_RUN]
    return f"\\echo {DIVIDER}\n".join(f"{question};\n" for question in asked)


def _each(statements: str) -> str:
    """Run every statement that a query of (name, statement) makes."""
    return f"SELECT made.statement FROM ({statements}) AS made (name, statement) \\gexec\n"


def _marks() -> str:
    """How many tenants lie below the newest mark, kind by kind."""
    newest = "(SELECT tenants FROM backup.marks ORDER BY heartbeat DESC LIMIT 1) AS newest"
    return ";".join(
        f"SELECT count(*) FROM {newest}, jsonb_each_text(newest.tenants -> '{kind}') AS m (tenant, value)"
        f" WHERE NOT EXISTS (SELECT FROM {table} t WHERE {reached})"
        for kind, (table, reached) in ladder._REACHED.items()
    )


def _scrubbing() -> str:
    """The scrub for psql; it says how many passwords are left."""
    roles = scrub._ROLES.replace("%s", f"'{ADMIN}'").replace("quote_ident(rolname)", "quote_ident(rolname) AS role")
    taken = f"SELECT format('ALTER ROLE %s NOLOGIN PASSWORD NULL', role) FROM ({roles}) AS made \\gexec\n"
    emptied = scrub.statements([*scrub.EMPTIED, *scrub.BLANKED])
    return ";".join(["SET session_replication_role = replica", taken, *emptied, f"{scrub._PASSWORDS};"])


def _run(argv: Sequence[str], script: str = "") -> str:
    """What a command of the service user printed."""
    done = subprocess.run(
        [*drop_prefix(), *argv], input=script, capture_output=True, text=True, check=False, env=PLAIN, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pgbackrest(parts: Parts, verb: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """One call of the engine to its end. A restore reads with the identity that may only read, as drills do."""
    config = parts.drill_file if verb in ("restore", "archive-get") else parts.pgbackrest_file
    argv = [*drop_prefix(), *conf.command(config, STANZA, verb, *options)]
    environment = {**PLAIN, "HOME": str(parts.where.state)}
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, cwd=parts.where.state)


def _places(place: Place, *, spool: bool) -> list[str]:
    options = [f"--pg1-path={place.data}", f"--lock-path={place.work}/lock", f"--log-path={place.work}/log"]
    return [*options, f"--spool-path={place.work}/spool"] if spool else options


def _adapters(parts: Parts) -> Path:
    """The scripts of the backup service as installed, where the service user may read them."""
    version = f"python{'.'.join(map(str, sys.version_info[:2]))}"
    return parts.where.programs / "venv" / "lib" / version / "site-packages" / "services" / "backup" / "adapters"


def _hidden(parts: Parts) -> list[str]:
    """What the service hides from a copy."""
    told = parts.service_environment("backup")
    names = ("STATE_DIR", "RUN_DIR", "SECRETS_DIR", "PGBACKREST_CONFIG", "PGBACKREST_DRILL_CONFIG", "DATABASE_HOST")
    return [*told["HOLDFAST_HIDDEN_PATHS"].split(","), *(told[f"HOLDFAST_{name}"] for name in names)]
