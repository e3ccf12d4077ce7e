"""pgBackRest 2.45 and later. A result = exit code, the stanza's status code and the backup's error flag together.

Source: the pgBackRest user guide and command reference; exit codes are those of its error table, stable since 2.45.
Secrets are in the configuration file (0600) alone; nothing secret is ever an argument.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.backup.adapters import command
from services.backup.adapters.command import Finished
from services.backup.domain.errors import BackupBusy, EngineAway, EngineFailed
from services.backup.domain.heartbeat import position
from services.backup.domain.repository import BackupType, Repository, Stored

_LOCK_HELD = 50
_AWAY = {49, 56, 82, 101, 103}  # host connect, database connect, archive timeout, service error, no usable repository
_NOT_IN_ARCHIVE = 1
_EMPTY_STATUS = {1, 2}  # no stanza path yet, no backup yet: sound, and nothing there
_INFO_SECONDS = 60.0
# The engine tries four times: it names an absent store after 20 s, before _INFO_SECONDS would end it wordless.
_INFO_IO_SECONDS = 5
_WORK_SECONDS = 6 * 3600.0
_POLL_SECONDS = 2.0  # each look costs a tenth of a second of one core that the backup itself could use
_LABEL = re.compile(r"new backup label = (\S+)")


@dataclass(frozen=True, slots=True)
class PgBackRest:
    """Engine over the pgbackrest program. config: its file; restore_config: that of drills, which may only read."""

    program: str
    stanza: str
    config: Path
    restore_config: Path

    async def version(self) -> str:
        """E.g. "pgBackRest 2.45"."""
        return (await command.run([self.program, "version"], timeout_seconds=_INFO_SECONDS)).out.strip()

    async def inspect(self) -> Repository:
        """`info` as JSON: exits 0 whatever it finds, so the status code inside decides."""
        done = await self._run(
            "info", self.config, f"--io-timeout={_INFO_IO_SECONDS}", "--output=json", timeout_seconds=_INFO_SECONDS
        )
        _judge("info", done)
        return parse_info(done.out, self.stanza)

    async def backup(self, type: BackupType, progress: Callable[[float], None]) -> Stored:
        """One backup: the one the engine names, found in the repository afterwards and not damaged."""
        watching = asyncio.create_task(self._watch(progress))
        try:
            done = await self._run("backup", self.config, f"--type={type.value}", timeout_seconds=_WORK_SECONDS)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        _judge("backup", done)
        after = await self.inspect()
        named = _LABEL.search(done.out)
        fresh = [stored for stored in after.backups if named and stored.label == named[1]]
        if not fresh or not after.healthy:
            raise EngineFailed(
                f"The backup ended, but the repository does not show it: {after.message}", command="backup"
            )
        if fresh[-1].damaged:
            raise EngineFailed(
                "Page checksums failed while the backup was taken.", command="backup", backup=fresh[-1].label
            )
        return fresh[-1]

    async def restore(self, label: str, *, target: datetime | None, data_dir: Path, work_dir: Path) -> None:
        """Every file is hashed while it is written; a byte that differs fails the restore."""
        kind = ["--type=default"]
        if target is not None:
            kind = ["--type=time", f"--target={_moment(target)}", "--target-action=promote"]
        options = [
            *kind,
            f"--set={label}",
            "--archive-mode=off",
            "--target-timeline=latest",
            f"--tablespace-map-all={work_dir / 'tablespaces'}",
            "--no-delta",
            # A file that is really damaged stays so: try again soon, and say it soon. S3 has retries of its own.
            "--job-retry=2",
            "--job-retry-interval=2",
        ]
        done = await self._run("restore", self.restore_config, *options, *_places(data_dir, work_dir))
        _judge("restore", done)

    async def fetch_wal(self, name: str, destination: Path, *, data_dir: Path, work_dir: Path) -> bool:
        """archive-get, in the foreground: exit code 1 is the archive's end, not a fault."""
        # In the foreground nothing is spooled, and the engine refuses to be told where.
        places = [option for option in _places(data_dir, work_dir) if not option.startswith("--spool-path")]
        options = ["--no-archive-async", *places]
        done = await self._run("archive-get", self.restore_config, *options, name, str(destination))
        if done.code == _NOT_IN_ARCHIVE:
            return False
        _judge("archive-get", done)
        return True

    async def _watch(self, progress: Callable[[float], None]) -> None:
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            with suppress(EngineFailed, EngineAway):
                percent = (await self.inspect()).running_percent
                if percent is not None:
                    progress(percent)

    async def _run(self, verb: str, config: Path, *options: str, timeout_seconds: float = _WORK_SECONDS) -> Finished:
        argv = [
            self.program,
            verb,
            f"--config={config}",
            f"--stanza={self.stanza}",
            "--log-level-console=off" if verb == "info" else "--log-level-console=info",
            "--log-level-stderr=error",
            "--log-level-file=off" if verb in ("info", "archive-get") else "--log-level-file=detail",
            *options,
        ]
        try:
            return await command.run(argv, timeout_seconds=timeout_seconds)
        except OSError as error:
            raise EngineFailed("The backup engine could not be started.", command=verb, fault=error.strerror) from error


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


def _judge(verb: str, done: Finished) -> None:
    if done.code == 0:
        return
    if done.code == _LOCK_HELD:
        raise BackupBusy("The backup engine is busy.", command=verb)
    kind = EngineAway if done.code in _AWAY else EngineFailed
    raise kind(f"pgbackrest {verb} ended with code {done.code}: {done.last_words()}", command=verb, code=done.code)


def parse_info(text: str, stanza: str) -> Repository:
    """The repository in `info --output=json`, read leniently: later versions add fields, and none is relied on.

    Raises EngineFailed for output that is not of this shape, or a status that means the repository cannot be trusted.
    """
    try:
        stanzas = json.loads(text)
        if not isinstance(stanzas, list):
            raise TypeError
        found = [one for one in stanzas if one["name"] == stanza]
        if not found:
            return Repository(False, "the repository has no such stanza", (), "", "", None)
        return _stanza(found[0])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise EngineFailed("pgbackrest info could not be read.", command="info", fault=type(error).__name__) from error


def _stanza(found: Mapping[str, Any]) -> Repository:
    code, message = int(found["status"]["code"]), str(found["status"]["message"])
    lock = found["status"].get("lock", {}).get("backup", {})
    percent = lock.get("pct-cplt") if lock.get("held") else None
    backups = tuple(sorted((_stored(one) for one in found.get("backup", [])), key=lambda one: one.label.split("_")[-1]))
    if code not in _EMPTY_STATUS and code != 0:
        raise EngineFailed(f"The repository is not sound: {message}", command="info", status=code)
    newest = max((int(one["id"]) for one in found.get("db", [])), default=0)
    archive = [one for one in found.get("archive", []) if int(one["database"]["id"]) == newest and one.get("max")]
    low, high = (str(archive[-1]["min"]), str(archive[-1]["max"])) if archive else ("", "")
    return Repository(code == 0, message, backups, low, high, None if percent is None else float(percent))


def _stored(one: Mapping[str, Any]) -> Stored:
    info = one["info"]
    return Stored(
        label=str(one["label"]),
        type=BackupType(one["type"]),
        started_at=datetime.fromtimestamp(int(one["timestamp"]["start"]), UTC),
        ended_at=datetime.fromtimestamp(int(one["timestamp"]["stop"]), UTC),
        database_bytes=int(info["size"]),
        repository_bytes=int(info["repository"].get("delta", 0)),
        wal_start=str(one["archive"]["start"] or ""),
        wal_stop=str(one["archive"]["stop"] or ""),
        stop_lsn=position(str((one.get("lsn") or {}).get("stop") or "")),
        damaged=one.get("error"),
    )
