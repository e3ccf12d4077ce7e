"""What the scrub of a copy takes away covers whatever the catalogue holds that opens a door or acts in a name."""

import re

from services.backup.adapters import scrub
from tests.support.postgres import TestDatabase

SECRET = re.compile(r"(password|secret|token|digest|credential|private|payload|_key$|_kid$|cookie|csrf)")
HARMLESS = {
    "auth.accounts.email_key": "an address, folded for comparison: personal, and no credential",
    "backup.evidence.digest": "of a record that is published",
    "files.versions.wrapped_key": "opens nothing without a user's key, which no database holds",
    "jobs.jobs.unique_key": "blanked, and no credential",
}
_COLUMNS = """
SELECT table_schema || '.' || table_name, column_name FROM information_schema.columns
 WHERE table_schema IN ('auth', 'files', 'events', 'backup', 'jobs', 'audit') ORDER BY 1, 2
"""


_ROWS = """
INSERT INTO auth.accounts (id, email, email_key, display_name, password_hash) VALUES ('a', 'a@b', 'a@b', '', 'hash');
INSERT INTO auth.link_tokens (id, account_id, purpose, digest, password_hash, expires_at)
VALUES ('l', 'a', 'verify_email', sha256('l'), 'hash', now());
INSERT INTO auth.sessions (organization_id, user_id, id, delivery, remembered, user_epoch, organization_epoch,
                           installation_epoch, refresh_digest, refresh_kid, rotated_at, idle_expires_at, expires_at)
VALUES ('o', 'u', 's', 'TOKENS', false, 0, 0, 0, sha256('s'), 'k', now(), now(), now());
INSERT INTO jobs.jobs (id, service, type, payload, state, unique_key, run_at, max_attempts, timeout_seconds)
VALUES ('1', 'auth', 'mail', '{"token": "t"}', 'ready', 'a', now(), 3, 9),
       ('2', 'auth', 'mail', '{"token": "t"}', 'ready', 'b', now(), 3, 9)
"""


def test_the_scrub_fits_rows_as_they_are(database: TestDatabase) -> None:
    with database.admin() as connection, connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL session_replication_role = replica")
        for statement in _ROWS.split(";\n"):
            connection.execute(statement.encode())
        for statement in scrub.statements([*scrub.EMPTIED, *scrub.BLANKED]):
            connection.execute(statement.encode())
        for table in scrub.EMPTIED:
            assert connection.execute(f"SELECT FROM {table}".encode()).fetchall() == []
        assert connection.execute("SELECT password_hash FROM auth.accounts").fetchall() == [("",)]
        assert connection.execute("SELECT DISTINCT payload::text, unique_key FROM jobs.jobs").fetchall() == [("{}", "")]


def test_every_column_named_like_a_secret_is_scrubbed_or_known_to_be_harmless(database: TestDatabase) -> None:
    with database.admin() as connection:
        columns = connection.execute(_COLUMNS.encode()).fetchall()
    suspects = [(table, column) for table, column in columns if SECRET.search(column)]
    bare = [f"{table}.{column}" for table, column in suspects if not scrubbed(table, column)]
    assert [name for name in bare if name not in HARMLESS] == []
    assert ("auth.accounts", "password_hash") in suspects


def scrubbed(table: str, column: str) -> bool:
    return table in scrub.EMPTIED or f"{column} = " in scrub.BLANKED.get(table, "")
