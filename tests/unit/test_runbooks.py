"""Runbooks: what they tell a person to type exists."""

import re
import shlex
from pathlib import Path

import click
import pytest

from holdfast.cli import main

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = sorted((ROOT / "deploy" / "runbooks").glob("*.md"))
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(holdfast [^`]*|make [^`]*)`")


def commands(text: str) -> list[str]:
    """Every line of a shell block and every command in a sentence, without comments."""
    lines = [line for block in _BLOCK.findall(text) for line in block.splitlines()]
    return [line.partition(" #")[0].strip() for line in [*lines, *_INLINE.findall(text)]]


def unknown(command: str) -> str:
    """What of a `holdfast …` command there is not, "" for nothing."""
    at: click.Command = main
    words = shlex.split(command)[1:]
    while isinstance(at, click.Group) and words:
        name = words.pop(0)
        if name not in at.commands:
            return name
        at = at.commands[name]
    known = {option for one in at.params for option in one.opts}
    return next((word for word in words if word.startswith("--") and word.partition("=")[0] not in known), "")


def test_there_are_runbooks() -> None:
    assert [path.name for path in RUNBOOKS]


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_every_command_of_a_runbook_exists_with_its_options(path: Path) -> None:
    found = commands(path.read_text(encoding="utf-8"))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert found
    assert [line for line in found if line.startswith("holdfast ") and unknown(line)] == []
    assert [line for line in found if line.startswith("make ") and line.split()[1] not in targets] == []


def test_a_command_that_does_not_exist_is_found() -> None:
    """The control."""
    text = "```sh\nholdfast escrow shut\nholdfast escrow close --hard\n```\nthen `holdfast escrow close`\n"
    assert [unknown(line) for line in commands(text)] == ["shut", "--hard", ""]
