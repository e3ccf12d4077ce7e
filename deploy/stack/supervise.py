"""The supervisor: its configuration, and a client for its socket. Source: supervisor 4.3, XML-RPC API.

It restarts what dies. Order and health are ours (deploy.stack.up), for its own start waits only for a process to stay
alive. Each command runs behind `setpriv --pdeathsig`, so that nothing is orphaned when the supervisor itself is
killed (tried).
"""

import http.client
import os
import shlex
import socket
import subprocess
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.stack.layout import SERVICE_USER, Layout, as_root

LIVING = ("STARTING", "RUNNING", "BACKOFF", "STOPPING")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One supervised process; argv carries its own privilege prefix (drop_prefix).

    stop_signal: what ends it in order; also what it gets when the supervisor dies. stop_seconds: how long it may take
    before it is killed. whole_group: whether its children get the signal too; not so for Postgres, which ends its
    own.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path
    stop_signal: str = "TERM"
    stop_seconds: int = 20
    whole_group: bool = True


def drop_prefix(*, death_signal: str = "") -> list[str]:
    """What a command is prefixed with: as root it becomes the service user's; with *death_signal*, it dies with its
    parent.
    """
    prefix = ["setpriv", "--no-new-privs"]
    if as_root():
        prefix += [f"--reuid={SERVICE_USER}", f"--regid={SERVICE_USER}", "--init-groups", "--inh-caps=-all"]
    if death_signal:
        prefix += ["--pdeathsig", death_signal]
    return [*prefix, "--"]


def section(program: Program, logs: Path) -> str:
    """The program's part of the configuration; its environment stands here, where no other user can read it as in
    `ps`.
    """
    pairs = [f'{key}="{value}"' for key, value in sorted(program.environment.items())]
    group = str(program.whole_group).lower()
    lines = [
        f"[program:{program.name}]",
        f"command={shlex.join(map(str, program.argv)).replace('%', '%%')}",
        f"environment={','.join(pairs).replace('%', '%%')}",
        f"directory={program.directory}",
        "autostart=false",
        "autorestart=true",
        "startsecs=1",
        "startretries=30",
        f"stopsignal={program.stop_signal}",
        f"stopwaitsecs={program.stop_seconds}",
        f"stopasgroup={group}",
        f"killasgroup={group}",
        "redirect_stderr=true",
        f"stdout_logfile={logs / program.name}.log",
        "stdout_logfile_maxbytes=20MB",
        "stdout_logfile_backups=2",
    ]
    return "\n".join(lines) + "\n"


def configuration(where: Layout, programs: Sequence[Program]) -> str:
    """The whole file; its directory and its logs are the supervisor's own user's."""
    logs = where.logs
    head = [
        "[unix_http_server]",
        f"file={where.supervisor_socket}",
        "chmod=0600",
        "[supervisord]",
        f"logfile={logs / 'supervisor.log'}",
        "logfile_maxbytes=5MB",
        "logfile_backups=1",
        f"pidfile={where.run / 'supervisor.pid'}",
        f"childlogdir={logs}",
        "umask=077",
        "minfds=16384",
        *(["user=root"] if as_root() else []),
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]
    return "\n".join(head) + "\n" + "".join(section(program, logs) for program in programs)


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket; the host is the path."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=90)
        self._path = path


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        self._connection = (host, _Connection(self._path))  # where close() looks for it
        return self._connection[1]


class SupervisorGone(Exception):
    """The supervisor did not start or went away; the message says where its log is."""


class Supervisor:
    """The running supervisor of one stack, or none."""

    def __init__(self, where: Layout) -> None:
        self.where = where
        self._file = where.home / "supervisord.conf"

    def _ask(self, verb: str, *arguments: Any) -> Any:
        """One call, on a connection of its own."""
        transport = _Transport(str(self.where.supervisor_socket))
        with xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=transport) as proxy:
            return getattr(proxy.supervisor, verb)(*arguments)

    def alive(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self._ask("getState")["statecode"] == 1)
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False

    def ensure(self, programs: Sequence[Program]) -> None:
        """Start it when it is not there; make it know *programs* as they are now, stopping those whose definition
        changed.
        """
        self.where.logs.mkdir(mode=0o700, exist_ok=True)
        text = configuration(self.where, programs)
        changed = not self._file.exists() or self._file.read_text(encoding="utf-8") != text
        if changed:
            fresh = self._file.with_suffix(".new")
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
            fresh.replace(self._file)
        if not self.alive():
            self._launch()
        elif changed:
            self._reread()

    def _launch(self) -> None:
        command = [str(self.where.tool("supervisord")), "-c", str(self._file)]
        keep = {key: os.environ[key] for key in ("PATH", "LANG", "HOME") if key in os.environ}
        done = subprocess.run(
            command, cwd="/", env=keep, capture_output=True, text=True, check=False, start_new_session=True
        )
        deadline = time.monotonic() + 15
        while not self.alive():
            if done.returncode != 0 or time.monotonic() > deadline:
                raise SupervisorGone(f"supervisord did not start: {(done.stdout + done.stderr).strip()}")
            time.sleep(0.05)

    def _reread(self) -> None:
        added, changed, removed = self._ask("reloadConfig")[0]
        for name in (*changed, *removed):
            self._quietly("stopProcessGroup", name)
            self._quietly("removeProcessGroup", name)
        for name in (*added, *changed):
            self._ask("addProcessGroup", name)

    def _quietly(self, verb: str, *arguments: Any) -> None:
        """Ask for something that may already be so."""
        try:
            self._ask(verb, *arguments)
        except xmlrpc.client.Fault as fault:
            if (
                "NOT_RUNNING" not in fault.faultString
                and "ALREADY_STARTED" not in fault.faultString
                and "BAD_NAME" not in fault.faultString
            ):
                raise

    def states(self) -> dict[str, dict[str, Any]]:
        """What it says of each program by name; empty when it is not there."""
        if not self.alive():
            return {}
        return {one["name"]: one for one in self._ask("getAllProcessInfo")}

    def start(self, name: str) -> None:
        """Start a program and return at once; one that runs already is left alone."""
        self._quietly("startProcess", name, False)

    def stop(self, name: str) -> None:
        """Stop a program and wait for its end."""
        self._quietly("stopProcess", name, True)

    def shutdown(self) -> None:
        """End the supervisor itself and wait until its process is gone."""
        pid = int(self._ask("getPID"))
        self._ask("shutdown")
        deadline = time.monotonic() + 90
        while Path(f"/proc/{pid}").exists():
            if time.monotonic() > deadline:
                raise SupervisorGone(f"supervisord (process {pid}) does not end")
            time.sleep(0.05)
