"""The scope of a table, as its COMMENT declares it: `scope: user`, or `scope: global (why no tenant owns its rows)`."""

import re

SCOPES = ("user", "organization", "service", "global")
TENANT_COLUMNS = {
    "user": ("organization_id", "user_id"),
    "organization": ("organization_id",),
    "service": ("service",),
    "global": (),
}

_DECLARATION = re.compile(r"scope: (user|organization|service|global \(\S[^)]*\))(?:;.*)?", re.DOTALL)


def declared(comment: str | None) -> str:
    """The scope in *comment*, "" when it declares none; a global scope without a reason is none. Text after `;` is
    free.
    """
    found = _DECLARATION.fullmatch(comment or "")
    return found[1].split(" ", 1)[0] if found else ""
