"""The mirror of drills in the database."""

from sqlalchemy.dialects.postgresql import insert

from libs.db import Tx
from services.backup.domain.drill import Drill
from services.backup.store.tables import drills


async def mirror(tx: Tx, drill: Drill) -> None:
    """Make the row equal to *drill*."""
    values = {
        "state": drill.state.value,
        "created_at": drill.created_at,
        "ended_at": drill.ended_at,
        "document": drill.to_json(),
    }
    statement = insert(drills).values(id=drill.id, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=[drills.c.id], set_=values))
