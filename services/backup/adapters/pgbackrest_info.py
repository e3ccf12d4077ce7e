"""`info --output=json`, read leniently: later versions add fields, and none of those is relied on.

It exits with 0 whatever it finds: the status code inside decides, and beside it the message of each repository.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from libs.errors import AppError
from services.backup.adapters.pgbackrest_exits import classified, refusal
from services.backup.domain.errors import EngineFailed
from services.backup.domain.heartbeat import position
from services.backup.domain.repository import BackupType, Repository, Server, Stored

_OK = 0
_NO_STANZA, _NO_BACKUP = 1, 2
_EMPTY = (_NO_STANZA, _NO_BACKUP)  # sound, and nothing there
_MISSING_DATA, _OTHER = 3, 99
_FILE_MISSING = 55


def parse_info(text: str, stanza: str, *, log: Path = Path("/dev/null")) -> Repository:
    """The repository. log: where the engine tells more, for an error.

    Raises EngineFailed for output that is not of this shape or a status that means the repository cannot be trusted,
    EngineAway when that is because the store cannot be reached or stalls.
    """
    try:
        # Not strict: with a wrong cipher pass it quotes what it could not read, raw bytes and all.
        stanzas = json.loads(text, strict=False)
        if not isinstance(stanzas, list):
            raise TypeError
        found = [one for one in stanzas if one["name"] == stanza]
        if not found:
            return Repository(False, "the repository has no such stanza", (), "", "", None, stanza=False)
        return _stanza(found[0], log)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise EngineFailed("pgbackrest info could not be read.", command="info", fault=type(error).__name__) from error


def _stanza(found: Mapping[str, Any], log: Path) -> Repository:
    code, message = int(found["status"]["code"]), str(found["status"]["message"])
    if code not in (_OK, *_EMPTY):
        raise _unsound(found, code, message, log)
    lock = (found["status"].get("lock") or {}).get("backup") or {}
    percent = lock.get("pct-cplt") if lock.get("held") else None
    backups = tuple(sorted((_stored(one) for one in found.get("backup", [])), key=lambda one: one.label.split("_")[-1]))
    newest = max(found.get("db", []), key=lambda one: int(one["id"]), default=None)
    number = int(newest["id"]) if newest else 0
    archive = [one for one in found.get("archive", []) if int(one["database"]["id"]) == number and one.get("max")]
    low, high = (str(archive[-1]["min"]), str(archive[-1]["max"])) if archive else ("", "")
    return Repository(
        code == _OK,
        message,
        backups,
        low,
        high,
        None if percent is None else float(percent),
        stanza=code != _NO_STANZA,
        server=Server(int(newest["system-id"]), str(newest.get("version", ""))) if newest else None,
        database_id=number,
    )


def _unsound(found: Mapping[str, Any], code: int, message: str, log: Path) -> AppError:
    """The error behind a status that is not good: each repository says its own, the stanza only sums them up."""
    words = [" ".join(str((one.get("status") or {}).get("message", "")).split()) for one in found.get("repo", [])]
    said = "; ".join(one for one in words if one) or message
    cause = _FILE_MISSING if code == _MISSING_DATA else classified(said)
    return refusal("info", cause, f"status {code}, {said[:600]}", log, status=code)


def _stored(one: Mapping[str, Any]) -> Stored:
    info = one["info"]
    return Stored(
        label=str(one["label"]),
        type=BackupType(one["type"]),
        started_at=datetime.fromtimestamp(int(one["timestamp"]["start"]), UTC),
        ended_at=datetime.fromtimestamp(int(one["timestamp"]["stop"]), UTC),
        database_bytes=int(info["size"]),
        repository_bytes=int(info["repository"].get("delta", 0)),
        wal_start=str(one["archive"]["start"] or ""),
        wal_stop=str(one["archive"]["stop"] or ""),
        stop_lsn=position(str((one.get("lsn") or {}).get("stop") or "")),
        damaged=one.get("error"),
        database_id=int((one.get("database") or {}).get("id", 0)),
    )
