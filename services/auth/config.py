"""Settings of the auth service; see libs.config for where they come from."""

import base64
import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from libs.config import ServiceConfig, local_host, secret, setting
from libs.secret import Secret, weakness
from services.auth.domain import keyring, origin
from services.auth.domain.session import Lifetimes

_KEY_FILES = ("root_keys", "cookie_keys")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ServiceConfig):
    """What every service needs, and: keys, the pages that may call, sessions, hashing, mail."""

    service: str = "auth"
    root_keys: Secret = secret(
        "Root of all user and service tokens; JSON of current, standby and previous. Nobody else's."
    )
    cookie_keys: Secret = secret("Keys of access handles and refresh tokens; the same JSON.")
    csrf_key: Secret = secret("Key of CSRF tokens.")
    allowed_origins: tuple[str, ...] = setting(
        "Pages that may call: scheme://host[:port], comma-separated, compared exactly.", default=()
    )
    access_seconds: float = setting("Life of an access handle.", default=1800.0, unit="seconds", least=60, most=1800)
    session_seconds: float = setting("Life of a session.", default=86400.0, unit="seconds", least=60, most=86400)
    remembered_seconds: float = setting(
        "Life of a session that is to be remembered.", default=604800.0, unit="seconds", least=60, most=604800
    )
    idle_seconds: float = setting(
        "How long a session lasts unused.", default=43200.0, unit="seconds", least=60, most=86400
    )
    remembered_idle_seconds: float = setting(
        "The same for one that is to be remembered.", default=259200.0, unit="seconds", least=60, most=604800
    )
    argon2_memory_kib: int = setting("Memory of one hash.", default=19456, unit="KiB", least=19456, most=4194304)
    argon2_time_cost: int = setting("Passes over that memory.", default=2, least=2, most=100)
    argon2_parallelism: int = setting("Lanes of one hash.", default=1, least=1, most=64)
    hash_workers: int = setting("Passwords hashed at once.", default=2, least=1, most=256)
    hash_queue: int = setting("Passwords that may wait for their turn.", default=64, least=1, most=10000)
    hash_queue_seconds: float = setting(
        "How long one may wait before the caller is told to come again.",
        default=3.0,
        unit="seconds",
        least=0.05,
        most=30,
    )
    smtp_host: str = setting("Mail submission server.", default="127.0.0.1")
    smtp_port: int = setting("Its port.", default=587, least=1, most=65535)
    smtp_tls: Literal["starttls", "tls", "off"] = setting("TLS to it; off only on loopback.", default="starttls")
    smtp_ca_file: str = setting("PEM file of the CAs that may vouch for it; empty for the system's.", default="")
    smtp_user: str = setting("Login at it; empty for none.", default="")
    smtp_password: Secret = secret("Password of smtp_user.", min_bytes=8, optional=True)
    mail_from: str = setting("Sender of our mails.", default="Holdfast <no-reply@localhost>")
    product_name: str = setting("What mails call this installation.", default="Holdfast")
    verify_page: str = setting("https page that takes a mailed token after #; empty for none.", default="")

    def faults(self) -> list[str]:
        """What is wrong between these fields."""
        found = [fault for text in self.allowed_origins for fault in _origin_faults(text)]
        found.extend(_key_faults(self))
        if self.smtp_tls == "off" and not local_host(self.smtp_host):
            found.append("HOLDFAST_SMTP_TLS can be off only on loopback")
        if bool(self.smtp_user) != bool(self.smtp_password):
            found.append("HOLDFAST_SMTP_USER and the secret smtp_password go together")
        if self.verify_page and not self.verify_page.startswith("https://"):
            found.append("HOLDFAST_VERIFY_PAGE has to be an https:// URL")
        if self.session_seconds < self.access_seconds:
            found.append("HOLDFAST_SESSION_SECONDS is shorter than HOLDFAST_ACCESS_SECONDS")
        return found

    def lifetimes(self) -> Lifetimes:
        """How long credentials and sessions last."""
        return Lifetimes(
            access=timedelta(seconds=self.access_seconds),
            absolute=timedelta(seconds=self.session_seconds),
            remembered=timedelta(seconds=self.remembered_seconds),
            idle=timedelta(seconds=self.idle_seconds),
            remembered_idle=timedelta(seconds=self.remembered_idle_seconds),
        )

    def origins(self) -> frozenset[tuple[str, str, int]]:
        """allowed_origins as they are compared."""
        return frozenset(found for text in self.allowed_origins if (found := origin.parse(text.lower())) is not None)


def _origin_faults(text: str) -> list[str]:
    if "*" in text:
        return ["HOLDFAST_ALLOWED_ORIGINS holds a wildcard: name each page's scheme, host and port"]
    found = origin.parse(text.lower())
    if found is None:
        return ["HOLDFAST_ALLOWED_ORIGINS holds something that is not scheme://host[:port]"]
    if found[0] == "http" and not local_host(found[1]):
        return ["HOLDFAST_ALLOWED_ORIGINS holds an http:// page that is not on loopback"]
    return []


def _key_faults(config: Config) -> list[str]:
    """Keys inside the files are secrets too: each fit by itself, and none equal to any other, the CSRF key included
    (S6).
    """
    found: list[str] = []
    owners: dict[bytes, str] = {}
    for name in _KEY_FILES:
        try:
            ring = keyring.parse(getattr(config, name).reveal())
        except ValueError as fault:
            found.append(f"secret {name} {fault}")
            continue
        for key in ring.by_kid.values():
            fault_of_key = weakness(key.secret) or weakness(base64.urlsafe_b64encode(key.secret))
            if fault_of_key:
                found.append(f"secret {name} holds a key that {fault_of_key}")
            if owners.setdefault(_digest(key.secret), name) != name:
                found.append(f"secret {name} holds a key that is also in {owners[_digest(key.secret)]}")
    shared = {owners[_digest(each)] for each in _spellings(config.csrf_key.reveal()) if _digest(each) in owners}
    return [*found, *(f"secret csrf_key is equal to a key in {name}" for name in sorted(shared))]


def _spellings(value: bytes) -> list[bytes]:
    """The value itself, and what it decodes to: the same bytes in another dress are the same secret."""
    try:
        return [value, keyring.unbase64(value.decode())]
    except ValueError:
        return [value]


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()
