"""People that the tour and the tests make: how they reach the edge, read their mail, and are forgotten.

They are forgotten by SQL as the database's administrator: no RPC may do it.
"""

import time
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path
from re import search

import grpc

from deploy.stack.edge import Edge
from deploy.stack.postgres import Cluster

MAIL_SECONDS = 30.0
POLL_SECONDS = 0.05

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


@dataclass
class Person:
    """One visitor of the tour. user: organizations/{o}/users/{u}, "" before sign-in."""

    email: str
    password: str
    edge: Edge
    user: str = ""


class Failed(Exception):
    """What the tour saw is not what Holdfast promises."""


def check(truth: bool, otherwise: str) -> None:
    """Raise Failed with the sentence unless it is true."""
    if not truth:
        raise Failed(otherwise)


class Native:
    """A TLS channel to the edge and the caller's metadata, for `with`."""

    def __init__(self, edge_url: str, ca_file: str, person: Person) -> None:
        trust = grpc.ssl_channel_credentials(Path(ca_file).read_bytes())
        self.channel = grpc.secure_channel(edge_url.removeprefix("https://"), trust)
        self.metadata = (("authorization", f"Bearer {person.edge.token}"),)

    def __enter__(self) -> tuple[grpc.Channel, tuple[tuple[str, str], ...]]:
        """The channel and the metadata to call with."""
        return self.channel, self.metadata

    def __exit__(self, *_: object) -> None:
        """Close the channel."""
        self.channel.close()


def mailed_token(mail_dir: Path, address: str) -> str:
    """The token of the newest mail to *address*; waits for the mail. Raises Failed when none comes."""
    deadline = time.monotonic() + MAIL_SECONDS
    while time.monotonic() < deadline:
        for path in sorted(mail_dir.glob("*.eml"), reverse=True):
            mail = message_from_bytes(path.read_bytes(), policy=policy.default)
            if mail["to"] and address in mail["to"]:
                body = mail.get_body(("plain",))
                found = search(r"(?m)^\s*([A-Za-z0-9_.~-]{20,200})\s*$", body.get_content() if body else "")
                check(found is not None, f"the mail {path.name} holds no token on a line of its own")
                assert found is not None
                return found[1]
        time.sleep(POLL_SECONDS)
    raise Failed(f"no mail to {address} within {MAIL_SECONDS:.0f} s in {mail_dir}")


def forget(cluster: Cluster, emails: list[str]) -> None:
    """Tombstone the users of these addresses and free the addresses."""
    with cluster.admin(cluster.database) as connection, connection.transaction():
        connection.execute(USERS, [emails])
        connection.execute(ACCOUNTS, [emails])
