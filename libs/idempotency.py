"""A mutation takes effect once for each request_id, however often and at however many replicas it is asked (AIP-155).

An operation claims the id in its own transaction, before anything else, so the claim stands exactly when the effect
does: a refusal or a crash leaves neither, and a concurrent repeat waits on the claim's row until the first has ended.
An id is kept for 24 hours for its user and method. Nobody sweeps across tenants: a new claim removes expired ones of
its own user, so a user's rows are bounded by what that user asked in a day.
"""

import hashlib
import json
from functools import cache

from sqlalchemy import TextClause, text

from libs.db import Tx, policies
from libs.db.tx import armed_settings
from libs.errors import AppError, Kind, Violation

_TABLE = """
CREATE TABLE {schema}.requests (
    organization_id text NOT NULL,
    user_id text NOT NULL,
    method text NOT NULL CHECK (length(method) <= 100),
    request_id text NOT NULL CHECK (length(request_id) = 36),
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    answer text NOT NULL DEFAULT '' CHECK (length(answer) <= 1024),
    claimed_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, user_id, method, request_id)
)
"""
# An expired claim that nobody has removed yet is taken over.
_CLAIM = """
INSERT INTO {schema}.requests AS r (organization_id, user_id, method, request_id, fingerprint, claimed_at)
VALUES (:organization_id, :user_id, :method, :request_id, :fingerprint, :now)
ON CONFLICT (organization_id, user_id, method, request_id) DO UPDATE
    SET fingerprint = excluded.fingerprint, answer = '', claimed_at = excluded.claimed_at
    WHERE r.claimed_at <= excluded.claimed_at - interval '24 hours'
RETURNING true
"""
_FIRST = "SELECT fingerprint, answer FROM {schema}.requests WHERE method = :method AND request_id = :request_id"
_ANSWER = "UPDATE {schema}.requests SET answer = :answer WHERE method = :method AND request_id = :request_id"
# Waits for nobody: what another transaction has locked is left to it.
_EXPIRE = """
DELETE FROM {schema}.requests WHERE (method, request_id) IN (
    SELECT method, request_id FROM {schema}.requests WHERE claimed_at <= CAST(:now AS timestamptz) - interval '24 hours'
    ORDER BY claimed_at LIMIT 100 FOR UPDATE SKIP LOCKED)
"""


class RequestIdReused(AppError):
    """The request_id was used before with another body."""

    kind, reason = Kind.INVALID, "REQUEST_ID_REUSED"


async def claim(tx: Tx, method: str, request_id: str, *body: str) -> str | None:
    """None when the caller is to go on, else what `answer` kept of the first call, "" when it kept nothing.

    tx: armed for a user, in the schema of whose service `create_table` made the table. request_id: a UUID, "" for none.
    body: all that makes the request what it is, in a fixed order. Raises RequestIdReused when it differs from the
    first one's.
    """
    if not request_id:
        return None
    organization_id, user_id, _ = armed_settings(tx.principal)
    fingerprint = hashlib.sha256(json.dumps(body).encode()).digest()
    key = {"method": method, "request_id": request_id}
    ours = {"organization_id": organization_id, "user_id": user_id, "fingerprint": fingerprint, "now": tx.now()}
    if (await tx.execute(_statement(_CLAIM, tx.service), key | ours)).one_or_none() is not None:
        # After the claim: a transaction that waits for a claim has locked no other.
        await tx.execute(_statement(_EXPIRE, tx.service), {"now": tx.now()})
        return None
    first = (await tx.execute(_statement(_FIRST, tx.service), key)).mappings().one()
    if bytes(first["fingerprint"]) != fingerprint:
        why = "was used before with another body"
        raise RequestIdReused(f"The request_id {why}.", violations=[Violation("request_id", why)], field="request_id")
    return str(first["answer"])


async def answer(tx: Tx, method: str, request_id: str, kept: str) -> None:
    """Keep for repeats what the claimed call has made: its id or name, never a secret; at most 1024 characters."""
    if request_id:
        parameters = {"method": method, "request_id": request_id, "answer": kept}
        await tx.execute(_statement(_ANSWER, tx.service), parameters)


def create_table(op: policies.Operations, schema: str) -> None:
    """For a migration: the claims of *schema*'s service. Scope: user."""
    op.execute(_TABLE.format(schema=schema))
    op.execute(f"CREATE INDEX requests_age ON {schema}.requests (organization_id, user_id, claimed_at)")
    policies.user_table(op, f"{schema}.requests")


@cache
def _statement(statement: str, schema: str) -> TextClause:
    return text(statement.format(schema=schema))
