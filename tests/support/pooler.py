"""A real PgBouncer in transaction mode in front of the test cluster: many clients share few sessions."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psycopg

from tests.support.postgres import Login, TestDatabase
from tests.support.waiting import until

PORT = 6432
SESSIONS = 3


@asynccontextmanager
async def pooled(database: TestDatabase, service: str) -> AsyncIterator[Login]:
    """*service*'s login by way of the pooler."""
    login = database.login(service)
    directory = Path(tempfile.mkdtemp(prefix="hfb-", dir="/tmp"))
    server = _start(directory, login)
    found = replace(login, database_host=str(directory), database_port=PORT)
    try:
        await until(lambda: _answers(found), "the pooler's start")
        yield found
    finally:
        server.terminate()
        server.wait(10)
        shutil.rmtree(directory)


def _start(directory: Path, login: Login) -> "subprocess.Popen[bytes]":
    _write(directory, login)
    command = [_program(), "--quiet", str(directory / "pgbouncer.ini")]
    if os.geteuid() != 0:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    owner = pwd.getpwnam("holdfast")
    for path in (directory, *directory.iterdir()):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user="holdfast",
        group="holdfast",
        extra_groups=(),
    )


def _program() -> str:
    # Debian puts it where only root looks.
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise FileNotFoundError("pgbouncer is not installed: sh deploy/stack/packages.sh dev brings it")
    return found


def _write(directory: Path, login: Login) -> None:
    secret = login.database_password.reveal().decode()
    (directory / "users.txt").write_text(f'"{login.database_user}" "{secret}"\n')
    (directory / "pgbouncer.ini").write_text(
        f"""
[databases]
* = host={login.database_host} port={login.database_port}
[pgbouncer]
listen_addr =
listen_port = {PORT}
unix_socket_dir = {directory}
auth_type = plain
auth_file = {directory}/users.txt
logfile = {directory}/pgbouncer.log
pool_mode = transaction
default_pool_size = {SESSIONS}
"""
    )


def _answers(login: Login) -> bool:
    try:
        psycopg.connect(
            host=login.database_host, port=login.database_port, user=login.database_user,
            password=login.database_password.reveal().decode(), dbname=login.database_name,
        ).close()  # fmt: skip
    except psycopg.OperationalError:
        return False
    return True
