"""A session as a stream remembers it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class SessionRef:
    """Ids as in the user token the stream was opened with."""

    organization_id: str
    user_id: str
    session_id: str
