"""Which facts an audit entry may hold: names on a list, values that can be neither a secret nor a person's address
(A2).
"""

import re
from collections.abc import Mapping

WITHHELD = "withheld"
LONGEST = 200

# fmt: off
ALLOWED = frozenset(
    (
        "account", "actor", "audience", "backup", "bytes", "cause", "channel", "class", "code", "count",
        "drill", "epoch", "event", "expires_at", "file", "generation", "job", "kid", "kind", "label", "lease",
        "level", "link", "method", "mode", "new_state", "offset", "old_state", "operator", "organization",
        "phase", "policy", "queue", "reason", "request", "restore", "resource", "role", "route", "scope", "scopes",
        "service", "session", "sessions", "size_bytes", "source", "state", "stream", "target", "tier", "type",
        "upload", "user", "version",
    )
)
# fmt: on

_SECRETIVE = (
    re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+"),  # an e-mail address
    re.compile(r"eyJ[\w-]*\.[\w-]*\.?"),  # a JWT
    re.compile(r"[a-z][a-z0-9+.-]*://\S", re.IGNORECASE),  # a URL: webhooks and connection strings carry their secret
    re.compile(r"[0-9a-zA-Z+/_=-]{40,}"),  # longer than any id of ours: a token, a key, a hash
)


def kept(facts: Mapping[str, str]) -> dict[str, str]:
    """*facts* as they may be stored: what is not on the list, too long or secret in shape stands as `withheld`.

    A name that is not on the list keeps its place, so that the gap is seen; an operation never fails because of it.
    """
    return {name[:40]: _value(name, str(value)) for name, value in facts.items()}


def _value(name: str, value: str) -> str:
    refused = name not in ALLOWED or len(value) > LONGEST or not value.isprintable()
    return WITHHELD if refused or any(shape.search(value) for shape in _SECRETIVE) else value
