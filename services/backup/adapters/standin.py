"""The real services, started on a copy: outside its namespaces, on its socket, with sockets of their own beside it.

They read the secrets of this installation's services, but of the object store they get the identities that may only
read. They listen on no TCP port, send no mail, and the queue's guard holds their workers, for the copy is on another
timeline. Each names the drill's directory on its command line, so that the reaper finds what a crash left.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.backup.adapters import command
from services.backup.adapters.copy import PORT
from services.backup.adapters.objects import Store
from services.backup.adapters.place import Place
from services.backup.domain.errors import EngineFailed

SERVICES = ("auth", "files", "events")
_POLL_SECONDS = 0.1
_ASK_SECONDS = 2.0
_GONE_SECONDS = 5.0
_LOG_BYTES = 4096
_STORE_SECRETS = ("s3_access_key", "s3_secret_key", "s3_keys_access_key", "s3_keys_secret_key")
_PROGRAM = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True, slots=True)
class Troupe:
    """secrets: one directory for each service. store: with the reading identity. seconds: to be well in."""

    secrets: Path
    store: Store
    database: str
    seconds: float


class StandIn:
    """One service on one copy: `start`, `serving`, and `stop` in every case."""

    def __init__(self, name: str, troupe: Troupe, place: Place) -> None:
        self.name = name
        self._troupe = troupe
        self._place = place
        self._log = place.work / f"{name}.log"
        self._secrets_dir = place.sockets / f"{name}.secrets"
        self._child: asyncio.subprocess.Process | None = None

    def socket(self, kind: str) -> Path:
        """Where it serves *kind*: grpc or http."""
        return self._place.sockets / f"{self.name}.{kind}.sock"

    async def start(self) -> None:
        """Start it; it is not well yet. Raises EngineFailed when its secrets are not there."""
        secrets = self._secrets()
        with self._log.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                "setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-X", f"drill={self._place.sockets}",
                "-m", f"services.{self.name}", "serve",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**command.PATH, **_PROGRAM, **self._environment(secrets)},
                cwd="/",
                start_new_session=True,
            )  # fmt: skip

    async def serving(self) -> None:
        """Return once it says that it serves. Raises EngineFailed, with the log's end, if it does not in time."""
        try:
            async with asyncio.timeout(self._troupe.seconds):
                while not await self._well():
                    if self._child is None or self._child.returncode is not None:
                        raise self.failed("ended")
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise self.failed(f"did not serve within {self._troupe.seconds:g} s") from None

    def failed(self, how: str) -> EngineFailed:
        """The error that says how it failed, and the last words of its log."""
        return EngineFailed(f"{self.name} {how}: {self.last_words()}", command="smoke")

    def last_words(self) -> str:
        """The end of its log on one line."""
        if not self._log.exists():
            return "it said nothing"
        with self._log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_BYTES))
            return " ".join(file.read().decode(errors="replace").split())[-400:] or "it said nothing"

    async def stop(self) -> None:
        """End it and all it started. Raises EngineFailed if something of it is still there."""
        if self._child is None:
            return
        if self._child.returncode is None:
            await command.end(self._child)
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        shutil.rmtree(self._secrets_dir, ignore_errors=True)
        deadline = asyncio.get_running_loop().time() + _GONE_SECONDS
        while self._lives():
            if asyncio.get_running_loop().time() > deadline:
                raise self.failed("could not be ended")
            await asyncio.sleep(_POLL_SECONDS)

    def _lives(self) -> bool:
        if self._child is None:
            return False
        try:
            os.killpg(self._child.pid, 0)
        except ProcessLookupError:
            return False
        return True

    async def _well(self) -> bool:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"unix:{self.socket('grpc')}", options=options) as channel:
            try:
                stub = health_pb2_grpc.HealthStub(channel)
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_ASK_SECONDS)
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def _secrets(self) -> Path:
        """Its directory of secrets: the installation's own, but with the store's reading identities in place of its."""
        theirs, ours = self._troupe.secrets / self.name, self._secrets_dir
        ours.mkdir(mode=0o700)
        try:
            names = [path.name for path in theirs.iterdir() if path.name not in _STORE_SECRETS]
        except OSError as fault:
            raise EngineFailed(f"The secrets of {self.name} cannot be read: {fault}", command="smoke") from None
        for name in names:
            (ours / name).symlink_to(theirs / name)
        if self.name == "files":
            store = self._troupe.store
            pairs = (store.access_key, store.secret_key, store.keys_access_key, store.keys_secret_key)
            for name, value in zip(_STORE_SECRETS, pairs, strict=True):
                path = ours / name
                path.touch(mode=0o600)
                path.write_bytes(value.reveal())
        return ours

    def _environment(self, secrets: Path) -> Mapping[str, str]:
        place, store = self._place, self._troupe.store
        told = {
            "environment": "production",
            "run_dir": str(place.sockets),
            "grpc_address": f"unix:{self.socket('grpc')}",
            "database_host": str(place.sockets),
            "database_port": PORT,
            "database_name": self._troupe.database,
            "database_user": f"holdfast_{self.name}",
            "database_tls": "off",
            "secrets_dir": str(secrets),
            "edge_notice_seconds": "0",
            "drain_seconds": "1",
        }
        alone = {
            # Port 9 is where nobody listens: no mail leaves, whatever asks for one.
            "auth": {
                "http_address": f"unix:{self.socket('http')}",
                "smtp_host": "127.0.0.1",
                "smtp_port": "9",
                "smtp_tls": "off",
            },
            "files": {
                "s3_endpoint": store.endpoint,
                "s3_region": store.region,
                "s3_bucket": store.bucket,
                "s3_ca_file": store.ca_file,
                "s3_keys_bucket": store.keys_bucket,
            },
            "events": {"auth_address": f"unix:{place.sockets / 'auth.grpc.sock'}"},
        }
        return {f"HOLDFAST_{name.upper()}": value for name, value in (told | alone[self.name]).items()}
