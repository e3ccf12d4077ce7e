"""Settings of the backup service; see libs.config for where they come from."""

import re
from dataclasses import dataclass
from pathlib import Path

from libs.config import ServiceConfig, secret, setting
from libs.secret import Secret
from services.backup.domain.evidence import Signer

_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ServiceConfig):
    """What the backup service needs beside what every service needs."""

    service: str = "backup"
    operator_socket: str = setting("Unix socket for operators of this machine; empty for none.", default="")
    operator_uids: tuple[str, ...] = setting("Users who are operators beside root and the service's own.", default=())
    state_dir: str = setting("Directory of journals, the heartbeat ledger and drill copies; on an encrypted volume.")
    pgbackrest_program: str = setting("The engine.", default="/usr/bin/pgbackrest")
    pgbackrest_config: str = setting("Its configuration file, with the identity that may add to the repository.")
    pgbackrest_expire_config: str = setting(
        "The same with an identity that may also delete, for expiry; empty to use pgbackrest_config.", default=""
    )
    pgbackrest_drill_config: str = setting(
        "The same with an identity that may only read, for restores; empty to use pgbackrest_config.", default=""
    )
    engine_io_seconds: int = setting(
        "How long its work waits for a silent store; it makes four attempts, and three at each file of a restore.",
        default=60,
        unit="seconds",
        least=1,
        most=3600,
    )
    stanza: str = setting("Name of the server in the repository.", default="holdfast")
    retention_days: int = setting(
        "How long full backups are kept at least; at most two days longer, as long as new ones succeed.",
        default=28,
        unit="days",
        least=1,
        most=28,
    )
    postgres_binaries: str = setting("Directory of the programs of PostgreSQL, of the version that is backed up.")
    postgres_superuser: str = setting("Superuser of the cluster, as a copy knows it.", default="postgres")
    hidden_paths: tuple[str, ...] = setting(
        "Directories that a copy must not see: data, secrets and sockets of the running installation.", default=()
    )
    drill_probes: tuple[str, ...] = setting(
        "What a copy must not reach beside the database and the engine's file: unix:PATH, file:PATH, tcp:HOST:PORT.",
        default=(),
    )
    heartbeat_seconds: float = setting("Between two heartbeats.", default=45.0, unit="seconds", least=0.5, most=300)
    recovery_seconds: float = setting(
        "How long a copy may take to recover.", default=4 * 3600.0, unit="seconds", least=1, most=7 * 86400
    )
    files_endpoint: str = setting(
        "https URL of the object store of file bytes, for drills to compare with; empty: drills say so.", default=""
    )
    files_region: str = setting("Its region.", default="us-east-1")
    files_bucket: str = setting("Its bucket.", default="files")
    files_ca_file: str = setting("PEM file of the CAs that vouch for it; empty for the system's.", default="")
    files_access_key: Secret = secret("Access key that may only read that bucket.", min_bytes=16, optional=True)
    files_secret_key: Secret = secret("Its secret.", optional=True)
    keys_bucket: str = setting("Bucket of users' keys in the same store.", default="keys")
    keys_access_key: Secret = secret("Access key that may only read that bucket.", min_bytes=16, optional=True)
    keys_secret_key: Secret = secret("Its secret.", optional=True)
    marks_seconds: float = setting(
        "Between two high-water marks of all tenants; 0 for none.", default=3600.0, unit="seconds", least=0, most=86400
    )
    drill_light_seconds: float = setting(
        "Between two light drills; 0 for none.", default=86400.0, unit="seconds", least=0, most=8 * 86400
    )
    drill_deep_seconds: float = setting(
        "Between two deep drills; 0 for none.", default=7 * 86400.0, unit="seconds", least=0, most=8 * 86400
    )
    drill_jitter_seconds: float = setting(
        "By how much a drill may begin earlier, so that installations do not all begin at once.",
        default=3600.0,
        unit="seconds",
        least=0,
    )
    drill_spare_bytes: int = setting(
        "What a copy has to leave free on its disk; a drill that would not is refused.",
        default=512 << 20,
        unit="bytes",
        least=0,
    )
    schedule: bool = setting("Whether backups, expiry and verification are begun by themselves.", default=True)
    full_backup_at: str = setting("When the window of the daily full backup opens: HH:MM, UTC.", default="01:00")
    full_backup_window_seconds: float = setting(
        "How late in its window a full backup may begin; where exactly differs from day to day.",
        default=3600.0,
        unit="seconds",
        least=0,
        most=12 * 3600,
    )
    differential_seconds: float = setting(
        "From one backup to the next between two full ones.", default=6 * 3600.0, unit="seconds", least=600, most=86400
    )
    first_backup_seconds: float = setting(
        "How long a new installation is left alone before its first full backup.",
        default=600.0,
        unit="seconds",
        least=0,
        most=86400,
    )
    expire_seconds: float = setting(
        "Between two expiries, which do not depend on backups.",
        default=6 * 3600.0,
        unit="seconds",
        least=60,
        most=86400,
    )
    verify_seconds: float = setting(
        "Between two verifications, each of which reads the whole repository.",
        default=86400.0,
        unit="seconds",
        least=600,
        most=7 * 86400,
    )
    inventory_seconds: float = setting(
        "Between two listings of all objects in the repository, which find holes and what is too old.",
        default=900.0,
        unit="seconds",
        least=30,
        most=86400,
    )
    archive_wait_seconds: float = setting(
        "How long to wait for a segment to be archived.", default=60.0, unit="seconds", least=1, most=3600
    )
    escrow_records: str = setting(
        "Directory where the host remembers its escrow; empty: this service does not watch it.", default=""
    )
    escrow_opened: str = setting(
        "Where an operator opens an escrow for deep drills; not on a disk that is backed up. Empty: nowhere.",
        default="",
    )
    smoke_secrets: str = setting(
        "Directory with the secrets of auth, files and events, by which full drills start them; empty: they do not.",
        default="",
    )
    smoke_canary: str = setting("File that describes the canary full drills sign in as; empty: none.", default="")
    smoke_seconds: float = setting(
        "How long a service may take to be well on a copy.", default=60.0, unit="seconds", least=1, most=3600
    )
    evidence_endpoint: str = setting(
        "https URL of the off-site S3 store that keeps evidence; empty for none, which is a warning.", default=""
    )
    evidence_region: str = setting("Its region.", default="us-east-1")
    evidence_bucket: str = setting("Its bucket: versions, and a lock of three years.", default="evidence")
    evidence_ca_file: str = setting("PEM file of the CAs that vouch for it; empty for the system's.", default="")
    evidence_access_key: Secret = secret("Access key that may put into that bucket.", min_bytes=16, optional=True)
    evidence_secret_key: Secret = secret("Its secret.", optional=True)
    evidence_seconds: float = setting(
        "Between two looks whether evidence has to be sent anywhere.", default=5.0, unit="seconds", least=0.1, most=3600
    )
    user_token_keys: Secret = secret("Keys of user tokens for the audience backup.")
    page_key: Secret = secret("Key that authenticates page tokens.")
    heartbeat_key: Secret = secret("Key that signs heartbeats.")
    evidence_key: Secret = secret("Ed25519 private key that signs evidence: PKCS #8 as PEM, unencrypted.")

    def faults(self) -> list[str]:
        """What is wrong between these fields."""
        paths = ("state_dir", "pgbackrest_config", "postgres_binaries")
        relative = [name for name in paths if not Path(getattr(self, name)).is_absolute()]
        found = [f"HOLDFAST_{name.upper()} has to be an absolute path" for name in relative]
        if not (Path(self.postgres_binaries) / "postgres").is_file():
            found.append("HOLDFAST_POSTGRES_BINARIES has to hold the program postgres")
        if not _TIME.fullmatch(self.full_backup_at):
            found.append("HOLDFAST_FULL_BACKUP_AT has to be a time of day, HH:MM")
        if not all(uid.isdigit() for uid in self.operator_uids):
            found.append("HOLDFAST_OPERATOR_UIDS has to be numbers of users")
        if self.evidence_endpoint and not self.evidence_endpoint.startswith("https://"):
            found.append("HOLDFAST_EVIDENCE_ENDPOINT has to be an https:// URL")
        if self.evidence_endpoint and not (self.evidence_access_key and self.evidence_secret_key):
            found.append("HOLDFAST_EVIDENCE_ENDPOINT needs the secrets evidence_access_key and evidence_secret_key")
        try:
            Signer(self.evidence_key.reveal())
        except (ValueError, TypeError):
            found.append("secret evidence_key has to be an Ed25519 private key, PKCS #8 as PEM without a password")
        return found
