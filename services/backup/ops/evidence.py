"""Keeping evidence: on this disk before anything else, then wherever else it has to be, for as long as it takes."""

import asyncio
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Protocol

from libs import process
from libs.clock import Clock
from libs.errors import AppError
from libs.observability import log
from services.backup.adapters.evidence_journal import EvidenceJournal
from services.backup.domain.evidence import Entry, plain

_log = log.get(__name__)
_HEARD_SECONDS = 2.0


class Mirror(Protocol):
    """Another home of the chain. Both methods raise AppError when it is away."""

    name: str
    warning: str

    async def newest(self, journal: EvidenceJournal) -> int:
        """Up to which number it has what *journal* has."""
        ...

    async def send(self, journal: EvidenceJournal, after: int, upto: int) -> None:
        """Give it the records behind *after* up to *upto*, in order."""
        ...


class Evidence:
    """A Part: it runs the loop that sends to *mirrors* what they have not got yet, each by itself.

    `append` is all that others call. It needs neither the database nor the store, and never raises for a fault of
    theirs or of the disk: what the disk refuses is in the log as a whole, kept in memory, and tried again.
    """

    def __init__(
        self, journal: EvidenceJournal, mirrors: Sequence[Mirror], *, period_seconds: float, now: Clock
    ) -> None:
        self.journal = journal
        self.mirrors = {mirror.name: mirror for mirror in mirrors}
        self.mirrored = dict.fromkeys(self.mirrors, 0)
        self.faults: dict[str, str] = {}
        self._period_seconds = period_seconds
        self._now = now
        self._waiting: deque[tuple[Entry, datetime]] = deque()
        self._order = threading.Lock()
        self._news = {name: asyncio.Event() for name in self.mirrors}
        self._tasks: list[asyncio.Task[None]] = []

    async def append(
        self, kind: str, subject: str, facts: Mapping[str, Any], internal: Mapping[str, Any] | None = None
    ) -> None:
        """Keep what proves or disproves recovery; durable when this returns. A kind and subject told again is nothing.

        kind: "backup", "drill", "expire", "verify", "rpo_breach", …. subject: what it is about, e.g. "drills/01h…".
        facts: customers read them too, so no host, path, label or name of anybody; with "outcome" "succeeded" or
        "failed". internal: the rest. Values: what JSON knows, moments, enums.
        """
        await self.append_entry(Entry(kind, subject, facts, internal or {}))

    async def append_entry(self, entry: Entry) -> None:
        """As append, of one made elsewhere."""
        await asyncio.to_thread(self.keep, entry)
        for news in self._news.values():
            news.set()

    def holds(self, kind: str, subject: str) -> bool:
        """Whether that has a record, or waits for one."""
        waiting = any((entry.kind, entry.subject) == (kind, subject) for entry, _ in list(self._waiting))
        return waiting or self.journal.holds(kind, subject)

    def keep(self, entry: Entry) -> None:
        """As append, for a caller that is no coroutine; blocks."""
        with self._order:
            self._waiting.append((entry, self._now()))
            self._write_down()

    @property
    def waiting(self) -> int:
        """How many entries the disk refuses."""
        return len(self._waiting)

    def warnings(self) -> list[str]:
        """What is wrong with evidence, in plain words."""
        found = [mirror.warning for mirror in self.mirrors.values() if mirror.warning]
        if self._waiting:
            found.append(f"{len(self._waiting)} records of evidence cannot be written: {self.faults.get('disk', '')}")
        elif "disk" in self.faults:
            found.append(f"The journal of evidence cannot be used: {self.faults['disk']}")
        for name, mirrored in self.mirrored.items():
            if name in self.faults and mirrored < self.journal.count:
                missing = self.journal.count - mirrored
                found.append(f"{missing} records of evidence are not in the {name} yet: {self.faults[name]}")
        return found

    async def check(self) -> list[str]:
        """Verify the whole journal, signature by signature; what is wrong with it."""
        try:
            await asyncio.to_thread(self.journal.load)
        except (AppError, OSError) as fault:
            return [f"The journal of evidence cannot be used: {fault}"]
        return []

    async def start(self) -> None:
        """Read the journal, begin to send. A journal that is not what was signed stops nothing else.

        A mirror that answers soon is heard first, for it may know more than a journal that was set back.
        """
        try:
            await asyncio.to_thread(self.journal.load)
        except (AppError, OSError) as fault:
            self._refused(fault)
        for mirror in self.mirrors.values():
            with suppress(AppError, OSError, TimeoutError):
                async with asyncio.timeout(_HEARD_SECONDS):
                    await mirror.newest(self.journal)
        self._tasks = [process.spawn(self._follow(one), name=f"evidence {one.name}") for one in self.mirrors.values()]

    def refuse(self) -> None:
        """Nothing: evidence is kept until the end."""

    async def drain(self, seconds: float) -> None:
        """Nothing: what is not sent yet is sent after the next start."""

    async def stop(self) -> None:
        """End the loops."""
        for task in self._tasks:
            await process.cancel(task)

    def _write_down(self) -> None:
        while self._waiting:
            entry, at = self._waiting[0]
            try:
                self.journal.append(entry, at=at)
            except (AppError, OSError) as fault:
                self._refused(fault, kind=entry.kind, subject=entry.subject, facts=plain(entry.facts))
                return
            self._waiting.popleft()
        self.faults.pop("disk", None)

    def _refused(self, fault: Exception, **entry: object) -> None:
        self.faults["disk"] = str(fault)
        _log.error("evidence_not_kept", fault=str(fault), **entry)

    async def _follow(self, mirror: Mirror) -> None:
        while True:
            self._news[mirror.name].clear()
            if self._waiting:
                await asyncio.to_thread(self._again)
            try:
                await self._send(mirror)
                self.faults.pop(mirror.name, None)
            except (AppError, OSError) as error:
                if mirror.name not in self.faults:
                    _log.warning("evidence_not_mirrored", mirror=mirror.name, fault=str(error))
                self.faults[mirror.name] = str(error)
            # Not wait_for: when news and a cancellation come together, the one of Python 3.11 loses the cancellation.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._period_seconds):
                    await self._news[mirror.name].wait()

    def _again(self) -> None:
        with self._order:
            self._write_down()

    async def _send(self, mirror: Mirror) -> None:
        newest = await mirror.newest(self.journal)
        count = self.journal.count
        if newest < count:
            await mirror.send(self.journal, newest, count)
        self.mirrored[mirror.name] = count
