"""What somebody is told whose command does not reach the operator socket."""

import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from holdfast.cli import OPTIONAL, main, operator

# gRPC's words, as it says them for a socket in a directory of somebody else.
DENIED = "failed to connect to all addresses; last error: FAILED_PRECONDITION: unix:/o.sock: Permission denied"


def test_a_socket_that_is_not_there_or_deaf_is_told_with_what_to_look_at(tmp_path: Path) -> None:
    deaf = tmp_path / "deaf.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(deaf))
        for path in (tmp_path / "nothing.sock", deaf):
            done = CliRunner().invoke(main, ["drill", "list", "--socket", str(path)])
            assert done.exit_code == 4
            assert f"does not answer on {path}: see whether it runs (make status" in done.stderr


def test_who_may_not_open_the_socket_is_told_so_and_not_to_try_again() -> None:
    told = operator._away(DENIED, "/o.sock")
    assert isinstance(told, click.ClickException)
    assert (told.exit_code, told.message.startswith("You may not open /o.sock: run this as root")) == (3, True)
    assert operator._away("Stream removed (Socket closed)", "/o.sock").exit_code == 4


@pytest.mark.parametrize("hours", ["nan", "-nan", "inf", "-inf", "1e400", "0"])
def test_hours_that_are_no_number_are_wrong_usage(tmp_path: Path, hours: str) -> None:
    history = ["recovery", "history", "--socket", str(tmp_path / "nobody.sock")]
    assert CliRunner().invoke(main, [*history, "--hours", "840"]).exit_code == 4  # it would have asked
    refused = CliRunner().invoke(main, [*history, "--hours", hours])
    assert refused.exit_code == 2
    assert "Invalid value for '--hours'" in refused.stderr


def asking(group: str, verb: str, command: click.Command) -> Iterator[list[str]]:
    """*command* with a word that is not UTF-8 in each place in turn that takes text."""
    arguments = [one for one in command.params if isinstance(one, click.Argument) and one.required]
    given = [one.type.choices[0] if isinstance(one.type, click.Choice) else "x" for one in arguments]
    for number, one in enumerate(arguments):
        if one.type is click.STRING:
            yield [group, verb, *given[:number], NO_TEXT, *given[number + 1 :]]
    needed = ["--output", "x"] if verb == "export" else []
    for option in command.params:
        if isinstance(option, click.Option) and option.type is click.STRING and not option.is_flag:
            yield [group, verb, *given, *needed, option.opts[0], NO_TEXT]


def asked(group: str) -> list[list[str]]:
    """So of each verb of *group* that goes to the socket."""
    found = main.commands[group].commands.items()  # type: ignore[attr-defined]  # it is a group
    verbs = [(verb, command) for verb, command in found if any(one.name == "path" for one in command.params)]
    return [words for verb, command in verbs for words in asking(group, verb, command)]


NO_TEXT = "\udcff"  # how Python names the byte 0xff of a command line
ASKING = [words for group in OPTIONAL for words in asked(group)]


@pytest.mark.parametrize("words", ASKING, ids=lambda words: " ".join(words).replace(NO_TEXT, "BYTE"))
def test_a_word_that_is_not_utf_8_is_wrong_usage(tmp_path: Path, words: list[str]) -> None:
    """It was a traceback of the encoder."""
    refused = CliRunner(env={"HOLDFAST_OPERATOR_SOCKET": str(tmp_path / "nobody.sock")}).invoke(main, words)
    assert refused.exit_code == 2
    assert "Invalid value for" in refused.stderr


def test_a_name_that_is_not_utf_8_is_told_as_that(tmp_path: Path) -> None:
    assert ["drill", "show", NO_TEXT] in ASKING
    socket_ = ["--socket", str(tmp_path / "nobody.sock")]
    for group in ("drill", "backup", "jobs"):
        assert CliRunner().invoke(main, [group, "show", "d\u00e9", *socket_]).exit_code == 4  # it would have asked
        refused = CliRunner().invoke(main, [group, "show", NO_TEXT, *socket_])
        assert refused.exit_code == 2
        assert refused.stderr.rstrip().endswith("is not UTF-8")
