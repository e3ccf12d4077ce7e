"""pgBackRest 2.45 and later. A result = exit code, the stanza's status code, the backup's error flag, verify's words.

Source: the pgBackRest user guide and command reference. Secrets are in configuration files (0600) alone; nothing secret
is ever an argument. Three of those files, from the weakest identity to the strongest: one may only read (restore,
verify, listings), one may add (backups), one may also delete (expiry, and the backup after one that was broken off).
"""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from services.backup.adapters import command, pgbackrest_listing, pgbackrest_verify
from services.backup.adapters.command import Finished
from services.backup.adapters.pgbackrest_exits import configured, judge
from services.backup.adapters.pgbackrest_info import parse_info
from services.backup.adapters.pgbackrest_options import (
    PROBE_IO_SECONDS,
    WORK_IO_SECONDS,
    options,
    retention,
    retention_by_count,
)
from services.backup.domain.errors import EngineAway, EngineFailed
from services.backup.domain.listing import Listing
from services.backup.domain.repository import BackupType, Repository, Stored
from services.backup.domain.verification import Verification

__all__ = ["PgBackRest", "parse_info"]

_NOT_IN_ARCHIVE = 1
# The engine tries four times: it names an absent store after 20 s, before this would end it wordless.
_ASK_SECONDS = 60.0
_LIST_SECONDS = 900.0
_WORK_SECONDS = 6 * 3600.0
_POLL_SECONDS = 2.0  # each look costs a tenth of a second of one core that the backup itself could use
_LABEL = re.compile(r"new backup label = (\S+)")
_LOG_PATH = re.compile(r"^log-path=(.+)$", re.MULTILINE)
_DROPPED = re.compile(r"dropped WAL file '([0-9A-F]{24})'")
_LOG_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class PgBackRest:
    """Engine over the pgbackrest program.

    config: its file with the identity that may add; restore_config: that of drills, which may only read;
    expire_config: that of the keeper, which may delete. retention_days: how long fulls are kept at least. io_seconds:
    how long one of four attempts to reach the store may take.
    """

    program: str
    stanza: str
    config: Path
    restore_config: Path
    expire_config: Path
    retention_days: int = 28
    io_seconds: int = WORK_IO_SECONDS

    async def version(self) -> str:
        """E.g. "pgBackRest 2.45"."""
        return (await command.run([self.program, "version"], timeout_seconds=_ASK_SECONDS)).out.strip()

    async def inspect(self) -> Repository:
        """`info` as JSON: exits 0 whatever it finds, so the status code inside decides."""
        done = await self._run("info", self.restore_config, timeout_seconds=_ASK_SECONDS)
        judge("info", done, self._log("info"))
        return parse_info(done.out, self.stanza, log=self._log("info"))

    async def probe(self) -> None:
        """Return when the store answers; one that does not is named within five seconds."""
        quick = f"--io-timeout={PROBE_IO_SECONDS}"
        done = await self._run("repo-ls", self.config, quick, f"backup/{self.stanza}", timeout_seconds=_ASK_SECONDS)
        judge("repo-ls", done, self._log("repo-ls"))

    async def backup(self, type: BackupType, progress: Callable[[float], None]) -> Stored:
        """One backup: the one the engine names, found in the repository afterwards and not damaged."""
        await self.probe()
        config = await self._able()
        watching = asyncio.create_task(self._watch(progress))
        try:
            done = await self._run("backup", config, f"--type={type.value}", *retention(self.retention_days))
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        judge("backup", done, self._log("backup"))
        after = await self.inspect()
        named = _LABEL.search(done.out)
        fresh = [stored for stored in after.backups if named and stored.label == named[1]]
        if not fresh or not after.healthy:
            raise EngineFailed(
                f"The backup ended, but the repository does not show it: {after.message}", command="backup"
            )
        if fresh[-1].damaged:
            raise EngineFailed(
                "Page checksums failed while the backup was taken: the database itself is damaged. Find the relation"
                f" in {self._log('backup')}, and keep the older backups.",
                command="backup", backup=fresh[-1].label, log=self._log("backup"),
            )  # fmt: skip
        return fresh[-1]

    async def verify(self) -> Verification:
        """Read the whole repository again. Exits 0 whatever it finds, so its words decide."""
        listed = {one.label for one in (await self.inspect()).backups}
        done = await self._run("verify", self.restore_config)
        judge("verify", done, self._log("verify"))
        return pgbackrest_verify.parse(done.out, self.stanza, listed)

    async def listing(self) -> Listing:
        """Every object of the stanza, as the store itself lists them."""
        done = await self._run("repo-ls", self.restore_config, "--recurse", timeout_seconds=_LIST_SECONDS)
        judge("repo-ls", done, self._log("repo-ls"))
        return await asyncio.to_thread(pgbackrest_listing.parse, done.out, self.stanza)

    async def expire(self) -> None:
        """Delete what the retention no longer asks for, and what broken off backups left."""
        done = await self._run("expire", self.expire_config, *retention(self.retention_days))
        judge("expire", done, self._log("expire"))

    async def remove(self, label: str) -> None:
        """Delete one backup, all that builds on it, and the WAL before the oldest full one that is left.

        The retention by time keeps that WAL until every full left is as old as it asks for; one by count does not.
        """
        done = await self._run("expire", self.expire_config, f"--set={label}", *retention(self.retention_days))
        judge("expire", done, self._log("expire"))
        left = sum(one.full for one in (await self.inspect()).backups)
        done = await self._run("expire", self.expire_config, *retention_by_count(left, self.retention_days))
        judge("expire", done, self._log("expire"))

    async def create_stanza(self) -> None:
        """Make the server known to the repository; repeating it is safe."""
        done = await self._run("stanza-create", self.config, timeout_seconds=_ASK_SECONDS * 2)
        judge("stanza-create", done, self._log("stanza-create"))

    async def upgrade_stanza(self) -> None:
        """Make the repository follow the server to its new version or identity; earlier backups stay."""
        done = await self._run("stanza-upgrade", self.config, timeout_seconds=_ASK_SECONDS * 2)
        judge("stanza-upgrade", done, self._log("stanza-upgrade"))

    async def dropped(self) -> frozenset[str]:
        """Segments that the engine's own logs say it threw away unarchived; empty when it keeps no log here."""
        return await asyncio.to_thread(self._dropped)

    async def restore(
        self, label: str, *, target: datetime | None, lsn: str = "", data_dir: Path, work_dir: Path
    ) -> None:
        """Every file is hashed while it is written; a byte that differs fails the restore."""
        kind = ["--type=default"]
        if target is not None:
            kind = ["--type=time", f"--target={_moment(target)}", "--target-action=promote"]
        if lsn:
            kind = ["--type=lsn", f"--target={lsn}", "--target-action=promote"]
        how = [
            *kind,
            f"--set={label}",
            f"--tablespace-map-all={work_dir / 'tablespaces'}",
            # A file that is really damaged stays so: try again soon, and say it soon. S3 has retries of its own.
            "--job-retry=2",
            "--job-retry-interval=2",
        ]
        done = await self._run("restore", self.restore_config, *how, *_places(data_dir, work_dir))
        judge("restore", done, work_dir / "log" / f"{self.stanza}-restore.log")

    async def fetch_wal(self, name: str, destination: Path, *, data_dir: Path, work_dir: Path) -> bool:
        """archive-get, in the foreground: exit code 1 is the archive's end, not a fault."""
        # In the foreground nothing is spooled, and the engine refuses to be told where.
        places = [option for option in _places(data_dir, work_dir) if not option.startswith("--spool-path")]
        done = await self._run("archive-get", self.restore_config, *places, name, str(destination))
        if done.code == _NOT_IN_ARCHIVE:
            return False
        judge("archive-get", done, work_dir / "postgres.log")
        return True

    async def _able(self) -> Path:
        """The file of the weakest identity that can take a backup now.

        What an earlier one left when it was broken off is removed by the engine first, for which it has to delete.
        """
        listed = {one.label for one in (await self.inspect()).backups}
        return self.expire_config if (await self.listing()).labels() - listed else self.config

    async def _watch(self, progress: Callable[[float], None]) -> None:
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            with suppress(EngineFailed, EngineAway):
                percent = (await self.inspect()).running_percent
                if percent is not None:
                    progress(percent)

    async def _run(self, verb: str, config: Path, *words: str, timeout_seconds: float = _WORK_SECONDS) -> Finished:
        own = {word.split("=")[0] for word in words}
        told = [word for word in options(verb, io_seconds=self.io_seconds) if word.split("=")[0] not in own]
        argv = [self.program, verb, f"--config={config}", f"--stanza={self.stanza}", *told, *words]
        try:
            done = await command.run(argv, timeout_seconds=timeout_seconds)
        except OSError as error:
            raise EngineFailed("The backup engine could not be started.", command=verb, fault=error.strerror) from error
        configured(verb, done, config)
        return done

    def _log(self, verb: str) -> Path:
        """Where *verb* tells more than it prints."""
        return self._logs() / f"{self.stanza}-{verb}.log"

    def _logs(self) -> Path:
        try:
            found = _LOG_PATH.search(self.config.read_text(encoding="utf-8"))
        except OSError:
            found = None
        return Path(found[1].strip()) if found else Path("/var/log/pgbackrest")

    def _dropped(self) -> frozenset[str]:
        found: set[str] = set()
        for path in sorted(self._logs().glob(f"{self.stanza}-archive-push*.log")):
            with suppress(OSError), path.open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - _LOG_BYTES))
                found |= set(_DROPPED.findall(file.read().decode(errors="replace")))
        return frozenset(found)


def _places(data_dir: Path, work_dir: Path) -> list[str]:
    """Everything a copy's engine run touches, apart from production's own."""
    return [
        f"--pg1-path={data_dir}",
        f"--lock-path={work_dir / 'lock'}",
        f"--spool-path={work_dir / 'spool'}",
        f"--log-path={work_dir / 'log'}",
    ]


def _moment(at: datetime) -> str:
    """As recovery_target_time: microseconds, and an offset that nobody can misread."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
