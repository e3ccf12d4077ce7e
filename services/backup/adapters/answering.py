"""Whether a Postgres lets anybody in, by its own pg_isready: libpq does not tell why a connection was refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.backup.adapters import command

_SECONDS = 5


async def answers(settings: Mapping[str, Any], binaries: Path) -> bool:
    """Whether the server of these *settings* takes connections, whatever it says of this login; at most 5 s.

    binaries: of PostgreSQL. One that starts, shuts down or recovers takes none. Raises OSError without the program.
    """
    named = {"-h": "host", "-p": "port", "-U": "user", "-d": "dbname"}
    where = [word for option, name in named.items() for word in (option, str(settings[name]))]
    asked = [str(binaries / "pg_isready"), "-q", "-t", str(_SECONDS), *where]
    return (await command.run(asked, timeout_seconds=2 * _SECONDS)).code == 0
