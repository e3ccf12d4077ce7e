"""The canary: an organization of this installation's own, whose sign-in, file and event a full drill tries in a copy.

Set-up makes it, and writes what to expect of it into one file, which only the service's user may read.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path


class NoCanary(Exception):
    """There is none to ask for; the message says why, and what makes one."""


@dataclass(frozen=True, slots=True)
class Canary:
    """user: organizations/{o}/users/{u}. file: its resource name; sha256: hex, of its bytes. event: type of its first.

    made_at: when all of it was there; a copy of an earlier moment cannot hold it.
    """

    email: str
    password: str = field(repr=False)
    user: str
    file: str
    sha256: str
    event: str
    made_at: datetime


def load(path: Path) -> Canary:
    """The canary that *path* tells. Raises NoCanary when there is none, or the file is none."""
    try:
        if path.stat().st_mode & 0o077:
            raise NoCanary(f"no canary: {path} holds a password and is open to group or world; chmod 600")
        document = json.loads(path.read_bytes())
        made_at = datetime.fromisoformat(document["made_at"])
        texts = {name: str(document[name]) for name in ("email", "password", "user", "file", "sha256", "event")}
        if made_at.tzinfo is None:
            raise ValueError("made_at has no time zone")
    except OSError as fault:
        raise NoCanary(f"no canary: {path}: {fault.strerror}; make up makes one") from None
    except (ValueError, KeyError, TypeError):
        raise NoCanary(f"no canary: {path} does not describe one; remove it, then make up writes it again") from None
    return Canary(**texts, made_at=made_at)
