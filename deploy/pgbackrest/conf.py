"""The configuration file of pgBackRest 2.45 and later, and the command lines that use it."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FULL_DAYS = 28
"""A full is kept until a newer one has this age too; with daily ones none outlives 30 days (B5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3:
    """A repository in an S3 bucket, which must exist. endpoint: host name, no address, no scheme. ca_file: who vouches
    for it; None: whom the system trusts.
    """

    bucket: str
    endpoint: str
    port: int
    region: str
    access_key: str
    secret_key: str
    ca_file: Path | None
    prefix: str = "/pgbackrest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A repository in a directory of this machine: for tests, and for a mounted off-site volume."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The Postgres server that is backed up; reached by its Unix socket as *user*."""

    data_dir: Path
    socket_dir: Path
    port: int
    user: str
    database: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """stanza: the name of the server in the repository. work_dir: 0700, for locks, spool and logs; not in /tmp, which
    is shared. cipher_pass: at least 32 characters; without it every backup is lost. processes: in parallel."""

    stanza: str
    repository: S3 | Directory
    server: Server
    work_dir: Path
    cipher_pass: str
    processes: int = 2


def render(settings: Settings) -> str:
    """The file's text. It holds secrets: `write` it. Raises ValueError for a value that would break its line."""
    lines = ["[global]"]
    for name, value in (*_repository(settings), *_GLOBAL.items(), *_paths(settings)):
        lines.append(f"{name}={_plain(name, value)}")
    lines += ["", f"[{_plain('stanza', settings.stanza)}]"]
    server = settings.server
    stanza = {
        "pg1-path": server.data_dir,
        "pg1-socket-path": server.socket_dir,
        "pg1-port": server.port,
        "pg1-user": server.user,
        "pg1-database": server.database,
    }
    lines += [f"{name}={_plain(name, value)}" for name, value in stanza.items()]
    return "\n".join(lines) + "\n"


_GLOBAL: Mapping[str, str | int] = {
    "repo1-cipher-type": "aes-256-cbc",
    "repo1-bundle": "y",
    "repo1-bundle-size": "20MiB",
    "repo1-bundle-limit": "2MiB",
    "repo1-hardlink": "n",
    "repo1-retention-full-type": "time",
    "repo1-retention-full": FULL_DAYS,
    "repo1-retention-archive-type": "full",
    "repo1-retention-history": FULL_DAYS,
    # archive-push-queue-max is left out on purpose: it throws unarchived WAL away and reports it as archived.
    "archive-async": "y",
    "archive-check": "y",
    "archive-copy": "n",
    "archive-mode-check": "y",
    "archive-timeout": 60,
    "backup-standby": "n",
    "buffer-size": "1MiB",
    "checksum-page": "y",
    "compress-type": "zst",
    "compress-level": 3,
    "compress-level-network": 3,
    "db-timeout": 1800,
    "delta": "n",
    "expire-auto": "y",
    "io-timeout": 60,
    "log-level-console": "warn",
    "log-level-file": "info",
    "log-level-stderr": "warn",
    "log-subprocess": "n",
    "log-timestamp": "y",
    "neutral-umask": "n",
    "protocol-timeout": 1830,
    "resume": "n",
    "sck-keep-alive": "y",
    "start-fast": "y",
    "stop-auto": "n",
}


def _repository(settings: Settings) -> list[tuple[str, object]]:
    where = settings.repository
    if isinstance(where, Directory):
        options: dict[str, object] = {"repo1-type": "posix", "repo1-path": where.path}
    else:
        options = {
            "repo1-type": "s3",
            "repo1-path": where.prefix,
            "repo1-s3-bucket": where.bucket,
            "repo1-s3-endpoint": where.endpoint,
            "repo1-s3-region": where.region,
            "repo1-s3-uri-style": "path",
            "repo1-s3-key-type": "shared",
            "repo1-s3-key": where.access_key,
            "repo1-s3-key-secret": where.secret_key,
            "repo1-storage-host": where.endpoint,
            "repo1-storage-port": where.port,
            "repo1-storage-verify-tls": "y",
        }
        if where.ca_file is not None:
            options["repo1-storage-ca-file"] = where.ca_file
    return [*options.items(), ("repo1-cipher-pass", settings.cipher_pass)]


def _paths(settings: Settings) -> list[tuple[str, object]]:
    work = settings.work_dir
    return [
        ("lock-path", work / "lock"),
        ("log-path", work / "log"),
        ("spool-path", work / "spool"),
        ("process-max", settings.processes),
    ]


def _plain(name: str, value: object) -> str:
    text = str(value)
    if not text or text != text.strip() or any(character in text for character in "\n\r\0"):
        raise ValueError(f"{name} is empty, has spaces around it or is more than one line")
    return text


def write(path: Path, text: str, *, owner: tuple[int, int] | None = None) -> None:
    """Replace *path* by *text*, mode 0600. owner: uid and gid, when root writes for another user."""
    fresh = path.with_suffix(".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        if owner is not None:
            os.fchown(file.fileno(), *owner)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def command(config: Path, stanza: str, *arguments: str) -> list[str]:
    """A pgbackrest call as argv; secrets come from *config*."""
    return ["pgbackrest", f"--config={config}", f"--stanza={stanza}", *arguments]


def archive_command(config: Path, stanza: str) -> str:
    """The value of Postgres' archive_command; percent signs in paths are doubled as Postgres wants them."""
    words = [word.replace("%", "%%") for word in command(config, stanza, "archive-push")]
    return f'{shlex.join(words)} "%p"'


def postgres_settings(config: Path, stanza: str) -> dict[str, str]:
    """What postgresql.conf needs so that WAL is archived at least every minute; RPO ≤ 15 min allows several misses."""
    return {
        "archive_mode": "on",
        "archive_command": archive_command(config, stanza),
        "archive_timeout": "60s",
        "wal_level": "replica",
    }
