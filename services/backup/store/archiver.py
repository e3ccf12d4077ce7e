"""What the server says of its own archiving. It says nothing about the repository: that is asked there."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from libs.db import Tx

_STATUS = text(
    "SELECT (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'), last_failed_time,"
    " last_archived_time, current_setting('archive_mode') FROM pg_stat_archiver"
)


@dataclass(frozen=True, slots=True)
class Archiver:
    """waiting: segments not archived yet. failing_since: the last failure, when nothing was archived after it."""

    waiting: int
    failing_since: datetime | None
    on: bool


async def status(tx: Tx) -> Archiver:
    """The archiver now."""
    waiting, failed_at, archived_at, mode = tuple(*(await tx.execute(_STATUS)))
    failing = failed_at is not None and (archived_at is None or failed_at > archived_at)
    return Archiver(waiting, failed_at if failing else None, mode != "off")
