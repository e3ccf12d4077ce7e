"""The stack's generated secrets: one directory of files per service, mode 0600, each value made once and then kept.

`stack/` holds what no serving process may have: the owner role's password, the object store's set-up identity. A
service's directory holds its own and nothing else; the token root is auth's alone, the others get keys derived from
it.
"""

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from string import ascii_uppercase, digits

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from deploy.stack.layout import SERVICES
from deploy.stack.pki import write
from deploy.stack.seaweed import IDENTITIES, Identity
from holdfast.usertoken.keys import Key, Keys, derive_keys, parse_keys, write_keys

CALLERS = ("files", "events", "backup")  # services that call auth as themselves
STACK = "stack"
S3_SECRETS = {
    "files/s3_": "files",
    "files/s3_keys_": "files-keys",
    "backup/files_": "files-read",
    "backup/keys_": "files-keys-read",
}
"""Where each service finds its key pairs of the object store: beginning of two names → identity."""
LETTERS = ascii_uppercase + digits  # of an access key; hexadecimal digits alone now and then lack variety


class Vault:
    """The secret files below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def once(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The value of `name` (`service/field`), made when there is none."""
        path = self.root / name
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write(path, make())
        return path.read_bytes()

    def ensure(self) -> None:
        """Make every secret that is missing."""
        for service in SERVICES:
            self.once(f"{service}/database_password", random_text)
            self.once(f"{service}/page_key", random_text)
        roots = parse_keys(self.once("auth/root_keys", fresh_keys))
        self.once("auth/cookie_keys", fresh_keys)
        self.once("auth/csrf_key", random_text)
        for service in SERVICES:
            self._derived(f"{service}/user_token_keys", derive_keys(roots, service))
        for service in CALLERS:
            self._derived(f"{service}/service_credential", derive_keys(roots, f"service/{service}"))
        identities = self.identities()
        for names, identity in S3_SECRETS.items():
            pair = identities[identity]
            self._derived_bytes(f"{names}access_key", pair.access_key.encode())
            self._derived_bytes(f"{names}secret_key", pair.secret_key.encode())
        self.once("files/key_encryption_keys", fresh_keys)
        self.once(f"{STACK}/owner_password", random_text)
        self.once(f"{STACK}/store_inner_key", random_text)
        self.once(f"{STACK}/canary_password", random_text)
        self.once(f"{STACK}/repository_cipher", random_text)
        self.once("backup/heartbeat_key", random_text)
        self.once("backup/evidence_key", fresh_signing_key)

    def evidence(self, pair: Identity) -> None:
        """Give backup the key pair that puts evidence."""
        self._derived_bytes("backup/evidence_access_key", pair.access_key.encode())
        self._derived_bytes("backup/evidence_secret_key", pair.secret_key.encode())

    def identities(self) -> dict[str, Identity]:
        """The object store's key pairs by name; one that came with a later version is made beside the others."""
        name = f"{STACK}/s3_identities.json"
        kept = json.loads(self.once(name, fresh_identities))
        if missing := set(IDENTITIES) - set(kept):
            kept |= {one: pair for one, pair in json.loads(fresh_identities()).items() if one in missing}
            write(self.root / name, json.dumps(kept, indent=1).encode())
        return {name: Identity(**kept[name]) for name in IDENTITIES}

    def text(self, name: str) -> str:
        """One value as text."""
        return (self.root / name).read_text(encoding="utf-8").strip()

    def role_passwords(self) -> dict[str, bytes]:
        """Database role → password."""
        passwords = {f"holdfast_{service}": self.text(f"{service}/database_password").encode() for service in SERVICES}
        return {**passwords, "holdfast_owner": self.text(f"{STACK}/owner_password").encode()}

    def _derived(self, name: str, keys: Keys) -> None:
        self._derived_bytes(name, write_keys(keys))

    def _derived_bytes(self, name: str, wanted: bytes) -> None:
        """Write what follows from another secret, unless it stands: services reload a file that changes."""
        path = self.root / name
        if not path.exists() or path.read_bytes() != wanted:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write(path, wanted)


def random_text() -> bytes:
    """32 random bytes as base64url."""
    return secrets.token_urlsafe(32).encode() + b"\n"


def fresh_keys() -> bytes:
    """A key file with a signing key and the one that will follow it."""
    return write_keys(Keys(_key("k1"), _key("k2")))


def fresh_identities() -> bytes:
    """Key pairs for every identity of the object store, as JSON."""
    made = {
        name: {
            "access_key": "".join(secrets.choice(LETTERS) for _ in range(20)),
            "secret_key": secrets.token_urlsafe(32),
        }
        for name in IDENTITIES
    }
    return json.dumps(made, indent=1).encode()


def fresh_signing_key() -> bytes:
    """An Ed25519 private key: PKCS #8 as PEM."""
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Ed25519PrivateKey.generate().private_bytes(*form)


def public_key(signing_key: bytes) -> bytes:
    """Of a key that fresh_signing_key made: PEM."""
    private = load_pem_private_key(signing_key, password=None)
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _key(kid: str) -> Key:
    return Key(f"{kid}-{secrets.token_hex(3)}", secrets.token_bytes(32))
