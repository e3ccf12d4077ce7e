"""Every option that decides what a call of pgBackRest does, said on that call: no default may move under us.

What says where things are (repository, server, directories, processes, compression) and every secret is in the
engine's file, which deploy.pgbackrest.conf writes in full. The command line beats the file, and no secret is on it.
"""

from collections.abc import Mapping, Sequence

ARCHIVE_SECONDS = 60
_IO_SECONDS = 60
# One attempt of four that the engine makes: an absent store is named after four times this.
PROBE_IO_SECONDS = 1
_ASK_IO_SECONDS = 5
_SILENT = ("--log-level-console=off", "--log-level-stderr=error", "--log-level-file=off", "--log-timestamp")
_TELLING = ("--log-level-console=info", "--log-level-stderr=error", "--log-level-file=detail", "--log-timestamp")
_NETWORK = ("--sck-keep-alive", "--buffer-size=1MiB")
_WORKERS = ("--protocol-timeout=1830", "--no-log-subprocess", "--compress-level-network=3")

_VERBS: Mapping[str, Sequence[str]] = {
    "info": (*_SILENT, *_NETWORK, f"--io-timeout={_ASK_IO_SECONDS}", "--output=json"),
    "repo-ls": (*_SILENT, *_NETWORK, f"--io-timeout={_ASK_IO_SECONDS}", "--sort=asc", "--output=json"),
    "verify": (
        "--log-level-console=off", "--log-level-stderr=error", "--log-level-file=info", "--log-timestamp",
        *_NETWORK, *_WORKERS, f"--io-timeout={_IO_SECONDS}", "--output=text", "--verbose",
    ),
    "backup": (
        *_TELLING, *_NETWORK, *_WORKERS, f"--io-timeout={_IO_SECONDS}", "--db-timeout=1800", "--online",
        "--archive-check", "--no-archive-copy", "--archive-mode-check", f"--archive-timeout={ARCHIVE_SECONDS}",
        "--no-backup-standby", "--checksum-page", "--no-delta", "--resume", "--start-fast", "--no-stop-auto",
        "--manifest-save-threshold=1GiB",
        # Old backups leave on a timer of their own: also when new ones fail.
        "--no-expire-auto",
    ),
    "expire": (*_TELLING, *_NETWORK, f"--io-timeout={_IO_SECONDS}"),
    "stanza-create": (
        *_TELLING, *_NETWORK, *_WORKERS, f"--io-timeout={_IO_SECONDS}", "--db-timeout=60", "--online",
    ),
    "stanza-upgrade": (
        *_TELLING, *_NETWORK, *_WORKERS, f"--io-timeout={_IO_SECONDS}", "--db-timeout=60", "--online",
    ),
    "restore": (
        *_TELLING, *_NETWORK, *_WORKERS, f"--io-timeout={_IO_SECONDS}", "--archive-mode=off",
        "--target-timeline=latest", "--no-delta", "--no-link-all",
    ),
    # In the foreground: nothing is spooled, and exit code 1 means that the archive has no such file.
    "archive-get": (
        "--log-level-console=info", "--log-level-stderr=error", "--log-level-file=off", "--log-timestamp",
        *_NETWORK, *_WORKERS, f"--io-timeout={_IO_SECONDS}", "--no-archive-async", "--archive-missing-retry",
        f"--archive-timeout={ARCHIVE_SECONDS}",
    ),
}  # fmt: skip


def options(verb: str) -> list[str]:
    """What each call of *verb* is told, beside what the call is about."""
    return list(_VERBS[verb])


def retention(days: int) -> list[str]:
    """How long fulls are kept: at least *days*, with everything that builds on them and the WAL behind them."""
    return [
        "--repo1-retention-full-type=time",
        f"--repo1-retention-full={days}",
        "--repo1-retention-archive-type=full",
        # Manifests of backups long gone name files of the database.
        f"--repo1-retention-history={days}",
    ]


def retention_by_count(fulls: int, days: int) -> list[str]:
    """Keep all of *fulls*, which is how many there are, and no WAL from before the oldest. days: of old manifests."""
    return [
        "--repo1-retention-full-type=count",
        f"--repo1-retention-full={fulls}",
        "--repo1-retention-archive-type=full",
        f"--repo1-retention-archive={fulls}",
        f"--repo1-retention-history={days}",
    ]
