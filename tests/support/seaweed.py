"""A real SeaweedFS of the tests' own, started once for the session, which a test can kill and start again."""

import os
import secrets
import signal
import socket
import string
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from deploy.stack.seaweed import IDENTITIES, REGION, Identity, Ports, Seaweed
from tests.support import certificate
from tests.support.scratch import scratch
from tests.support.tools import tool

START_SECONDS = 60.0


def _access_key() -> str:
    """Twenty letters and digits: of hexadecimal digits alone one in 1,800 lacks the variety that services ask for."""
    return "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(20))


def free_ports(count: int) -> list[int]:
    """*count* different ports of 127.0.0.1 that nobody held a moment ago."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


class SeaweedServer:
    """The process of one Seaweed; `seaweed` has its endpoint, CA file and identities."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700, exist_ok=True)
        files = certificate.make(root)
        self._root = root
        self._process: subprocess.Popen[bytes] | None = None
        self.seaweed = Seaweed(
            weed=tool("weed"),
            data_dir=root / "data",
            run_dir=root / "run",
            ports=Ports(*free_ports(Ports.count())),
            cert_file=files.cert_file,
            key_file=files.key_file,
            ca_file=files.ca_file,
            identities={name: Identity(_access_key(), secrets.token_hex(20)) for name in IDENTITIES},
            inner_key=secrets.token_hex(32),
        )

    def start(self) -> None:
        """Start it and return when S3 answers and the buckets are there."""
        self.seaweed.prepare()
        with (self._root / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.seaweed.argv()],
                env={"PATH": os.environ["PATH"], **self.seaweed.env()},
                cwd=self._root / "data",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait(self._process, self.seaweed.healthy)
        self.seaweed.create_buckets()
        self._wait(self._process, self.seaweed.ready)

    def kill(self) -> None:
        """End it at once, as a crash would; its data stay."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
        self._remove_sockets()

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Stopped meanwhile: it takes connections and answers nothing. Afterwards it is ready again."""
        process = self._process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)
            self._wait(process, self.seaweed.ready)

    def client(self, identity: str) -> Any:
        """A boto3 S3 client with the key pair of *identity*, for looking at what a service left."""
        pair = self.seaweed.identities[identity]
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.seaweed.endpoint,
            region_name=REGION,
            aws_access_key_id=pair.access_key,
            aws_secret_access_key=pair.secret_key,
            verify=str(self.seaweed.ca_file),
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def _wait(self, process: subprocess.Popen[bytes], probe: Callable[[], str]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while fault := probe():
            try:
                code = process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                code = None
            if code is not None or time.monotonic() > deadline:
                tail = (self._root / "weed.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"SeaweedFS did not start (exit code {code}): {fault}\n{tail}")

    def _remove_sockets(self) -> None:
        # SeaweedFS puts one socket per inner gRPC port into /tmp whatever TMPDIR says, and a killed one leaves them.
        ports = self.seaweed.ports
        for part, port in (
            ("master", ports.master_grpc),
            ("volume", ports.volume_grpc),
            ("filer", ports.filer_grpc),
            ("s3", ports.s3_grpc),
        ):
            Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)


@contextmanager
def serving() -> Iterator[SeaweedServer]:
    """A store with its empty buckets, an authority and keys of its own."""
    with scratch("weed") as root:
        server = SeaweedServer(root)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@pytest.fixture(scope="session")
def seaweed() -> Iterator[SeaweedServer]:
    """The session's object store. A test that kills it starts it again."""
    with serving() as server:
        yield server
