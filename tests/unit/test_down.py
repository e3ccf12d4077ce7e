"""Whom `make down` takes for a part of its stack."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

from deploy.stack.down import is_part
from deploy.stack.layout import Layout

WAITING = "import signal; print('here', flush=True); signal.pause()"


def test_down_killed_the_editor_of_somebody_who_read_a_file_of_the_stack(tmp_path: Path) -> None:
    where = Layout(tmp_path, tmp_path, tmp_path / "run")
    where.state.mkdir()
    command = [sys.executable, "-c", WAITING, str(where.state / "mail" / "1.eml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as part:
        person, terminal = pty.fork()
        if person == 0:
            os.execv(command[0], command)
        try:
            assert part.stdout is not None
            assert part.stdout.readline() == b"here\n"
            assert os.read(terminal, 4) == b"here"
            assert is_part(where, part.pid)
            assert not is_part(where, person)
            assert not is_part(where, os.getpid())
        finally:
            os.kill(person, signal.SIGKILL)
            os.waitpid(person, 0)
            os.close(terminal)
            part.kill()
