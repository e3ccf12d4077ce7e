"""How far a long job has come, kept for its next attempt: retries, snoozes and rescues leave it as it is."""

import json
import re
from typing import Any

from sqlalchemy import text

from libs.db import Tx
from libs.jobqueue.completion import StaleLease
from libs.jobqueue.job import JobInvalid, Lease
from libs.jobqueue.plan import RUNNING

MAX_PROGRESS_BYTES = 16 * 1024
MAX_PROGRESS_DEPTH = 64
"""Whoever claims the job reads it as well, deeper in the stack than who saved it: JSON recurses."""

_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
# As JSON writes a zero character; an escaped backslash before "u0000" is text.
_ZERO = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SAVE = text(
    f"""
    UPDATE jobs.jobs j SET progress = CAST(:progress AS jsonb)
    WHERE j.id = :id AND j.lease = :lease AND j.service = :service AND {RUNNING} RETURNING j.id
    """  # noqa: S608 - a constant of ours
)


async def progress(tx: Tx, lease: Lease, value: Any) -> None:
    """Save *value* as the job's progress, with whatever else *tx* writes; the next attempt finds it as lease.progress.

    value: anything JSON can hold, at most 16 KiB of it, 64 levels deep; None clears it. Each call writes the job's row
    anew, so once in a while is often enough. Raises JobInvalid, and StaleLease, which undoes *tx*, when the job has
    been taken from this worker meanwhile.
    """
    values = {"id": lease.job_id, "lease": lease.lease, "service": tx.service, "progress": _encoded(value)}
    if not (await tx.execute(_SAVE, values)).all():
        raise StaleLease("The job belongs to another claim by now.", job=lease.job_id)


def _encoded(value: Any) -> str | None:
    if value is None:
        return None
    try:
        found = _JSON.encode(value)
        size = len(found.encode())
    except (ValueError, TypeError, RecursionError) as error:
        raise JobInvalid("Progress has to be what JSON can hold.") from error
    if size > MAX_PROGRESS_BYTES:
        raise JobInvalid(f"Progress holds at most {MAX_PROGRESS_BYTES} bytes; store the rest and save its id.")
    if _is_deeper(value, MAX_PROGRESS_DEPTH):
        raise JobInvalid(f"Progress nests lists and objects up to {MAX_PROGRESS_DEPTH} deep.")
    if _ZERO.search(found):
        raise JobInvalid("Progress holds a zero character, which Postgres cannot store.")
    return found


def _is_deeper(value: Any, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else None
    return inner is not None and (depth == 0 or any(_is_deeper(one, depth - 1) for one in inner))
