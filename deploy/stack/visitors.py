"""Forgets the people that the tour and tests made, by SQL as the database's administrator: no RPC may do it."""

from deploy.stack.postgres import Cluster

USERS = """
UPDATE auth.users SET disabled_at = coalesce(disabled_at, now()),
    tombstoned_at = coalesce(tombstoned_at, now()), display_name = ''
WHERE account_id IN (SELECT id FROM auth.accounts WHERE email = ANY(%s))
"""
ACCOUNTS = """
UPDATE auth.accounts SET disabled_at = coalesce(disabled_at, now()), display_name = '', password_hash = 'forgotten',
    email = 'forgotten-' || id || '@invalid', email_key = 'forgotten-' || id || '@invalid'
WHERE email = ANY(%s)
"""


def forget(cluster: Cluster, emails: list[str]) -> None:
    """Tombstone the users of these addresses and free the addresses."""
    with cluster.admin(cluster.database) as connection, connection.transaction():
        connection.execute(USERS, [emails])
        connection.execute(ACCOUNTS, [emails])
