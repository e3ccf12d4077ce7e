"""P5: gRPC unary through the full chain with a verified token, beside a bare grpc.aio echo; token verify alone."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from statistics import median

import grpc
import jwt

from holdfast.auth.v1 import auth_service_pb2 as pb
from holdfast.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from holdfast.usertoken import Verifier
from libs.clock import now
from tests.bench.row import Row, alternating, judged
from tests.support import tokens

ID = "P5"
METHOD = "/holdfast.auth.v1.AuthService/GetMe"
CLIENT_CORE = "1"
CALLS = 8000
VERIFIES = 2000


@contextmanager
def serving(which: str) -> Iterator[int]:
    """A server of tests.bench.echo_server on a core of its own; its port."""
    command = [sys.executable, "-m", "tests.bench.echo_server", which]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.stdin.close()


def rate(port: int) -> float:
    """Calls a second that h2load gets answered. Each answer is a 200 by HTTP, so one real call is asserted first."""
    token = tokens.user_token("auth")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = AuthServiceStub(channel).GetMe(pb.GetMeRequest(), metadata=(("x-user-token", token),), timeout=10)
        assert answer.user.display_name == "Ada"
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\0\0\0\0\0")
        body.flush()
        command = ["taskset", "-c", CLIENT_CORE, "h2load", "-n", str(CALLS), "-c", "8", "-m", "4", "-d", body.name]
        for header in ("content-type: application/grpc", "te: trailers", f"x-user-token: {token}"):
            command += ["-H", header]
        shown = subprocess.run(
            [*command, f"http://127.0.0.1:{port}{METHOD}"], check=True, capture_output=True, text=True, timeout=120
        ).stdout
    assert f"{CALLS} succeeded, 0 failed" in shown, shown
    found = re.search(r"finished in [^,]+, ([\d.]+) req/s", shown)
    assert found is not None, shown
    return float(found[1])


def each_us(deed: Callable[[str], object], tokens_: list[str]) -> float:
    """Microseconds one *deed* takes, over all the tokens."""
    began = time.perf_counter()
    for token in tokens_:
        deed(token)
    return (time.perf_counter() - began) / len(tokens_) * 1e6


def verifying(rounds: int) -> Iterator[Row]:
    """Token verify, warm and cold, beside PyJWT on the same tokens."""
    keys = tokens.keys("auth")
    clock = now()

    def fresh() -> list[str]:
        return [tokens.user_token("auth") for _ in range(VERIFIES)]

    def warm() -> float:
        verifier, token = Verifier("auth", lambda: keys), tokens.user_token("auth")
        verifier.verify(token, clock)
        return each_us(lambda each: verifier.verify(each, clock), [token] * VERIFIES)

    def cold() -> float:
        verifier = Verifier("auth", lambda: keys)
        return each_us(lambda each: verifier.verify(each, clock), fresh())

    def peer() -> float:
        secret = keys.current.secret
        return each_us(lambda each: jwt.decode(each, secret, algorithms=["HS256"], audience="auth"), fresh())

    warms, colds, theirs = alternating(rounds, warm, cold, peer)
    beside = f"a limit; PyJWT {version('pyjwt')} takes {median(theirs):.1f} µs"
    yield judged("≤ 15", id_=ID, metric="token verify, warm", unit="µs", ours=warms, beside=beside)
    yield judged("≤ 60", id_=ID, metric="token verify, cold", unit="µs", ours=colds, beside=beside)


def run(rounds: int) -> Iterator[Row]:
    """Every figure of P5."""
    with serving("bare") as bare, serving("chain") as chain:
        rate(bare), rate(chain)  # warm both up
        ours, theirs = alternating(rounds, lambda: rate(chain), lambda: rate(bare))
    yield judged(
        "≥ 0.65",
        id_=ID,
        metric="unary, full chain",
        unit="calls/s",
        ours=ours,
        beside=f"bare grpc.aio {version('grpcio')}",
        theirs=theirs,
        conditions=f"h2load 8 connections × 4 streams, {CALLS} calls, server and load on a core each",
    )
    yield from verifying(rounds)
