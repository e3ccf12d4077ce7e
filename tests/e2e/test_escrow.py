"""The escrow of a whole stack on an S3 repository: exported, verified, opened, and told by every report."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.stack.supervise import drop_prefix
from holdfast.escrow import contents
from tests.support.escrow import operator
from tests.support.stack import Stack


def holdfast(stack: Stack, *words: object) -> "subprocess.CompletedProcess[str]":
    """The command as installed, for the stack."""
    command = [stack.document["cli"], "--stack", str(stack.layout.stack_json), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd="/")


def answer(stack: Stack, *words: object, code: int = 0) -> dict[str, Any]:
    done = holdfast(stack, *words, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def report(stack: Stack, verb: str) -> dict[str, Any]:
    return dict(json.loads(stack.command(verb, FORMAT="json").stdout))


def finding(stack: Stack) -> dict[str, str]:
    findings = report(stack, "doctor")["findings"]
    return next(dict(one) for one in findings if one["check"] == "escrow")


@pytest.mark.stack
@pytest.mark.control("B7", "a stale escrow is told, without a secret")
def test_a_stack_says_that_it_has_no_escrow_until_there_is_one_that_opens_its_repository(
    stack: Stack, tmp_path: Path
) -> None:
    warned = " ".join(map(str, answer(stack, "recovery", "status", code=1)["warnings"]))
    assert "There is no escrow of the root keys" in warned
    assert finding(stack)["verdict"] == "warning"
    key, certificate = operator(tmp_path, "ada")
    file = tmp_path / "escrow.txt"
    answer(stack, "escrow", "export", "--recipient", certificate, "--output", file)
    told = answer(stack, "escrow", "verify", file, "--key", key)
    assert (told["ok"], told["newest"]) == (True, True)
    assert finding(stack)["verdict"] == "ok"
    assert report(stack, "status")["escrow"] == answer(stack, "escrow", "status")

    opened = answer(stack, "escrow", "open", file, "--key", key, "--for-drills")["directory"]
    engine = ["pgbackrest", f"--config={opened}/pgbackrest.conf", "--stanza=holdfast"]
    said = subprocess.run(
        [*drop_prefix(), *engine, "info", "--output=json"], capture_output=True, text=True, check=True, cwd="/"
    )
    assert json.loads(said.stdout)[0]["status"]["code"] in (0, 2)
    identities = stack.parts.vault.identities()
    text = Path(str(opened), contents.REPOSITORY).read_text(encoding="utf-8")
    assert identities["backups-read"].secret_key in text
    assert [name for name, pair in identities.items() if pair.secret_key in text] == ["backups-read"]
    assert answer(stack, "escrow", "close")["removed"] is True
