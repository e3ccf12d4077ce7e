"""The audit trail: who did what, with what outcome, as a row of the transaction that did it.

Rows are append-only for everybody and unreadable for the services that write them. A sealer chains them per
organization later; until then sequence and hash are null. People are named by id, never by address, so an erasure
need not touch a row.
"""

import json
from collections.abc import Mapping
from typing import Any

import psycopg
from sqlalchemy import text
from sqlalchemy.dialects import postgresql

from libs import ids
from libs.audit.fact import kept
from libs.db import Database, Tx
from libs.observability import context
from libs.principal import Account, Operator, Organization, Principal, System, User

__all__ = ["kept", "record", "record_failure", "record_in"]

_INSERT = text(
    "INSERT INTO audit.entries (id, service, organization_id, actor_kind, actor_id, on_behalf, action,"
    " outcome, request_id, trace_id, facts) VALUES (:id, :service, :organization_id, :actor_kind, :actor_id,"
    " :on_behalf, :action, :outcome, :request_id, :trace_id, CAST(:facts AS jsonb))"
)
_PLAIN = str(_INSERT.compile(dialect=postgresql.dialect(paramstyle="pyformat"))).encode()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped


async def record(tx: Tx, action: str, *, outcome: str = "success", **facts: str) -> None:
    """Write one entry in *tx*: there if and only if *tx* commits. Actor and organization are those *tx* is armed for.

    action: dotted lower-case words, e.g. `session.revoked`. outcome: success, failure or refused.
    facts: ids and short words; see libs.audit.fact for what is kept.
    """
    await tx.execute(_INSERT, _entry(tx.service, tx.principal, action, outcome, facts))


def record_in(connection: psycopg.Connection[Any], service: str, action: str, **facts: str) -> None:
    """As record, of *service* itself, for a thread that has a connection of its own, in the transaction it is in."""
    connection.execute(_PLAIN, _entry(service, System(service), action, "success", facts))


async def record_failure(db: Database, who: Principal, action: str, *, outcome: str = "failure", **facts: str) -> None:
    """Write one entry in a transaction of its own, for an attempt whose own transaction is undone or never began."""
    async with db.begin(who) as tx:
        await record(tx, action, outcome=outcome, **facts)


def _entry(service: str, who: Principal, action: str, outcome: str, facts: Mapping[str, str]) -> dict[str, str | None]:
    organization, kind, actor, on_behalf = _actor(who)
    return {
        "id": ids.new_id(),
        "service": service,
        "organization_id": organization,
        "actor_kind": kind,
        "actor_id": actor,
        "on_behalf": on_behalf,
        "action": action,
        "outcome": outcome,
        "request_id": context.request_id.get(),
        "trace_id": context.trace_id.get(),
        "facts": json.dumps(kept(facts), ensure_ascii=False),
    }


def _actor(who: Principal) -> tuple[str | None, str, str, str]:
    """(organization, kind, id, the service that acted for it)."""
    match who:
        case User(organization_id=organization, user_id=user, actor=actor):
            return organization, "user", user, actor
        case Organization(organization_id=organization):
            return organization, "organization", organization, ""
        case Account(account_id=account):
            return None, "account", account, ""
        case Operator(operator_id=operator):
            return None, "operator", operator, ""
        case System(service=service):
            return None, "service", service, ""
