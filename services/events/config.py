"""Settings of the events service."""

from dataclasses import dataclass

from libs.config import ServiceConfig, secret, setting
from libs.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ServiceConfig):
    """What every service needs, and the bounds of streams."""

    service: str = "events"
    auth_address: str = setting("Where auth's gRPC is served.")
    auth_ca_file: str = setting(
        "PEM file of the CA that vouches for auth; empty on a Unix socket or loopback.", default=""
    )
    user_token_keys: Secret = secret("Keys of the audience `events`: JSON as `holdfast keys derive` writes it.")
    service_credential: Secret = secret("This service's own keys, to show auth who asks: the same JSON.")
    streams_per_user: int = setting("Open streams of one user, over all replicas.", default=10, least=1, most=100_000)
    connects_per_minute: int = setting(
        "Openings of streams by one user within a minute.", default=30, least=1, most=1_000_000
    )
    heartbeat_seconds: float = setting("Silence before a heartbeat.", default=15.0, unit="seconds", least=0.1, most=20)
    write_seconds: float = setting(
        "How long a reader may block one write.", default=10.0, unit="seconds", least=0.1, most=60
    )
    life_seconds: float = setting(
        "Middle length of a stream; each is drawn within a tenth of it.",
        default=600.0,
        unit="seconds",
        least=1,
        most=3600,
    )
    poll_seconds: float = setting(
        "How stale a reader may be when wake-ups are lost.", default=0.5, unit="seconds", least=0.01, most=10
    )
    lease_seconds: float = setting(
        "How long streams of a crashed replica count.", default=30.0, unit="seconds", least=1, most=300
    )
    session_check_seconds: float = setting(
        "Between two questions which sessions have ended.", default=10.0, unit="seconds", least=0.1, most=12
    )
    session_grace_seconds: float = setting(
        "How long streams go on while auth does not answer.", default=30.0, unit="seconds", least=0, most=60
    )
    database_grace_seconds: float = setting(
        "How long streams go on while the database is away.", default=60.0, unit="seconds", least=0, most=600
    )
    max_connections: int = setting("HTTP connections at once.", default=20_000, least=1, most=1_000_000)
