"""Keys of objects, `<user id>/<object id>/<version id>`, and names of users' keys: made and checked here alone."""

import re

from services.files.domain.errors import ForeignObject

_ID = re.compile(r"[a-z0-9]{1,40}")


def object_key(user_id: str, object_id: str, version_id: str) -> str:
    """The key of one version's bytes. Raises ForeignObject for a part that is not an id: none can hold a divider."""
    parts = (user_id, object_id, version_id)
    if not all(_ID.fullmatch(part) for part in parts):
        raise ForeignObject("An object key is made of three ids.")
    return "/".join(parts)


def owned(key: str, user_id: str) -> str:
    """*key*, when it is a well-formed key whose first segment is exactly *user_id*; raises ForeignObject otherwise."""
    parts = key.split("/")
    if len(parts) != 3 or parts[0] != user_id or object_key(*parts) != key:
        raise ForeignObject("The object is not one of the caller's own.")
    return key


def key_name(user_id: str, key_id: str) -> str:
    """The name of a user's key in the bucket of keys; with "" for *key_id* what all of the user's begin with.

    Raises ForeignObject for a part that is not an id.
    """
    if not _ID.fullmatch(user_id) or (key_id and not _ID.fullmatch(key_id)):
        raise ForeignObject("The name of a key is made of two ids.")
    return f"{user_id}/{key_id}"
