"""Every option that decides what a call of pgBackRest does, said on that call: no default may move under us.

What says where things are (repository, server, directories, processes, compression) and every secret is in the
engine's file, which deploy.pgbackrest.conf writes in full. The command line beats the file, and no secret is on it.
"""

from collections.abc import Mapping, Sequence

ARCHIVE_SECONDS = 60
# The engine makes four attempts: an absent store is named after four times these.
PROBE_IO_SECONDS = 1
ASK_IO_SECONDS = 5
WORK_IO_SECONDS = 60
_SILENT = ("--log-level-console=off", "--log-level-stderr=error", "--log-level-file=off", "--log-timestamp")
_TELLING = ("--log-level-console=info", "--log-level-stderr=error", "--log-level-file=detail", "--log-timestamp")
_NETWORK = ("--sck-keep-alive", "--buffer-size=1MiB")
_WORKERS = ("--protocol-timeout=1830", "--no-log-subprocess", "--compress-level-network=3")

_VERBS: Mapping[str, Sequence[str]] = {
    "info": (*_SILENT, *_NETWORK, "--output=json"),
    "repo-ls": (*_SILENT, *_NETWORK, "--sort=asc", "--output=json"),
    "verify": (
        "--log-level-console=off", "--log-level-stderr=error", "--log-level-file=info", "--log-timestamp",
        *_NETWORK, *_WORKERS, "--output=text", "--verbose",
    ),
    "backup": (
        *_TELLING, *_NETWORK, *_WORKERS, "--db-timeout=1800", "--online",
        "--archive-check", "--no-archive-copy", "--archive-mode-check", f"--archive-timeout={ARCHIVE_SECONDS}",
        "--no-backup-standby", "--checksum-page", "--no-delta", "--start-fast", "--no-stop-auto",
        # A resumed backup writes to the names its predecessor used. Tried with 2.45, bundles and S3, after a first try
        # to resume had been refused a deletion: the backup ended well, and verify found 397 of 1444 files damaged.
        "--no-resume",
        "--manifest-save-threshold=1GiB",
        # Old backups leave on a timer of their own: also when new ones fail.
        "--no-expire-auto",
    ),
    "expire": (*_TELLING, *_NETWORK),
    "stanza-create": (
        *_TELLING, *_NETWORK, *_WORKERS, "--db-timeout=60", "--online",
    ),
    "stanza-upgrade": (
        *_TELLING, *_NETWORK, *_WORKERS, "--db-timeout=60", "--online",
    ),
    "restore": (
        *_TELLING, *_NETWORK, *_WORKERS, "--archive-mode=off",
        "--target-timeline=latest", "--no-delta", "--no-link-all",
    ),
    # In the foreground: nothing is spooled, and exit code 1 means that the archive has no such file.
    "archive-get": (
        "--log-level-console=info", "--log-level-stderr=error", "--log-level-file=off", "--log-timestamp",
        *_NETWORK, *_WORKERS, "--no-archive-async", "--archive-missing-retry",
        f"--archive-timeout={ARCHIVE_SECONDS}",
    ),
}  # fmt: skip


def options(verb: str, *, io_seconds: int) -> list[str]:
    """What each call of *verb* is told, beside what the call is about. io_seconds: how long work waits for the store;
    questions wait less."""
    patience = min(io_seconds, ASK_IO_SECONDS) if verb in ("info", "repo-ls") else io_seconds
    return [*_VERBS[verb], f"--io-timeout={patience}"]


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
