"""Settings of the files service; see libs.config for where they come from."""

from dataclasses import dataclass

from libs.config import ServiceConfig, secret, setting
from libs.crypto.envelope import parse_roots
from libs.secret import Secret

_MIB = 1024 * 1024
_OLDEST_BACKUP_SECONDS = 30 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ServiceConfig):
    """What the files service needs beside what every service needs."""

    service: str = "files"
    s3_endpoint: str = setting("https URL of the object store.")
    s3_region: str = setting("Region that requests are signed for.", default="us-east-1")
    s3_bucket: str = setting("Bucket of the file bytes.", default="files")
    s3_ca_file: str = setting(
        "PEM file of the CAs that may vouch for the object store; empty for the system's.", default=""
    )
    s3_access_key: Secret = secret(
        "Access key of an identity that may read, write and delete in the bucket.", min_bytes=16
    )
    s3_secret_key: Secret = secret("Secret key of that identity.")
    s3_keys_bucket: str = setting("Bucket of users' keys, which keeps no versions of objects.", default="keys")
    s3_keys_access_key: Secret = secret("Access key of an identity for that bucket and no other.", min_bytes=16)
    s3_keys_secret_key: Secret = secret("Its secret.")
    key_encryption_keys: Secret = secret(
        "Root keys, each of 32 bytes, which wrap users' keys: current, standby and previous, as auth's root_keys are."
    )
    key_cache_seconds: float = setting(
        "How long a user's key is kept in memory: as long an erased one may still open files in another replica.",
        default=60.0,
        unit="seconds",
        least=0,
        most=300,
    )
    key_life_seconds: float = setting(
        "How old a user's key may be before an upload has it changed.", default=365 * 86400.0, unit="seconds", least=0
    )
    s3_threads: int = setting("How many calls to the object store run at once.", default=32, least=2, most=512)
    user_token_keys: Secret = secret(
        "Keys of user tokens for the audience files, as `holdfast keys derive` writes them."
    )
    page_key: Secret = secret("Key that authenticates page tokens.")
    max_file_bytes: int = setting(
        "Largest file; larger ones are refused before their body.", default=110 * _MIB, unit="bytes", least=1
    )
    uploads_at_once: int = setting(
        "Bodies received at a time, each up to 32 MiB of memory; further ones wait.", default=16, least=1, most=1024
    )
    upload_seconds: float = setting("Longest an upload may take.", default=3600.0, unit="seconds", least=1)
    upload_expiry_seconds: float = setting(
        "When an upload that was not finished is removed; has to be longer than upload_seconds.",
        default=4200.0,
        unit="seconds",
        least=0,
    )
    recovery_seconds: float = setting(
        "How long the bytes of deleted files and replaced versions are kept; as long as the oldest backup, because a"
        " database restored from it names them again.",
        default=_OLDEST_BACKUP_SECONDS,
        unit="seconds",
        least=0,
    )

    def faults(self) -> list[str]:
        """What is wrong between these fields."""
        found = []
        if not self.s3_endpoint.startswith("https://"):
            found.append("HOLDFAST_S3_ENDPOINT has to be an https:// URL: bytes never travel in the clear")
        try:
            parse_roots(self.key_encryption_keys.reveal())
        except ValueError as fault:
            found.append(f"secret key_encryption_keys cannot be used: {fault}")
        if self.s3_keys_bucket == self.s3_bucket:
            found.append("HOLDFAST_S3_KEYS_BUCKET has to be another bucket than HOLDFAST_S3_BUCKET")
        if self.upload_expiry_seconds <= self.upload_seconds and self.production:
            found.append("HOLDFAST_UPLOAD_EXPIRY_SECONDS has to be longer than HOLDFAST_UPLOAD_SECONDS")
        if self.recovery_seconds < _OLDEST_BACKUP_SECONDS and self.production:
            found.append(
                "HOLDFAST_RECOVERY_SECONDS has to be at least 2592000, the age of the oldest backup: restored, it would"
                " name files whose bytes are gone"
            )
        return found
