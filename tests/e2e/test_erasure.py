"""`make erase` on a whole stack: one user's files end, the neighbour's do not."""

import json
import ssl
from typing import Any

import httpx
import pytest

from tests.support.backup import wait_until
from tests.support.stack import Person, Stack


def fetched(stack: Stack, person: Person, path: str) -> tuple[int, bytes]:
    answer = httpx.get(
        f"{stack.edge_url}/v1/files/{path}", headers={"authorization": f"Bearer {person.token}"},
        verify=ssl.create_default_context(cafile=stack.layout.ca_file), timeout=30,
    )  # fmt: skip
    return answer.status_code, answer.content


def erased(stack: Stack, name: str) -> tuple[int, dict[str, Any]]:
    done = stack.command("erase", FORMAT="json", NAME=name)
    return done.returncode, dict(json.loads(done.stdout))


@pytest.mark.stack
@pytest.mark.control("F4", "deleting a user's key makes every file of the user unreadable, and no new key is made")
def test_an_operator_ends_what_one_users_files_say(stack: Stack) -> None:
    ada, zoe = stack.person(), stack.person()
    for person in (ada, zoe):
        person.edge.put("notes.txt", b"of somebody", "text/plain")
        assert fetched(stack, person, "notes.txt") == (200, b"of somebody")
    nobody = ada.user[:-1] + ("1" if ada.user.endswith("0") else "0")
    for name in ("", "ada", nobody):
        code, told = erased(stack, name)
        assert (code, "erased" in told) == (1, False), told
    assert fetched(stack, ada, "notes.txt") == (200, b"of somebody")
    code, told = erased(stack, ada.user)
    assert (code, told["erased"]) == (
        0, f"erased: no file of {ada.user} can be read any more, from here or from any backup",
    )  # fmt: skip
    # The running service may remember the key for a minute; one that starts now does not.
    stack.supervisor.stop("files")
    stack.supervisor.start("files")
    wait_until(lambda: fetched(stack, zoe, "notes.txt")[0] != 503, "files behind the edge")
    assert fetched(stack, ada, "notes.txt")[0] == 410
    assert fetched(stack, zoe, "notes.txt") == (200, b"of somebody")
