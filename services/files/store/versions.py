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


def _columns(version: Version) -> dict[str, Any]:
    return asdict(version) | {"state": version.state.value}


def _version(row: dict[str, Any]) -> Version:
    return Version(**row | {"state": State(row["state"])})
