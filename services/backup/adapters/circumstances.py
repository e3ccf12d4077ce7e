"""What a record says of the ground it stands on: versions of the tools, and digests of what they were told."""

import asyncio
import hashlib
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from libs.errors import AppError
from libs.observability import log
from services.backup.adapters import command
from services.backup.adapters.engine import Engine

_log = log.get(__name__)
_SECONDS = 20.0
_SECRET = (b"-pass=", b"-key=", b"-secret=", b"-token=")


class Circumstances:
    """Of one installation. configs: the engine's files. binaries: Postgres' programs."""

    def __init__(self, engine: Engine, binaries: Path, configs: Mapping[str, Path]) -> None:
        self._engine = engine
        self._binaries = binaries
        self._configs = configs

    async def now(self) -> Mapping[str, Any]:
        """{"tools": {name: version}, "config_digests": {name: SHA-256 of the file's lines that are no secret}}.

        What cannot be asked is said to be unknown: a record is not lost for want of a version.
        """
        engine, postgres = await asyncio.gather(self._engine_version(), self._postgres_version())
        tools = {"engine": engine, "postgres": postgres, "holdfast": _own(), "python": platform.python_version()}
        digests = {name: await asyncio.to_thread(config_digest, path) for name, path in self._configs.items()}
        return {"tools": tools, "config_digests": digests}

    async def _engine_version(self) -> str:
        try:
            return await self._engine.version()
        except (AppError, OSError) as fault:
            _log.warning("version_unknown", program="engine", fault=str(fault))
            return "unknown"

    async def _postgres_version(self) -> str:
        try:
            done = await command.run([str(self._binaries / "postgres"), "--version"], timeout_seconds=_SECONDS)
        except OSError as fault:
            _log.warning("version_unknown", program="postgres", fault=str(fault))
            return "unknown"
        return done.out.strip() or "unknown"


def config_digest(path: Path) -> str:
    """Hex SHA-256 of the lines of *path* that hold no secret, "unknown" when it cannot be read."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as fault:
        _log.warning("config_unknown", fault=str(fault))
        return "unknown"
    return hashlib.sha256(b"".join(line for line in lines if not _secret(line))).hexdigest()


def _secret(line: bytes) -> bool:
    name = line.partition(b"=")[0] + b"="
    return any(name.endswith(ending) for ending in _SECRET)


def _own() -> str:
    try:
        return metadata.version("holdfast-server")
    except metadata.PackageNotFoundError:
        return "unknown"
