"""What is done to a stack on one machine: run twice, broken off, killed in part and in whole, its ports taken, taken
down, destroyed.
"""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.stack import inventory
from deploy.stack.edge import Edge
from tests.support.stack import MakeStack, Stack

pytestmark = pytest.mark.stack
DEADLINE_SECONDS = 60.0
STEPS = ("secrets", "supervisor", "Postgres", "roles")


@pytest.fixture(scope="module")
def rough(make_stack: MakeStack) -> Stack:
    """A stack that may be mistreated; each test leaves it up."""
    made = make_stack()
    made.up()
    return made


def until(condition: Callable[[], bool], what: str) -> None:
    """Return once *condition* holds; fails naming *what* after a minute."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.05)


def well(stack: Stack) -> bool:
    """Whether every part says so."""
    return all(part.fault() == "" for part in stack.parts.all())


def status(stack: Stack) -> dict[str, object]:
    """`make status FORMAT=json`."""
    done = stack.command("status", FORMAT="json")
    return dict(json.loads(done.stdout))


def test_a_second_up_changes_nothing(rough: Stack) -> None:
    before, written = rough.document, rough.layout.stack_json.stat().st_mtime_ns
    rough.up()
    assert rough.document == before
    assert rough.layout.stack_json.stat().st_mtime_ns == written


def test_stack_json_has_the_documented_schema(rough: Stack) -> None:
    document = rough.document
    assert set(document) == {
        "version", "revision", "name", "edge_url", "ca_file", "state_dir", "run_dir", "services", "postgres", "s3",
        "mail_dir", "operator_socket", "evidence_key_file", "cli", "pids",
    }  # fmt: skip
    assert document["version"] == 1
    assert set(document["services"]) == {"auth", "files", "events", "backup"}
    assert all(set(service) == {"grpc", "http", "metrics"} for service in document["services"].values())
    assert set(document["postgres"]) == {"socket_dir", "port", "database"}
    assert set(document["s3"]) == {"endpoint", "ca_file"}
    assert Path(document["cli"]).exists()
    assert all(Path(f"/proc/{pid}").exists() for pid in document["pids"].values())


@pytest.mark.parametrize("part", ["mail", "edge", "files", "store", "postgres"])
def test_a_killed_part_comes_back(rough: Stack, part: str) -> None:
    pid = rough.supervisor.states()[part]["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: rough.supervisor.states()[part]["pid"] not in (0, pid), f"a new {part}")
    until(lambda: well(rough), "everything well")


@pytest.mark.control("O7", "only the edge listens beyond this machine")
def test_every_listener_is_private_and_a_public_one_is_noticed(rough: Stack) -> None:
    pids = {name: told["pid"] for name, told in rough.supervisor.states().items() if told["pid"]}
    found = inventory.listeners(pids)
    assert {one.part for one in found} == {"store", "mail", "edge", "auth", "files", "events", "backup"}
    assert [one for one in found if not one.private] == []
    with socket.create_server(("0.0.0.0", 0)) as public:
        mine = inventory.listeners({"test": os.getpid()})
        assert [one.port for one in mine if not one.private] == [public.getsockname()[1]]


def test_doctor_finds_nothing_and_then_an_open_secret(rough: Stack) -> None:
    done = rough.command("doctor", FORMAT="json")
    answer = json.loads(done.stdout)
    assert [one for one in answer["findings"] if one["verdict"] == "fault"] == []
    assert {"listeners", "clock", "secret modes", "self-check auth", "archive", "edge TLS"} <= {
        one["check"] for one in answer["findings"]
    }
    secret = rough.layout.secrets / "files" / "page_key"
    secret.chmod(0o644)
    try:
        done = rough.command("doctor", FORMAT="json")
    finally:
        secret.chmod(0o600)
    faults = [one["check"] for one in json.loads(done.stdout)["findings"] if one["verdict"] == "fault"]
    assert (done.returncode, faults) == (1, ["secret modes", "self-check files"])


@pytest.mark.control("B1", "the repository is off-site and doctor flags one that is not")
def test_doctor_warns_that_the_repository_of_a_stack_on_one_machine_is_not_off_site(rough: Stack) -> None:
    done = rough.command("doctor", FORMAT="json")
    [told] = [one for one in json.loads(done.stdout)["findings"] if one["check"] == "repository"]
    assert (done.returncode, told["verdict"]) == (0, "warning")
    assert "backups lie at localhost and files at 127.0.0.1, the same endpoint" in told["detail"]
    assert "S3 store at another site" in told["detail"]
    shown = rough.command("doctor").stdout
    assert "warning  repository" in shown


def test_status_ends_with_what_can_be_restored(rough: Stack) -> None:
    lines = rough.command("status").stdout.splitlines()
    assert [line.split(":")[0] for line in lines[-5:]] == [
        "last drill",
        "live RPO",
        "RTO now",
        "not restorable",
        "escrow",
    ]
    answer = status(rough)
    assert answer["ok"] is True
    assert len(str(answer["parts"])) > 0


def test_what_was_stored_is_there_after_down_and_up(rough: Stack) -> None:
    person = rough.person()
    person.edge.put("kept.txt", b"kept", "text/plain")
    pids = inventory.family(rough.document["pids"].values())
    done = rough.command("down")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert not rough.layout.stack_json.exists()
    assert rough.command("status").returncode == 1
    rough.up()
    assert Edge(rough.edge_url, str(rough.ca_file), person.token).get("kept.txt") == b"kept"


def test_a_killed_supervisor_leaves_no_orphan_and_up_brings_all_back(rough: Stack) -> None:
    pids = rough.document["pids"]
    supervisor = int((rough.layout.run / "supervisor.pid").read_text())
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in pids.values()), "the end of every part")
    rough.up()
    assert well(rough)


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


@pytest.mark.parametrize("after", STEPS)
def test_an_up_that_is_broken_off_is_taken_up_again(rough: Stack, after: str) -> None:
    rough.command("down")
    # A shell in the background leaves SIGINT ignored to everything below it.
    command = ["env", "--default-signal=INT", str(rough.layout.python), "-m", "deploy.stack", "up", "--no-tour"]
    process = subprocess.Popen(
        command, env={**rough.environment, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().startswith(after):
            process.send_signal(signal.SIGINT)
            break
    process.stdout.read()
    process.stdout.close()
    assert process.wait(DEADLINE_SECONDS) in (130, -signal.SIGINT)  # a shell calls both 130
    rough.up()
    assert well(rough)


def test_a_taken_port_is_refused_and_its_holder_named(rough: Stack) -> None:
    port = rough.parts.ports["edge"]
    rough.command("down")
    with socket.create_server(("127.0.0.1", port)):
        done = rough.command("up", "--no-tour")
    assert done.returncode == 1
    assert f"port {port} (edge) is held by process {os.getpid()}" in done.stdout + done.stderr
    rough.up()
    assert rough.parts.ports["edge"] == port


def test_clean_asks_for_the_name(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.command("clean")
    (stack.layout.home / "keep").mkdir()
    stack.layout.state.mkdir()
    refused = stack.command("clean", NAME="another")
    assert (refused.returncode, stack.layout.state.exists()) == (1, True)
    assert stack.name in refused.stdout
    (stack.layout.home / "keep").rmdir()
    assert (stack.command("clean").returncode, stack.layout.state.exists()) == (0, False)


def test_a_wrong_setting_is_refused_by_name(make_stack: MakeStack) -> None:
    stack = make_stack()
    (stack.layout.home / "settings.json").write_text('{"allowed_origins": ["https://*.example"], "colour": 1}')
    done = stack.command("up", "--no-tour")
    assert done.returncode == 1
    assert "colour: no such setting" in done.stdout + done.stderr
    assert "https://*.example is no exact origin" in done.stdout + done.stderr
    assert not stack.layout.state.exists()
