"""What somebody is told whose command does not reach the operator socket."""

import socket
from pathlib import Path

import click
from click.testing import CliRunner

from holdfast.cli import main, operator

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
