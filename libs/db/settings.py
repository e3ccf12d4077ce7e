"""How one login reaches the database, as a value both the pool and the listening connections are made from."""

from dataclasses import dataclass
from typing import Any, Protocol


class Revealable(Protocol):
    """The part of libs.secret.Secret that is needed here."""

    def reveal(self) -> bytes:
        """The secret's bytes."""
        ...


class DatabaseConfig(Protocol):
    """The fields of a service's configuration that name its database login."""

    @property
    def service(self) -> str: ...  # noqa: D102 - named by the class
    @property
    def database_host(self) -> str: ...  # noqa: D102
    @property
    def database_port(self) -> int: ...  # noqa: D102
    @property
    def database_name(self) -> str: ...  # noqa: D102
    @property
    def database_user(self) -> str: ...  # noqa: D102
    @property
    def database_password(self) -> Revealable: ...  # noqa: D102
    @property
    def database_tls(self) -> str: ...  # noqa: D102
    @property
    def database_ca_file(self) -> str: ...  # noqa: D102


# A host that vanishes says nothing, and TCP alone would wait for a quarter of an hour: a connection to one is broken
# after 20 to 30 seconds, before others take a worker on it for dead (libs.jobqueue, 40). Source: libpq, 34.1.2; tcp(7).
_LOST_LINK = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one process's use of the database; times in seconds.

    pooler: a transaction-pooling proxy stands between, so nothing may be kept on a session: no prepared statements,
    no start-up options (the login's own defaults, set by bootstrap.sql, then hold).
    """

    connections: int = 10
    acquire_seconds: float = 5.0
    connect_seconds: float = 5.0
    statement_seconds: float = 15.0
    lock_seconds: float = 5.0
    idle_seconds: float = 15.0
    pooler: bool = False

    def options(self) -> str:
        """The start-up options that set the session's time-outs, "" behind a pooler."""
        if self.pooler:
            return ""
        times = {
            "statement_timeout": self.statement_seconds,
            "lock_timeout": self.lock_seconds,
            "idle_in_transaction_session_timeout": self.idle_seconds,
        }
        return " ".join(["-c timezone=UTC", *(f"-c {name}={int(seconds * 1000)}" for name, seconds in times.items())])


def arguments(config: DatabaseConfig, limits: Limits) -> dict[str, Any]:
    """Keyword arguments of psycopg.connect for this login. A host beginning with / is a socket directory."""
    local = config.database_host.startswith("/")
    found: dict[str, Any] = {
        "host": config.database_host,
        "port": config.database_port,
        "dbname": config.database_name,
        "user": config.database_user,
        "password": config.database_password.reveal().decode(),
        "connect_timeout": max(2, int(limits.connect_seconds)),
        "application_name": f"holdfast-{config.service}",
        "prepare_threshold": None if limits.pooler else 5,
    }
    options = limits.options()
    if options:
        found["options"] = options
    if not local:
        found |= _LOST_LINK
        found["sslmode"] = "disable" if config.database_tls == "off" else "verify-full"
        if config.database_tls != "off":
            found["sslrootcert"] = config.database_ca_file or "system"
    return found
