"""`repo-ls --recurse --output=json`, read leniently."""

import json
from datetime import UTC, datetime

from services.backup.domain.errors import EngineFailed
from services.backup.domain.listing import Listing, Stored, listing


def parse(text: str, stanza: str) -> Listing:
    """The files of *stanza*. Raises EngineFailed for output of another shape."""
    try:
        found = json.loads(text)
        files = {path: one for path, one in found.items() if one.get("type") == "file"}
        objects = [
            Stored(path, int(one["size"]), datetime.fromtimestamp(int(one["time"]), UTC)) for path, one in files.items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineFailed(
            "pgbackrest repo-ls could not be read.", command="repo-ls", fault=type(error).__name__
        ) from error
    return listing(objects, stanza)
