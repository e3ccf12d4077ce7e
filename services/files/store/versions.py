"""The ledger of versions: what was begun, what was finished, what waits for removal."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import delete, insert, select, update

from libs.db import Tx
from services.files.domain.file import State, Version
from services.files.store.tables import versions


async def add(tx: Tx, version: Version) -> None:
    """Insert a version that has just begun."""
    await tx.execute(insert(versions).values(**_columns(version)))


async def lock(tx: Tx, version_id: str) -> Version | None:
    """The version, its row locked until *tx* ends."""
    query = select(versions).where(versions.c.id == version_id).with_for_update()
    row = (await tx.execute(query)).mappings().one_or_none()
    return None if row is None else _version(dict(row))


async def of(tx: Tx, version_id: str) -> Version | None:
    """The version, not locked."""
    row = (await tx.execute(select(versions).where(versions.c.id == version_id))).mappings().one_or_none()
    return None if row is None else _version(dict(row))


async def of_file(tx: Tx, file_id: str) -> list[Version]:
    """Every version of a file, oldest first."""
    query = select(versions).where(versions.c.file_id == file_id).order_by(versions.c.generation)
    return [_version(dict(row)) for row in (await tx.execute(query)).mappings()]


async def save(tx: Tx, version: Version) -> None:
    """Store every column of *version*."""
    await tx.execute(update(versions).where(versions.c.id == version.id).values(**_columns(version)))


async def turn(tx: Tx, version_id: str, *, state: State) -> None:
    """Set the state of a version."""
    await tx.execute(update(versions).where(versions.c.id == version_id).values(state=state.value))


async def remove(tx: Tx, version_id: str) -> None:
    """Drop the row of a version whose bytes are gone."""
    await tx.execute(delete(versions).where(versions.c.id == version_id))


async def any_at_all(tx: Tx) -> bool:
    """Whether the user has a version in any state."""
    return (await tx.execute(select(versions.c.id).limit(1))).one_or_none() is not None


async def wrapped_by_others(tx: Tx, key_id: str, *, limit: int) -> list[Version]:
    """At most *limit* versions whose key another key of the user than *key_id* wraps."""
    others = versions.c.key_id.not_in(("", key_id))
    query = select(versions).where(others).order_by(versions.c.id).limit(limit)
    return [_version(dict(row)) for row in (await tx.execute(query)).mappings()]


async def names_key(tx: Tx, key_id: str) -> bool:
    """Whether any version's key is wrapped by *key_id*."""
    found = await tx.execute(select(versions.c.id).where(versions.c.key_id == key_id).limit(1))
    return found.one_or_none() is not None


async def rewrap(tx: Tx, version_id: str, *, key_id: str, wrapped_key: bytes) -> None:
    """Set what wraps a version's key, which itself never changes."""
    await tx.execute(update(versions).where(versions.c.id == version_id).values(key_id=key_id, wrapped_key=wrapped_key))


def _columns(version: Version) -> dict[str, Any]:
    return asdict(version) | {"state": version.state.value}


def _version(row: dict[str, Any]) -> Version:
    return Version(**row | {"state": State(row["state"])})
