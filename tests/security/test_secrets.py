"""Who holds which secret in a running stack."""

from pathlib import Path

import pytest

from deploy.stack.layout import SERVICES
from tests.support.stack import Stack


def holds(stack: Stack, service: str, secret: bytes) -> bool:
    """Whether a serving process has *secret* in its environment, on its command line or in its mount."""
    process = Path("/proc") / str(stack.document["pids"][service])
    texts = [(process / "environ").read_bytes(), (process / "cmdline").read_bytes()]
    return any(secret in text for text in texts + [file.read_bytes() for file in mount(stack, service).iterdir()])


def mount(stack: Stack, service: str) -> Path:
    """The folder of a service's secrets."""
    return stack.layout.secrets / service


@pytest.mark.stack
@pytest.mark.control("T5", "no serving process holds the owner's secret")
@pytest.mark.parametrize("service", SERVICES)
def test_no_serving_process_holds_the_owners_secret(stack: Stack, service: str) -> None:
    owner = (mount(stack, "stack") / "owner_password").read_bytes().strip()
    own = (mount(stack, service) / "database_password").read_bytes().strip()
    assert len(owner) >= 32
    assert holds(stack, service, own)
    assert not holds(stack, service, owner)


@pytest.mark.stack
@pytest.mark.parametrize("service", SERVICES)
def test_no_secret_of_the_stack_stands_in_an_environment_or_on_a_command_line(stack: Stack, service: str) -> None:
    process = Path("/proc") / str(stack.document["pids"][service])
    shown = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
    assert b"HOLDFAST_SECRETS_DIR" in shown
    every = [file for folder in stack.layout.secrets.iterdir() for file in folder.iterdir()]
    assert len(every) > len(SERVICES)
    assert [file.name for file in every if file.read_bytes().strip() in shown] == []
