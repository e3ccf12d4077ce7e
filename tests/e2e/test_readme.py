"""The README's examples, run as they stand there but for the addresses of the test's own stack."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from holdfast.usertoken.keys import write_keys
from tests.support import tokens
from tests.support.seaweed import free_ports
from tests.support.stack import Stack

ROOT = Path(__file__).resolve().parents[2]


def example(name: str) -> str:
    """The code behind the mark of this name."""
    found = re.search(rf"<!-- example:{name} -->\n```\w+\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None, f"README.md has no example {name}"
    return found[1]


def at(stack: Stack, code: str) -> str:
    """*code* for the test's stack instead of the usual one."""
    programs = stack.layout.python.parent
    return (
        code.replace("https://127.0.0.1:8443", stack.edge_url)
        .replace("$PWD/.holdfast/venv/bin", str(programs))
        .replace(".holdfast/ca.pem", str(stack.ca_file))
    )


def seeing() -> dict[str, str]:
    """An environment in which this checkout's client is installed."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "libs/client/src")}


@pytest.fixture(scope="module")
def environment(stack: Stack) -> dict[str, str]:
    """What a shell beside the stack has."""
    return {**seeing(), "HOLDFAST_STACK": str(stack.layout.stack_json)}


@pytest.fixture(scope="module")
def curl(stack: Stack, environment: dict[str, str]) -> str:
    """What the curl example prints, its endless last line cut after a while."""
    code = at(stack, example("curl")).replace("curl -sSN", "curl -sSN --max-time 10")
    done = subprocess.run(
        ["bash", "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 28, done.stdout + done.stderr  # curl's own code for a stream cut by --max-time
    return done.stdout


@pytest.mark.stack
def test_the_curl_example_stores_reads_and_follows(curl: str) -> None:
    assert '"path":"notes/hello.txt"' in curl.replace(": ", ":")
    assert "MIT License" in curl
    assert "event: file.created" in curl


@pytest.mark.stack
def test_the_client_example_uploads_and_sees_an_event(stack: Stack, curl: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", at(stack, example("client"))],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "b'hello'" in done.stdout
    assert "file.created" in done.stdout


def test_the_protect_example_lets_nobody_in_without_a_token(tmp_path: Path) -> None:
    (tmp_path / "user_token_keys").write_bytes(write_keys(tokens.keys("billing")))
    [port] = free_ports(1)
    code = example("protect").replace("50051", str(port))
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=seeing()) as service:
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                grpc.channel_ready_future(channel).result(timeout=30)
                alive = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
                assert alive.status == health_pb2.HealthCheckResponse.SERVING
                anything = channel.unary_unary("/billing.v1.BillingService/GetInvoice", bytes, bytes)
                token = (("x-user-token", tokens.user_token("billing")),)
                for metadata, code_ in ((), grpc.StatusCode.UNAUTHENTICATED), (token, grpc.StatusCode.UNIMPLEMENTED):
                    with pytest.raises(grpc.RpcError) as refused:
                        anything(b"", metadata=metadata, timeout=10)
                    assert refused.value.code() == code_
        finally:
            service.terminate()


@pytest.mark.stack
def test_the_sample_of_make_up_shows_the_steps_checks_and_parts_that_it_prints(stack: Stack) -> None:
    done = stack.command("up", FORMAT="json")
    assert done.returncode == 0, done.stdout + done.stderr
    printed = [step["name"] for step in json.loads(done.stdout)["steps"]]
    sample = (ROOT / "README.md").read_text().partition("$ make up\n")[2].partition("```")[0]
    shown = re.findall(r"^  (\S.*?) +ok +[\d.]+ s", sample, re.MULTILINE)
    installed = shown.index(printed[0])
    assert shown[installed:] == printed
    assert "canary" in printed
    # The shared stack may have deletes to look at, and a mark of tenants; a fresh one has none.
    assert checks(sample) == checks(done.stderr) - {"deletes_lag", "high_water"}
    parts = re.findall(r"^  (\w+) +\S", sample.partition("part        address\n")[2].partition("\n\n")[0], re.MULTILINE)
    assert parts == [part.name for part in stack.parts.all()] + ["prometheus"]  # tests run without it


def checks(text: str) -> set[str]:
    """Names of the checks of the tour's drill."""
    told = re.search(r"RTO [\d.]+ s; (.*)", text)
    assert told is not None, text
    return {one.split()[0] for one in told[1].split(", ")}
