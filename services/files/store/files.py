"""Files by path and by id. Unless a function says otherwise, tombstones and names without bytes are not found."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import Select, delete, select, update
from sqlalchemy.dialects.postgresql import insert

from libs.db import Tx
from services.files.domain.file import File
from services.files.store.tables import files

_LIVE = files.c.deleted_at.is_(None) & (files.c.generation > 0)


async def by_path(tx: Tx, path: str) -> File | None:
    """The file at *path*."""
    return await _one(tx, select(files).where(files.c.path == path, _LIVE))


async def by_id(tx: Tx, file_id: str) -> File | None:
    """The file with this id."""
    return await _one(tx, select(files).where(files.c.id == file_id, _LIVE))


async def lock(tx: Tx, file_id: str) -> File | None:
    """The file with this id, its row locked until *tx* ends."""
    return await _one(tx, select(files).where(files.c.id == file_id, _LIVE).with_for_update())


async def lock_tombstone(tx: Tx, file_id: str) -> File | None:
    """The deleted file with this id, its row locked until *tx* ends."""
    deleted = files.c.deleted_at.is_not(None)
    return await _one(tx, select(files).where(files.c.id == file_id, deleted).with_for_update())


async def claim(tx: Tx, name: File) -> File | None:
    """The live file at *name*'s path, locked until *tx* ends; *name* itself, inserted, when there was none.

    Two claims of one new path wait for each other on the unique index, and the second gets the first one's row.
    None when *name*'s id was used up by a tombstone: ask again with another id.
    """
    await tx.execute(insert(files).values(**asdict(name)).on_conflict_do_nothing())
    taken = files.c.deleted_at.is_(None) & (files.c.path == name.path)
    return await _one(tx, select(files).where(taken).with_for_update())


async def save(tx: Tx, file: File) -> None:
    """Store every column of *file*, whose row *tx* has locked."""
    await tx.execute(update(files).where(files.c.id == file.id).values(**asdict(file)))


async def page(tx: Tx, *, prefix: str, after: str, limit: int) -> list[File]:
    """At most *limit* files whose path begins with *prefix* and comes after *after*, by code point."""
    query = select(files).where(_LIVE, files.c.path > after).order_by(files.c.path).limit(limit)
    if prefix:
        query = query.where(files.c.path.startswith(prefix, autoescape=True), files.c.path >= prefix)
    return [File(**row) for row in (await tx.execute(query)).mappings()]


async def remove(tx: Tx, file_id: str) -> None:
    """Drop the row; its versions must be gone."""
    await tx.execute(delete(files).where(files.c.id == file_id))


async def _one(tx: Tx, query: Select[Any]) -> File | None:
    row = (await tx.execute(query)).mappings().one_or_none()
    return None if row is None else File(**row)
