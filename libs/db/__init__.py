"""Postgres for services: one login each, and no row is read or written outside `Database.begin(principal)`.

Owns: the pool and its time-outs, arming of row-level security, retries, wake-ups (`Waker`, `Listener`), migrations
(`libs.db.migrate`, helpers in `libs.db.policies`), and the start-up self-check (T6, `libs.db.selfcheck`).
Order of the migration trees: libs/db (schemas jobs and audit), auth, events, files, backup.
"""

from libs.db.database import Database
from libs.db.errors import TryAgain, UnsafeRole, constraint
from libs.db.listener import Listener
from libs.db.retry import retrying
from libs.db.settings import DatabaseConfig, Limits
from libs.db.tx import Tx
from libs.db.waker import Waker

__all__ = [
    "Database",
    "DatabaseConfig",
    "Limits",
    "Listener",
    "TryAgain",
    "Tx",
    "UnsafeRole",
    "Waker",
    "constraint",
    "retrying",
]
