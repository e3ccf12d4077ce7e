"""`make erase NAME=organizations/O/users/U`: what a user's files say, ended for good by the service's own program."""

import subprocess

from deploy.stack.parts import PLAIN, Parts
from deploy.stack.supervise import drop_prefix

SECONDS = 120


class NotErased(Exception):
    """The program refused; its words."""


def erase(parts: Parts, name: str) -> str:
    """Erase the files of the user *name* as the user the service runs as; what it said. Raises NotErased."""
    command = [*drop_prefix(), str(parts.where.python), "-m", "services.files", "erase", name]
    environment = {**PLAIN, "HOME": str(parts.where.state), **parts.service_environment("files")}
    done = subprocess.run(
        command, cwd=parts.where.state, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    if done.returncode:
        raise NotErased(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "the program said nothing")
    return done.stdout.strip()
