"""High-water marks: signed numbers that say how far each tenant had come, below which no restored state may lie.

Heartbeats prove that WAL was replayed up to a moment; a mark proves that what the WAL and the backup said is there. It
is written in the transaction that read the numbers, so whoever holds the mark must hold what it counts.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from services.backup.domain.drill import Check, not_made

KINDS = ("event_offset", "file_version", "audit_entry")
"""Newest offset of a user's events; id of a user's newest file version; id of an organization's newest audit entry."""

Tenants = Mapping[str, Mapping[str, str]]
"""Kind → tenant (`organization/user`, or `organization/`) → value."""
_OLD = timedelta(hours=3)
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Mark:
    """heartbeat: the newest one when it was taken. signature: hex HMAC-SHA256 over every other field."""

    heartbeat: int
    created_at: datetime
    tenants: Tenants
    signature: str = ""


def sign(mark: Mark, key: bytes) -> Mark:
    """*mark* with its signature."""
    return replace(mark, signature=hmac.new(key, _signed_part(mark), hashlib.sha256).hexdigest())


def genuine(mark: Mark, key: bytes) -> bool:
    """Whether *mark* carries the signature this key makes."""
    return hmac.compare_digest(mark.signature, sign(mark, key).signature)


def judge(mark: Mark | None, key: bytes, *, below: Mapping[str, list[str]], newest_beat: datetime | None) -> Check:
    """The check `high_water`. below: kind → tenants whose restored state does not reach *mark*, the copy's newest."""
    name = "high_water"
    if mark is None:
        return not_made(name, "no mark had been taken before the target: the service takes one each hour")
    count = sum(len(tenants) for tenants in mark.tenants.values())
    if not genuine(mark, key):
        return Check(name, False, count, f"the mark of heartbeat {mark.heartbeat} has a bad signature")
    lost = [f"{kind} of {tenant}" for kind in KINDS for tenant in below.get(kind, [])]
    if lost:
        shown = ", ".join(lost[:_SHOWN]) + (f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else "")
        return Check(name, False, count, f"below the mark of heartbeat {mark.heartbeat}: {shown}")
    if newest_beat is not None and newest_beat - mark.created_at > _OLD:
        return not_made(name, f"the newest mark is of {mark.created_at:%Y-%m-%d %H:%M} UTC, hours before the target")
    if not count:
        return not_made(
            name, f"the mark of heartbeat {mark.heartbeat} counts nothing: no tenant had stored anything yet"
        )
    return Check(name, True, count, f"nothing lies below the mark of heartbeat {mark.heartbeat}")


def _signed_part(mark: Mark) -> bytes:
    at = mark.created_at.astimezone(UTC).isoformat()
    numbers = json.dumps(mark.tenants, sort_keys=True, separators=(",", ":"))
    return f"holdfast-mark|{mark.heartbeat}|{at}|{numbers}".encode()
