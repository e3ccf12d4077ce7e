"""The envelope of files: root key → key of a user → key of one version → its bytes. Two services read it.

Root keys are a list of generations (current, standby, previous), each of 32 bytes, in one secret file: the current one
wraps, all of them unwrap. A user's key lies in a bucket of its own as JSON {"version": 1, "root": kid, "wrapped":
base64url}, under `<user id>/<key id>`; `<user id>/erased` says that there are none and never will be. The key of a
version lies in its row. Each is bound to where it belongs, so that none opens in another's place.
"""

import json

from holdfast.usertoken.keys import Keys, decode, encode, parse_keys
from libs.crypto.wrap import KEY_BYTES, Damaged, unwrap, wrap
from libs.secret import weakness

ERASED = "erased"
"""The last segment of the object that says that a user's keys are erased."""


class UnknownRoot(Exception):
    """The user's key was wrapped by a root key that is not in the list."""


def parse_roots(text: bytes) -> Keys:
    """The root keys in a key file. Raises ValueError for one that is not 32 bytes, or that somebody could guess."""
    keys = parse_keys(text)
    for key in (keys.current, keys.standby, keys.previous):
        if key is not None and len(key.secret) != KEY_BYTES:
            raise ValueError(f"a root key has {KEY_BYTES} bytes")
        if key is not None and (fault := weakness(key.secret)):
            raise ValueError(f"a root key {fault}")
    return keys


def seal_user_key(key: bytes, roots: Keys, *, user_id: str, key_id: str) -> bytes:
    """*key* under the current root, as it is stored."""
    root = roots.current
    wrapped = wrap(key, root.secret, "user key", user_id, key_id, root.kid)
    return json.dumps({"version": 1, "root": root.kid, "wrapped": encode(wrapped)}).encode()


def open_user_key(stored: bytes, roots: Keys, *, user_id: str, key_id: str) -> bytes:
    """The key that seal_user_key was given. Raises Damaged and UnknownRoot."""
    try:
        found = json.loads(stored)
        kid, wrapped = str(found["root"]), decode(str(found["wrapped"]))
    except (ValueError, KeyError, TypeError):
        raise Damaged from None
    root = roots.find(kid)
    if root is None:
        raise UnknownRoot(kid)
    return unwrap(wrapped, root.secret, "user key", user_id, key_id, kid)


def of_current_root(stored: bytes, roots: Keys) -> bool:
    """Whether the current root wrapped it. Raises Damaged."""
    try:
        return bool(json.loads(stored)["root"] == roots.current.kid)
    except (ValueError, KeyError, TypeError):
        raise Damaged from None


def wrap_data_key(key: bytes, user_key: bytes, *, user_id: str, version_id: str, key_id: str) -> bytes:
    """The key of one version under the user's key *key_id*, as its row holds it."""
    return wrap(key, user_key, "data key", user_id, version_id, key_id)


def unwrap_data_key(wrapped: bytes, user_key: bytes, *, user_id: str, version_id: str, key_id: str) -> bytes:
    """The key that wrap_data_key was given. Raises Damaged."""
    return unwrap(wrapped, user_key, "data key", user_id, version_id, key_id)


def bytes_of(version_id: str) -> tuple[str, str]:
    """What a version's sealed bytes are bound to."""
    return "file", version_id
