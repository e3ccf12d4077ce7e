"""Postgres' own checkers run on a copy: pg_amcheck while it serves, pg_checksums once it has been shut down.

They run outside the copy's namespaces and reach it by its socket and its files. Source: PostgreSQL manual, pg_amcheck,
pg_checksums.
"""

from pathlib import Path

from services.backup.adapters import command
from services.backup.adapters.copy import PORT, Copy, Servers
from services.backup.adapters.place import Place
from services.backup.domain import ladder
from services.backup.domain.drill import Check, not_made

_STRICT = ("--heapallindexed", "--parent-check")
_SECONDS = 6 * 3600.0


async def amcheck(servers: Servers, copy: Copy, *, strict: bool) -> Check:
    """Tables and indexes of the database; strict: each heap row is in each index, and each index page in its parent."""
    program = servers.binaries / "pg_amcheck"
    if not program.exists():
        return not_made("amcheck", f"{program} is not installed: it comes with the server's contrib package")
    argv = [str(program), "-h", str(copy.place.sockets), "-p", PORT, "-U", servers.superuser, "--no-password"]
    argv += ["--install-missing", "--progress", "--jobs=2", *(_STRICT if strict else ()), servers.database]
    done = await command.run(argv, timeout_seconds=_SECONDS)
    return ladder.structure(done.code, done.out, done.err, strict=strict)


async def checksums(binaries: Path, place: Place) -> Check:
    """Every page of the stopped copy."""
    program = binaries / "pg_checksums"
    if not program.exists():
        return not_made("page_checksums", f"{program} is not installed")
    done = await command.run([str(program), "--check", "-D", str(place.data)], timeout_seconds=_SECONDS)
    return ladder.pages(done.code, done.out, done.err)
