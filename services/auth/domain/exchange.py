"""Which service may act for a person at which other one. Source: RFC 8693, requirement T3."""

ALLOWED: frozenset[tuple[str, str]] = frozenset(
    {("files", "events"), ("events", "files"), ("backup", "files"), ("backup", "events")}
)
"""(caller, audience). A pair that is not here is refused, whatever the caller's credential."""


def allowed(caller: str, audience: str) -> bool:
    """Whether *caller* may have a user token for *audience*."""
    return (caller, audience) in ALLOWED
